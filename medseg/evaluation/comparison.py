"""Test two evaluations of the same cases against each other, case by case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from medseg.errors import InputError
from medseg.evaluation.summary import interval, mean_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from medseg.evaluation.evaluate import Evaluation

COMPARED = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
_MEAN = "mean"


def compare(first: Evaluation, second: Evaluation) -> dict[str, Any]:
    """Compare two evaluations on the cases both have, label by label and metric by metric.

    Differences are first minus second, over the cases in which both values are defined. The interval is the percentile
    bootstrap of their mean; the test is Wilcoxon's signed-rank test (Biometrics Bulletin 1, 1945), two-sided, adjusted
    over the labels of a metric by Holm's method (Scandinavian Journal of Statistics 6, 1979).

    Returns
    -------
    dict
        ``cases``: how many both have; ``labels``: for each label, and for ``mean`` (each case averaged over its
        labels), each metric's ``mean_difference``, ``median_difference``, ``ci95``, ``p_value``, ``p_holm``, ``n``.

    Raises
    ------
    InputError
        Where the two have no case in common.
    """
    shared = [case for case in first.cases if case in second.cases]
    if not shared:
        raise InputError("the two evaluations have no case in common", expected="predictions of the same cases")
    ours, theirs = _rows_by_label(first, shared), _rows_by_label(second, shared)
    names = [name for name in ours if name in theirs]
    result: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for metric in COMPARED:
        for name in names:
            result[name][metric] = _test(_differences(ours[name], theirs[name], metric))
        tested = [result[name][metric] for name in names if name != _MEAN]
        for entry, adjusted in zip(tested, holm([entry["p_value"] for entry in tested]), strict=True):
            entry["p_holm"] = adjusted
    return {"cases": len(shared), "labels": result}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number by Holm's step-down method; ``None`` stays and is not counted.

    Examples
    --------
    >>> holm([0.01, None, 0.5, 0.02])
    [0.03, None, 0.5, 0.04]
    """
    ranked = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(ranked):
        largest = max(largest, min(1.0, p * (len(ranked) - rank)))
        adjusted[place] = largest
    return adjusted


def _rows_by_label(evaluation: Evaluation, shared: Sequence[str]) -> dict[str, list[dict[str, float | None]]]:
    order = list(evaluation.cases)
    places = [order.index(case) for case in shared]
    tables = {}
    for label in evaluation.labels:
        rows = evaluation.rows(label)
        tables[label.name] = [rows[place] for place in places]
    return tables | {_MEAN: mean_rows(tables.values())}


def _differences(
    ours: Sequence[Mapping[str, float | None]], theirs: Sequence[Mapping[str, float | None]], metric: str
) -> NDArray[np.float64]:
    pairs = [(a[metric], b[metric]) for a, b in zip(ours, theirs, strict=True)]
    return np.array([a - b for a, b in pairs if a is not None and b is not None], dtype=np.float64)


def _test(differences: NDArray[np.float64]) -> dict[str, Any]:
    count = len(differences)
    moved = bool(np.any(differences != 0.0))
    p_value = (float(stats.wilcoxon(differences).pvalue) if moved else 1.0) if count else None
    return {
        "mean_difference": float(differences.mean()) if count else None,
        "median_difference": float(np.median(differences)) if count else None,
        "ci95": interval(differences),
        "p_value": p_value,
        "n": count,
    }
