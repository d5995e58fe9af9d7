"""Work beside the window: jobs one after another in a thread, their end told in the window's own."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Background(QObject):
    """One thread that does jobs in turn.

    Parameters
    ----------
    name : str
        Of the thread.
    parent : QObject, optional
        Who owns it.
    """

    _ended = Signal(object, object)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._open = True
        self._ended.connect(self._tell)

    def run(self, job: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[BaseException], None]) -> None:
        """Do a job in the thread; call `then` with its result, or `failed` with its error, in the window's thread."""
        self._pool.submit(job).add_done_callback(lambda future: self._end(future, (then, failed)))

    def start(self, job: Callable[[], Any]) -> Future[Any]:
        """Do a job in the thread, and return what its result will be in."""
        return self._pool.submit(job)

    def stop(self) -> None:
        """Let the job that runs end, drop those that wait, and tell nothing more."""
        self._open = False
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _end(self, future: Future[Any], tell: Any) -> None:
        if self._open and not future.cancelled():
            self._ended.emit(future, tell)

    def _tell(self, future: Future[Any], tell: Any) -> None:
        then, failed = tell
        if not self._open:
            return
        error = future.exception()
        if error is None:
            then(future.result())
        else:
            failed(error)
