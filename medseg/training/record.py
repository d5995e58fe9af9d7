"""What a run has achieved, epoch by epoch: ``log.csv``, and when nothing more comes of it."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from medseg.io.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


_COUNTS = ("epoch", "step", "seconds", "dice")


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
    seconds_per_step : float or None
        Mean wall time of the epoch's steps, without what follows them.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    loss: float
    dice: tuple[float | None, ...] = ()
    data_wait: float = 0.0
    seconds_per_step: float | None = None

    @property
    def mean_dice(self) -> float | None:
        """The mean over the labels that have a value."""
        known = [value for value in self.dice if value is not None]
        return sum(known) / len(known) if known else None

    def numbers(self, labels: Sequence[str]) -> dict[str, float]:
        """Return what is drawn over epochs, by name; Dice as ``dice/mean`` and by label.

        Examples
        --------
        >>> row = EpochRow(1, 100, 9.5, learning_rate=1e-3, loss=0.5, dice=(0.75, None), seconds_per_step=0.125)
        >>> list(row.numbers(["liver", "spleen"]))
        ['learning_rate', 'loss', 'data_wait', 'seconds_per_step', 'dice/mean', 'dice/liver']
        """
        values = {name: value for name, value in asdict(self).items() if name not in _COUNTS}
        values["dice/mean"] = self.mean_dice
        values |= {f"dice/{label}": value for label, value in zip(labels, self.dice, strict=False)}
        return {name: value for name, value in values.items() if value is not None}

    def to_json(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return plain values, Dice by label and its mean beside it."""
        by_label = dict(zip(labels, self.dice, strict=False))
        return {**asdict(self), "dice": self.mean_dice, "dice_by_label": by_label}

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


_MEMORY = 0.9  # of the smoothed Dice, as nnU-Net's
_LEAST_GAIN = 1e-6  # rounding is no gain


def epochs_without_gain(rows: Iterable[EpochRow]) -> int:
    """Return how many epochs ago the smoothed validation Dice was best.

    The mean Dice of an epoch swings with the weights; its exponential moving average, nine tenths of the old value and
    one of the new, is what nnU-Net chooses its best epoch by (Isensee 2021). Epochs without a Dice do not count.

    Examples
    --------
    >>> first = EpochRow(1, 1, 1.0, learning_rate=1e-3, loss=1.0, dice=(0.6,))
    >>> worse = EpochRow(2, 2, 2.0, learning_rate=1e-3, loss=1.0, dice=(0.1,))
    >>> epochs_without_gain([first, worse, worse])
    2
    """
    smooth = best = None
    ago = 0
    for dice in (row.mean_dice for row in rows):
        if dice is None:
            continue
        smooth = dice if smooth is None else _MEMORY * smooth + (1 - _MEMORY) * dice
        if best is None or smooth > best + _LEAST_GAIN:
            best, ago = smooth, 0
        else:
            ago += 1
    return ago
