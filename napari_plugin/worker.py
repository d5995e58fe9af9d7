"""The one background worker: a thread for work, callbacks for what it says, an order to stop that becomes `Cancelled`.

Work is a callable that takes a `Desk`: it reports its steps there and hands out parts of its result. Everything it says
arrives in the window's thread, reports at most ten times a second, so that no slot is called more often than a person
can see.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt, Signal, Slot

from medseg.errors import MedsegError
from medseg.progress import Cancelled, Step
from napari_plugin.session import Outcome

if TYPE_CHECKING:
    from napari_plugin.session import Listener, Work

_BETWEEN_S = 0.1


class Worker:
    """Runs one piece of work at a time, in a thread of its own; made in the window's thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._desk: _Desk | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is work in hand."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Work, listener: Listener) -> None:
        """Begin; what was in hand is told to stop, and nobody hears of it any more."""
        self.abandon()
        self._desk = _Desk(_Post(listener))
        self._thread = threading.Thread(target=_run, args=(work, self._desk), name="medseg", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Tell the work to stop at its next report."""
        if self._desk is not None:
            self._desk.stop.set()

    def abandon(self) -> None:
        """Tell the work to stop, and hear nothing of it: there is no window any more."""
        self.cancel()
        if self._desk is not None:
            self._desk.post.listener = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the thread to end; True where it did."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.is_busy


class _Post(QObject):
    """Carries what is said to the thread it was made in."""

    _sent = Signal(str, object)

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener: Listener | None = listener
        self._sent.connect(self._arrive, Qt.ConnectionType.QueuedConnection)

    def send(self, kind: str, what: Any) -> None:
        """Send, from any thread; nobody hears it where the window is gone and Qt has taken this apart."""
        with contextlib.suppress(RuntimeError):
            self._sent.emit(kind, what)

    @Slot(str, object)  # type: ignore[untyped-decorator]  # qtpy types it not
    def _arrive(self, kind: str, what: Any) -> None:
        if self.listener is not None:
            getattr(self.listener, kind)(what)


class _Desk:
    """Where work reports; called in its thread."""

    def __init__(self, post: _Post) -> None:
        self.post = post
        self.stop = threading.Event()
        self._last: tuple[str, float] = ("", 0.0)

    def __call__(self, step: Step, /) -> None:
        """Pass a report on, not too often; raise `Cancelled` where the work is to stop."""
        if self.stop.is_set():
            raise Cancelled
        stage, at = self._last
        now = time.monotonic()
        if step.stage != stage or now - at >= _BETWEEN_S or step.done == step.total:
            self._last = (step.stage, now)
            self.post.send("reported", step)

    def hand(self, part: Any) -> None:
        """Hand out a part of the result."""
        self.post.send("handed", part)


def _run(work: Work, desk: _Desk) -> None:
    try:
        outcome = Outcome(work(desk))
    except Cancelled:
        outcome = Outcome(is_cancelled=True)
    except MedsegError as error:
        outcome = Outcome(error=error)
    except Exception as fault:  # noqa: BLE001 - a thread has nobody above it: the window shows the fault
        outcome = Outcome(error=fault)
    desk.post.send("ended", outcome)
