"""How long work reports where it is, and how it is told to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Cancelled(Exception):  # noqa: N818 - an order that was obeyed, not an error
    """The person asked the work to stop, and it stopped."""


@dataclass(frozen=True, slots=True)
class Step:
    """One report of a running job.

    Attributes
    ----------
    stage : str
        The work's name for what it is doing now: ``"read"``, ``"network"``, ``"epoch"``.
    done, total : int
        Units finished and units in all; ``total`` is 0 where it is not known.
    message : str
        A short remark for people: the current case, the loss.
    milestone : bool or None
        Where no bar can be drawn, whether this report is worth a line: True for an epoch's end, False for what lies
        between; None leaves it to time.
    """

    stage: str
    done: int = 0
    total: int = 0
    message: str = ""
    milestone: bool | None = None


class Progress(Protocol):
    """A callable that is told each `Step`; it raises `Cancelled` to stop the work.

    Examples
    --------
    >>> steps: list[Step] = []
    >>> report: Progress = steps.append
    >>> report(Step("network", 3, 27))
    >>> steps[0].done
    3
    """

    def __call__(self, step: Step, /) -> None:
        """Take note of one step."""


def ignore(step: Step, /) -> None:
    """Take no note: the `Progress` of callers who do not watch."""
