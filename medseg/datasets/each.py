"""Work on every case of a data set, a few at a time, in the order of the cases and with progress."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from medseg.progress import Step, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.case import Case
    from medseg.progress import Progress

T = TypeVar("T")
MAX_WORKERS = 4  # each holds a whole scan; reading and hashing gain little from more


def for_each(
    work: Callable[[Case], T], cases: Sequence[Case], *, stage: str, progress: Progress = ignore
) -> tuple[T, ...]:
    """Return ``work(case)`` of all cases, in their order.

    Threads, as unpacking, hashing and resampling let go of the interpreter. An error of one case, or `Cancelled` raised
    by `progress`, ends the work when the cases under way are done.
    """
    workers = min(MAX_WORKERS, os.cpu_count() or 1, max(1, len(cases)))
    results: list[T] = []
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, case) for case in cases]
        try:
            for case, future in zip(cases, futures, strict=True):
                results.append(future.result())
                progress(Step(stage, len(results), len(cases), case.id))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tuple(results)
