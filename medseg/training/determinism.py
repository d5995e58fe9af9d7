"""The same numbers every time: torch held to operations that sum in one order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MODULE: Any = torch.utils.deterministic  # its one setting is a property that type checkers do not see


@contextmanager
def deterministic(*, wanted: bool = True) -> Iterator[None]:
    """Hold torch to deterministic operations within this block, and put its settings back afterwards.

    What is random is drawn from seeds anyway; this is about sums whose order depends on which thread was faster. cuDNN
    takes no algorithm by timing it. cuBLAS also needs ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` in the environment before the
    GPU is first used, which ``medseg train --deterministic`` sets (PyTorch's notes on reproducibility). New memory is
    not filled with NaN, which torch does besides: it would find faults of programs, and changes no result.

    Parameters
    ----------
    wanted : bool
        False changes nothing.

    Raises
    ------
    PlanError
        Where an operation has no deterministic form on the device.

    Examples
    --------
    >>> with deterministic():
    ...     torch.are_deterministic_algorithms_enabled()
    True
    >>> torch.are_deterministic_algorithms_enabled()
    False
    """
    if not wanted:
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _MODULE.fill_uninitialized_memory,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.get_num_threads(),
    )
    try:
        _set(enabled=True, warn_only=False, fill=False, exact=True, timed=False)
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise PlanError(
            f"a part of the network cannot be trained deterministically here ({str(error).splitlines()[0]})",
            remedy="Train without --deterministic, with --device cpu, or another network",
        ) from error
    finally:
        enabled, warn_only, fill, exact, timed, threads = before
        _set(enabled=enabled, warn_only=warn_only, fill=fill, exact=exact, timed=timed)
        torch.set_num_threads(threads)


def same_threads(state: Mapping[str, Any]) -> None:
    """Take as many threads as the checkpoint's run had: sums are split among them, and other parts round otherwise.

    Call it within `deterministic`, which puts the number back.
    """
    threads = int(state.get("threads", 0))
    if threads > 0:
        torch.set_num_threads(threads)


def _set(*, enabled: bool, warn_only: bool, fill: bool, exact: bool, timed: bool) -> None:
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    _MODULE.fill_uninitialized_memory = fill
    torch.backends.cudnn.deterministic = exact
    torch.backends.cudnn.benchmark = timed
