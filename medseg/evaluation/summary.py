"""Summarise scores over cases: mean, median, bootstrap interval, and how many values stand behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

METRICS = (
    "dice",
    "iou",
    "hd95_mm",
    "assd_mm",
    "nsd",
    "volume_ml",
    "reference_volume_ml",
    "volume_error_ml",
)
SURFACE_METRICS = frozenset({"hd95_mm", "assd_mm", "nsd"})
_RESAMPLES = 2000
_SEED = 20181204  # of the bootstrap: the same scores give the same interval


def summarise(rows: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Summarise the rows of one label, metric by metric.

    Parameters
    ----------
    rows : sequence of mapping
        One a case, with the keys of `METRICS`; ``None`` where a value is not defined.

    Returns
    -------
    dict
        For each metric ``mean``, ``median``, ``ci95`` (percentile bootstrap of the mean over cases, 2000 draws with a
        fixed seed; ``None`` below two values), ``n`` (values that are defined), ``undefined`` (cases in which the label
        occurs but the value is not defined).

    Examples
    --------
    >>> both = {name: None for name in METRICS}
    >>> summary = summarise([both | {"dice": 0.5}, both | {"dice": 1.0}, both])
    >>> summary["dice"]["mean"], summary["dice"]["n"], summary["hd95_mm"]["undefined"]
    (0.75, 2, 2)
    """
    occurs = [any(value is not None for value in row.values()) for row in rows]
    return {metric: _summary([row[metric] for row in rows], occurs) for metric in METRICS}


def mean_rows(rows_by_label: Iterable[Sequence[Mapping[str, float | None]]]) -> list[dict[str, float | None]]:
    """Average each case over its labels, leaving out what is not defined.

    Parameters
    ----------
    rows_by_label : iterable of sequences of mapping
        For each label the rows of all cases, in one order.
    """
    return [
        {metric: _mean([row[metric] for row in rows]) for metric in METRICS}
        for rows in zip(*rows_by_label, strict=True)
    ]


def interval(values: NDArray[np.float64]) -> list[float] | None:
    """Return the 95 % percentile bootstrap interval of the mean (Efron and Tibshirani 1993); ``None`` below two values.

    Examples
    --------
    >>> interval(np.array([0.9, 0.9, 0.9]))
    [0.9, 0.9]
    """
    if len(values) < 2:
        return None
    if np.ptp(values) == 0.0:
        return [float(values[0])] * 2
    rng = np.random.default_rng(_SEED)
    drawn = stats.bootstrap((values,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=rng)
    return [float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)]


def summary_of(values: Sequence[float | None]) -> dict[str, Any]:
    """Return ``mean``, ``median``, ``ci95`` and ``n`` of the values that are defined.

    Examples
    --------
    >>> summary_of([0.5, None, 0.5])
    {'mean': 0.5, 'median': 0.5, 'ci95': [0.5, 0.5], 'n': 2}
    """
    defined = np.array([v for v in values if v is not None], dtype=np.float64)
    return {
        "mean": float(defined.mean()) if len(defined) else None,
        "median": float(np.median(defined)) if len(defined) else None,
        "ci95": interval(defined),
        "n": len(defined),
    }


def _summary(values: Sequence[float | None], occurs: Sequence[bool]) -> dict[str, Any]:
    undefined = sum(present and v is None for v, present in zip(values, occurs, strict=True))
    return summary_of(values) | {"undefined": undefined}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None
