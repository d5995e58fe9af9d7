"""How a run stands, in the words of a progress bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.record import EpochRow

_MOST_LABELS = 4


def step_in_words(rows: Sequence[EpochRow], losses: Sequence[float], seconds: float, labels: Sequence[str]) -> str:
    """Say how an epoch goes: its number, its pace, its loss so far, and the Dice of the epoch before.

    Parameters
    ----------
    rows : sequence of EpochRow
        Epochs finished.
    losses : sequence of float
        Of this epoch's steps so far; at least one.
    seconds : float
        They took.
    labels : sequence of str
        Their names.

    Examples
    --------
    >>> step_in_words([], [0.5, 0.25], 0.5, ["liver"])
    'epoch 1, 4.0 it/s, loss 0.375'
    """
    loss = math.fsum(losses) / len(losses)
    words = f"epoch {len(rows) + 1}, {_pace(seconds / len(losses))}, loss {loss:.3f}"
    return words + (_dice(rows[-1], labels) if rows else "")


def epoch_in_words(row: EpochRow, labels: Sequence[str]) -> str:
    """Say how an epoch went, with the Dice of each label, or the lowest where they are many.

    Examples
    --------
    >>> from medseg.training.record import EpochRow
    >>> row = EpochRow(3, 30, 9.5, learning_rate=1e-3, loss=0.25, dice=(0.5, 0.75), seconds_per_step=2.0)
    >>> epoch_in_words(row, ["liver", "spleen"])
    'epoch 3, 2.0 s/it, loss 0.250, Dice 0.625 (liver 0.500, spleen 0.750)'
    """
    return f"epoch {row.epoch}, {_pace(row.seconds_per_step or 0.0)}, loss {row.loss:.3f}{_dice(row, labels)}"


def _dice(row: EpochRow, labels: Sequence[str]) -> str:
    """Return the mean Dice and that of each label, briefly; nothing where none was measured."""
    if row.mean_dice is None:
        return ""
    known = [(value, label) for value, label in zip(row.dice, labels, strict=False) if value is not None]
    words = f", Dice {row.mean_dice:.3f}"
    if len(known) > _MOST_LABELS:
        value, label = min(known)
        return f"{words} (lowest: {label} {value:.3f})"
    return words if len(known) == 1 else f"{words} ({', '.join(f'{label} {value:.3f}' for value, label in known)})"


def _pace(seconds_per_step: float) -> str:
    """Return steps per second, or seconds per step where these are more than one."""
    if seconds_per_step <= 0.0:
        return "– it/s"
    return f"{1 / seconds_per_step:.1f} it/s" if seconds_per_step <= 1.0 else f"{seconds_per_step:.1f} s/it"
