"""How much of a run's steps went by in waiting for data."""

from __future__ import annotations

from dataclasses import dataclass

WORTH_A_WORD = 0.05


@dataclass(slots=True)
class Waits:
    """Seconds of steps, and those of them spent waiting for a batch.

    Examples
    --------
    >>> waits = Waits()
    >>> waits.add(1.0, 10.0)
    0.1
    >>> waits.remark()
    'The steps waited for data 10 % of their time; more workers (--workers N) may help.'
    """

    waited_s: float = 0.0
    stepped_s: float = 0.0

    def add(self, waited_s: float, stepped_s: float) -> float:
        """Count an epoch and return the share of it that was spent waiting."""
        self.waited_s += waited_s
        self.stepped_s += stepped_s
        return waited_s / stepped_s if stepped_s > 0 else 0.0

    def remark(self) -> str:
        """Return a sentence where waiting is more than 5 % of the steps' time; nothing otherwise."""
        share = self.waited_s / self.stepped_s if self.stepped_s > 0 else 0.0
        if share <= WORTH_A_WORD:
            return ""
        return f"The steps waited for data {100 * share:.0f} % of their time; more workers (--workers N) may help."
