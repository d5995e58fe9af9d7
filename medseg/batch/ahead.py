"""Work beside the caller's: the next case is read, and the last one written, while the network has this one.

Two threads, for reading and for writing, each with one piece of work at a time: so at most one scan is held ahead and
one result behind. The network, what reports to a person, and whatever is decided about a case stay in the caller's
thread. An error of either thread comes out where the caller asks for what was read, or settles what was written.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from medseg.inference.hardware import free_memory_bytes
from medseg.progress import Cancelled, Step, ignore

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from medseg.progress import Progress

Read = TypeVar("Read")
Made = TypeVar("Made")
_SHARE = 0.25  # of the memory that is free, for what is held beside the case in the network
_PATIENCE_S = 0.1  # between two reports while the caller waits for a scan


class Overlap(Generic[Read]):
    """Reads one case ahead of the caller and writes one behind; a context manager that ends its threads.

    On leaving, what is being written is finished and settled, also after an interruption; what was read ahead is
    dropped.

    Parameters
    ----------
    progress : Progress
        Told by the caller's thread only.
    ahead : {0, 1}
        Cases read ahead, and written behind; with 0 everything is done when its turn comes, in the caller's thread.
    bound_bytes : int or None
        The most that a scan ahead, or a result behind, may take; more is done when its turn comes. None is a quarter
        of the memory free at that moment.

    Examples
    --------
    >>> ends = []
    >>> with Overlap[int]() as overlap:
    ...     overlap.begin(lambda report: 2, needs=lambda: 8)
    ...     scan = overlap.take(lambda report: 2)
    ...     overlap.write(lambda: 10 * scan, lambda written: ends.append(written()), holds=8)
    >>> ends
    [20]
    """

    def __init__(self, progress: Progress = ignore, *, ahead: int = 1, bound_bytes: int | None = None) -> None:
        self._report = progress
        self._bound_bytes = bound_bytes
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="medseg-read") if ahead else None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="medseg-write") if ahead else None
        self._told = _Told()
        self._ahead: Future[Read | None] | None = None
        self._behind: _Behind | None = None

    def progress(self, step: Step, /) -> None:
        """Settle what was written meanwhile, then report: the `Progress` of what the caller's thread does."""
        if self._behind is not None and self._behind.future.done():
            self.settle()
        self._report(step)

    def begin(self, read: Callable[[Progress], Read], *, needs: Callable[[], int]) -> None:
        """Begin to read the next case.

        Parameters
        ----------
        read : callable
            Reads it; what it is given raises `Cancelled` when the scan is no longer wanted.
        needs : callable
            Returns the bytes the scan will take, more or less. Asked in the reading thread; where it raises, the case
            is left to its turn.
        """
        if self._reader is not None and self._ahead is None:
            self._ahead = self._reader.submit(self._read_ahead, read, needs)

    def take(self, read: Callable[[Progress], Read]) -> Read:
        """Return the scan that was begun last, when it is there; where none was, or memory was short, read it now.

        Parameters
        ----------
        read : callable
            As it was given to `begin`.
        """
        future, self._ahead = self._ahead, None
        scan = None if future is None else self._awaited(future)
        if scan is not None:
            return scan
        if future is not None:  # memory was short: nothing else is held beside this scan
            self.settle()
        return read(self.progress)

    def write(
        self, write: Callable[[], Made], settle: Callable[[Callable[[], Made]], None], *, holds: int, last: bool = False
    ) -> None:
        """Settle the case before, and begin to write this one.

        Parameters
        ----------
        write : callable
            Writes the case.
        settle : callable
            Called in the caller's thread when that is done, with a callable that returns what `write` did, or raises
            what it raised.
        holds : int
            Bytes that are held until then.
        last : bool
            Whether no case follows; it is then written at once.
        """
        self.settle()
        if last or self._writer is None or not self._has_room(holds):
            settle(write)
        else:
            self._behind = _Behind(self._writer.submit(write), settle)

    def settle(self) -> None:
        """Wait for what is being written, and settle it."""
        if self._behind is not None:
            wait([self._behind.future])
            self._behind.settle(self._behind.future.result)
            self._behind = None  # last: where a person interrupts, it is settled on leaving

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what is being written, drop what was read, and end the threads."""
        self._told.is_over.set()
        try:
            self.settle()
        finally:
            for pool in (self._reader, self._writer):
                if pool is not None:
                    pool.shutdown(wait=True, cancel_futures=True)

    def _read_ahead(self, read: Callable[[Progress], Read], needs: Callable[[], int]) -> Read | None:
        """Return the scan, or None where it is better read in its turn."""
        try:
            needed = needs()
        except Exception:  # noqa: BLE001 - reading will say what is wrong, in its own words
            return None
        if not self._has_room(needed):
            return None
        try:
            return read(self._told)
        except MemoryError:  # without the case in the network there may be room
            return None

    def _awaited(self, future: Future[Read | None]) -> Read | None:
        """Return what a future holds, reporting meanwhile, so that a person sees it and can stop."""
        while not wait([future], _PATIENCE_S).done:
            self.progress(self._told.last or Step("read"))
        self._told.last = None
        return future.result()

    def _has_room(self, needed: int) -> bool:
        bound = free_memory_bytes("cpu") * _SHARE if self._bound_bytes is None else self._bound_bytes
        return needed <= bound


@dataclass(frozen=True, slots=True)
class _Behind:
    """A case being written, and what is done about it then."""

    future: Future[Any]
    settle: Callable[[Callable[[], Any]], None]


class _Told:
    """The `Progress` of the reading thread: keeps the last step for the caller's thread, and stops when all is over."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.last: Step | None = None

    def __call__(self, step: Step, /) -> None:
        if self.is_over.is_set():
            raise Cancelled
        self.last = step
