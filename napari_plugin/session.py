"""What the user is doing: the model, the run, how far it is, what came out. Evented, no Qt, no viewer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from psygnal import Signal

from medseg.progress import Step
from napari_plugin.runs import loaded, overlaid, segmented

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.labels import Label
    from napari_plugin.runs import Choices, Desk, Finished, Loaded, Task

State = Literal["idle", "loading", "running", "stopping"]


Work: TypeAlias = "Callable[[Desk], Any]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How work ended: with a value, with an error, or cancelled."""

    value: Any = None
    error: Exception | None = None
    is_cancelled: bool = False


class Listener(Protocol):
    """Who hears of work."""

    def reported(self, step: Step, /) -> None:
        """Hear a step."""

    def handed(self, part: Any, /) -> None:
        """Hear a part of the result."""

    def ended(self, outcome: Outcome, /) -> None:
        """Hear the end, once."""


class Background(Protocol):
    """Who does work: `napari_plugin.worker.Worker`, or a test that does it at once."""

    def start(self, work: Work, listener: Listener) -> None:
        """Begin."""

    def cancel(self) -> None:
        """Tell what is in hand to stop."""


class Session:
    """What the user is doing. Signals are emitted in the thread that `background` calls from: the window's.

    Parameters
    ----------
    background : Background
        Who does the work.

    Attributes
    ----------
    changed : Signal
        State, model or progress are others.
    grown : Signal
        `Shown`: more of the mask of the run can be looked at.
    finished : Signal
        `Finished`.
    overlaid : Signal
        The layer of probabilities.
    stopped : Signal
        The number of a run that ended without a mask.
    failed : Signal
        The error.
    """

    changed = Signal()
    grown = Signal(object)
    finished = Signal(object)
    overlaid = Signal(object)
    stopped = Signal(int)
    failed = Signal(object)

    def __init__(self, background: Background) -> None:
        self._background = background
        self._began = 0.0
        self._stage_began = 0.0
        self.state: State = "idle"
        self.model: Loaded | None = None
        self.step = Step("")
        self.number = 0

    @property
    def is_busy(self) -> bool:
        """Whether something goes on."""
        return self.state != "idle"

    @property
    def seconds(self) -> float:
        """Since the work in hand began."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> float | None:
        """How long the stage will still take, by what it took so far; None where nothing says."""
        spent = time.monotonic() - self._stage_began
        if not self.step.total or not self.step.done:
            return None
        return spent * (self.step.total - self.step.done) / self.step.done

    def load(self, folder: Path, choices: Choices) -> None:
        """Load a model; nothing where work is in hand."""
        if not self.is_busy:
            self._begin("loading", lambda desk: loaded(folder, choices, desk), self._take_model)

    def run(self, task: Task) -> None:
        """Segment; nothing where work is in hand or there is no model."""
        if self.is_busy or self.model is None:
            return
        self.number += 1
        number, model = self.number, self.model
        self._begin("running", lambda desk: segmented(number, task, model, desk), self._take_mask)

    def overlay(self, task: Task, label: Label | None) -> None:
        """Make the layer of a label's probability, or without a label of the model's uncertainty."""
        if not self.is_busy and self.model is not None:
            model = self.model
            self._begin("running", lambda desk: overlaid(task, label, model, desk), self.overlaid.emit)

    def cancel(self) -> None:
        """Stop what is in hand at its next step."""
        if self.is_busy:
            self.state = "stopping"
            self._background.cancel()
            self.changed.emit()

    def _begin(self, state: State, work: Work, take: Callable[[Any], None]) -> None:
        self.state, self.step = state, Step("")
        self._began = self._stage_began = time.monotonic()
        self.changed.emit()
        self._background.start(work, _Ear(self, take))

    def _take_model(self, model: Loaded) -> None:
        self.model = model

    def _take_mask(self, found: tuple[Finished, Loaded]) -> None:
        finished, self.model = found
        self.finished.emit(finished)

    def _report(self, step: Step) -> None:
        if step.stage != self.step.stage:
            self._stage_began = time.monotonic()
        self.step = step
        self.changed.emit()

    def _end(self, outcome: Outcome, take: Callable[[Any], None]) -> None:
        was_run, self.state = self.state in {"running", "stopping"}, "idle"
        if outcome.error is None and not outcome.is_cancelled:
            take(outcome.value)
        elif was_run:
            self.stopped.emit(self.number)
        if outcome.error is not None:
            self.failed.emit(outcome.error)
        self.changed.emit()


class _Ear:
    """Hears of one piece of work for a session."""

    def __init__(self, session: Session, take: Callable[[Any], None]) -> None:
        self._session, self._take = session, take

    def reported(self, step: Step, /) -> None:
        self._session._report(step)

    def handed(self, part: Any, /) -> None:
        self._session.grown.emit(part)

    def ended(self, outcome: Outcome, /) -> None:
        self._session._end(outcome, self._take)
