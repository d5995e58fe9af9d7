"""The words and numbers of the table."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COLUMNS = ("row", "program", "seconds", "network", "rest", "growth, MB", "peak, MB", "remark")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def told(*cells: object) -> str:
    """Return a row of the table."""
    words = (f"{cell:.3g}" if isinstance(cell, float) and cell < 100 else cell for cell in cells)
    return "| " + " | ".join(f"{w:.0f}" if isinstance(w, float) else str(w) for w in words) + " |"


def middle(runs: Sequence[dict[str, Any]], key: str) -> float:
    """Return the median of a number over runs."""
    return float(statistics.median(run[key] for run in runs))


def agreement(one: NDArray[Any], other: NDArray[Any]) -> str:
    """Return the share of equal voxels, and of those that either calls foreground."""
    same, seen = one == other, (one > 0) | (other > 0)
    inside = f", of foreground {100 * same[seen].mean():.3f} %" if seen.any() else ""
    return f"equal voxels {100 * same.mean():.4f} %{inside}"


def likeness(answers: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Return how far the others' masks are ours."""
    masks = {name: runs[-1]["mask"] for name, runs in answers.items() if runs and "mask" in runs[-1]}
    if "medseg" not in masks:
        return {}
    ours = np.load(masks.pop("medseg"))
    return {name: agreement(ours, np.load(mask)) for name, mask in masks.items()}


def times(runs: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> str:
    """Return by how much ours takes less: time, time without the network, growth."""
    rests = [middle(r, "seconds") - middle(r, "network") for r in (runs, ours)]
    parts = {"time": middle(runs, "seconds") / middle(ours, "seconds"), "rest": rests[0] / max(rests[1], 1e-9)}
    parts["growth"] = middle(runs, "growth_mb") / max(middle(ours, "growth_mb"), 1e-9)
    return ", ".join(f"{value:.2g} x our {name}" for name, value in parts.items() if value == value)  # noqa: PLR0124 - NaN
