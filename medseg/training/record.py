"""What a run has achieved, epoch by epoch: ``log.csv``."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from medseg.io.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One finished epoch.

    Attributes
    ----------
    epoch, step : int
        Epochs and steps finished.
    seconds : float
        Wall time of the run so far, over all its tries.
    learning_rate, loss : float
        At the epoch's last step; mean over the epoch.
    data_wait : float
        Share of the steps' time that was spent waiting for batches.
    dice : tuple of (float or None)
        Of each label over the validation patches pooled; None where a label was neither there nor predicted.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    loss: float
    dice: tuple[float | None, ...] = ()
    data_wait: float = 0.0

    @property
    def mean_dice(self) -> float | None:
        """The mean over the labels that have a value."""
        known = [value for value in self.dice if value is not None]
        return sum(known) / len(known) if known else None

    def to_state(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the row that `to_state` described."""
        return cls(**{**state, "dice": tuple(state["dice"])})


def write_log(path: Path, rows: Iterable[EpochRow], labels: Sequence[str]) -> None:
    """Write ``log.csv`` anew: one row per epoch, one column of Dice per label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "epoch",
            "step",
            "seconds",
            "learning_rate",
            "loss",
            "dice",
            *(f"dice_{label}" for label in labels),
            "data_wait",
        ]
    )
    for row in rows:
        values = [row.mean_dice, *(row.dice or (None,) * len(labels))]
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        writer.writerow(
            [
                row.epoch,
                row.step,
                f"{row.seconds:.1f}",
                f"{row.learning_rate:.3e}",
                f"{row.loss:.5f}",
                *cells,
                f"{row.data_wait:.4f}",
            ]
        )
    write_text(path, text.getvalue())
