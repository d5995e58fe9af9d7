"""Where a run stands between its first step and its last: by steps, and by time where there is a budget."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Clock:
    """The progress of a run, in [0, 1]; it never falls, and 1 is the end.

    A budget is wall time of the whole command, over all its tries. What lies before training (fingerprint, preparation)
    has been spent when training starts; what comes after (validation, writing) is set aside as `reserve_s`.

    Parameters
    ----------
    total_steps : int
        Steps of a run by epochs; with a budget too, whichever ends first.
    budget_s : float or None
        Wall time in seconds.
    started : float
        When the command began, on the clock `now`.
    now : callable
        The clock, in seconds.

    Examples
    --------
    >>> clock = Clock(total_steps=10, budget_s=None, started=0.0)
    >>> clock.progress(5)
    0.5
    """

    total_steps: int
    budget_s: float | None
    started: float
    now: Callable[[], float] = time.monotonic
    reserve_s: float = 0.0
    _spent_before_s: float = 0.0
    _trained_before_s: float = 0.0
    _reached: float = 0.0
    _training_since: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Training starts now."""
        self._training_since = self.now()

    @property
    def spent_s(self) -> float:
        """Wall time of the command so far, over all its tries."""
        return self._spent_before_s + self.now() - self.started

    @property
    def trained_s(self) -> float:
        """Time in training so far, over all tries."""
        return self._trained_before_s + self.now() - self._training_since

    @property
    def left_s(self) -> float | None:
        """Time left for training, or None without a budget."""
        return None if self.budget_s is None else max(0.0, self.budget_s - self.reserve_s - self.spent_s)

    def progress(self, steps: int) -> float:
        """Return the share of the run that is done after so many steps."""
        shares = [self._reached, steps / self.total_steps]
        if self.left_s is not None:
            trained = self.trained_s
            shares.append(trained / (trained + self.left_s) if trained + self.left_s > 0 else 1.0)
        self._reached = min(1.0, max(shares))
        return self._reached

    def state_dict(self) -> dict[str, float]:
        """Return what a later try must know."""
        return {"spent_s": self.spent_s, "trained_s": self.trained_s, "reached": self._reached}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Count the time of an earlier try; with a budget, keep the place in the schedule.

        A run by epochs takes its place from its steps, so that it may be resumed with more of them.
        """
        self._spent_before_s = state["spent_s"]
        self._trained_before_s = state["trained_s"]
        self._reached = state["reached"] if self.budget_s is not None else 0.0
