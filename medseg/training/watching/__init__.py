"""Watching a run: its numbers and pictures go to ``log.jsonl``, and to TensorBoard and MLflow where they are wanted.

Whoever watches never ends a run: a watcher that fails is left out from then on, which ``log.jsonl`` says.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, Self

from medseg import __version__
from medseg.errors import InputError, OutputError, PlanError
from medseg.progress import Cancelled
from medseg.training.events import BEGIN, END, EPOCH, EventLog, differences
from medseg.training.watching.mlflow import MLflow
from medseg.training.watching.tensorboard import TensorBoard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from medseg.training.record import EpochRow

    Pictures = Callable[[], Mapping[str, NDArray[np.uint8]]]

AUTO, NONE, TENSORBOARD, MLFLOW = "auto", "none", "tensorboard", "mlflow"
_EXTRAS = {TENSORBOARD: "watch", MLFLOW: "mlflow"}


@dataclass(frozen=True, slots=True)
class Watch:
    """Who watches a run beside its own log.

    Attributes
    ----------
    names : tuple of str
        ``tensorboard``, ``mlflow``, or ``auto``: TensorBoard where it is installed. ``none``, or no name, is nobody.
    tracking_uri : str, optional
        Where MLflow keeps its runs; files in ``mlruns`` beside the fold's folder by default.

    Examples
    --------
    >>> Watch(("none",)).chosen()
    ()
    """

    names: tuple[str, ...] = ()
    tracking_uri: str | None = None

    def chosen(self) -> tuple[str, ...]:
        """Return the watchers that are wanted and there.

        Raises
        ------
        PlanError
            Where one is not known.
        InputError
            Where one that was named is not installed.
        """
        wanted = [name for name in dict.fromkeys(self.names) if name != NONE]
        for name in wanted:
            if name not in {AUTO, *_EXTRAS}:
                raise PlanError(f"{name!r} watches no run", expected=f"{AUTO}, {NONE}, {TENSORBOARD} or {MLFLOW}")
            if name != AUTO and find_spec(name) is None:
                raise InputError(f"{name} is not installed", remedy=f"Run: pip install 'medseg[{_EXTRAS[name]}]'")
        if AUTO in wanted and TENSORBOARD not in wanted and find_spec(TENSORBOARD) is not None:
            wanted.append(TENSORBOARD)
        return tuple(name for name in wanted if name != AUTO)


class Watcher(Protocol):
    """What takes numbers and pictures of a run."""

    def numbers(self, epoch: int, values: Mapping[str, float], /) -> None:
        """Take numbers after an epoch, by name; a slash parts group and name."""

    def picture(self, epoch: int, name: str, pixels: NDArray[np.uint8], /) -> None:
        """Take a picture, (rows, columns, 3)."""

    def close(self, reason: str, /) -> None:
        """End, and say why the run did."""


class Watching:
    """The log of events and whoever else watches one fold; a context manager that notes how it ended.

    Parameters
    ----------
    folder : Path
        The fold's folder.
    watch : Watch
        Who watches.
    active : bool
        False in all but one of several processes: they write nothing.

    Attributes
    ----------
    reason : str
        Why the run is over, for the log: ``epochs``, ``budget`` or ``patience``.
    """

    def __init__(self, folder: Path, watch: Watch, *, active: bool = True) -> None:
        self.folder, self._watch, self._active = folder, watch, active
        self._names = watch.chosen() if active else ()
        self._log = EventLog(folder / "log.jsonl")
        self._watchers: dict[str, Watcher] = {}
        self._epoch = 0
        self._has_begun = False
        self.reason = ""

    def begin(self, about: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> None:
        """Note that the fold begins, or goes on after `epochs`, and what has changed since it last did."""
        if not self._active:
            return
        begun = [event for event in self._log.read() if event["event"] == BEGIN]
        self._log.go_back(epochs)
        self._epoch, self._has_begun = len(epochs), True
        more: dict[str, Any] = {"resumed": bool(begun)}
        if begun:
            more["changed"] = differences(begun[-1].get("about", {}), about)
        self._log.add(BEGIN, self._epoch, {"medseg": __version__, **more, "about": about})
        for name in self._names:
            self._call(name, partial(self._open, name, about))

    def epoch(self, row: EpochRow, labels: Sequence[str], pictures: Pictures | None = None) -> None:
        """Tell a finished epoch; `pictures` is asked only where somebody takes pictures."""
        if not self._active:
            return
        self._epoch = row.epoch
        self._log.add(EPOCH, row.epoch, row.to_json(labels))
        shown = pictures() if pictures is not None and self._watchers else {}
        for name, watcher in tuple(self._watchers.items()):
            self._call(name, partial(_tell, watcher, row, labels, shown))

    def _open(self, name: str, about: Mapping[str, Any]) -> None:
        if name == TENSORBOARD:
            self._watchers[name] = TensorBoard(self.folder / TENSORBOARD, after=self._epoch)
        else:
            self._watchers[name] = MLflow(self.folder, self._watch.tracking_uri, about)

    def _call(self, name: str, work: Callable[[], None]) -> None:
        """Do a watcher's work; where it fails, it watches no longer."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a disk or a server somewhere else must not end a week of training
            self._watchers.pop(name, None)
            self._log.add("unwatched", self._epoch, {"by": name, "error": f"{type(error).__name__}: {error}"})

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note how the fold ended."""
        if not self._has_begun:
            return
        reason = self.reason
        if kind is not None:
            reason = "stopped" if issubclass(kind, (Cancelled, KeyboardInterrupt)) else "failed"
        for name, watcher in tuple(self._watchers.items()):
            self._call(name, partial(watcher.close, reason))
        with suppress(OutputError):  # a full disk, of which the run has said so already
            self._log.add(END, self._epoch, {"reason": reason})


def _tell(watcher: Watcher, row: EpochRow, labels: Sequence[str], pictures: Mapping[str, NDArray[np.uint8]]) -> None:
    watcher.numbers(row.epoch, row.numbers(labels))
    for name, pixels in pictures.items():
        watcher.picture(row.epoch, name, pixels)
