"""Summaries: known numbers, and an interval that covers as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.evaluation.summary import METRICS, interval, mean_rows, summarise


def row(**values: float) -> dict[str, float | None]:
    return dict.fromkeys(METRICS) | values


def test_undefined_counts_cases_where_the_label_occurs() -> None:
    summary = summarise([row(dice=0.0, volume_ml=1.0), row(dice=0.8, hd95_mm=2.0), row()])
    assert summary["dice"] == {
        "mean": 0.4, "median": 0.4, "ci95": [0.0, 0.8], "n": 2, "undefined": 0,
    }  # fmt: skip
    assert (summary["hd95_mm"]["n"], summary["hd95_mm"]["undefined"]) == (1, 1)


def test_a_case_is_averaged_over_the_labels_it_has() -> None:
    liver, spleen = [row(dice=0.8), row(dice=0.6)], [row(dice=0.4), row()]
    assert [r["dice"] for r in mean_rows([liver, spleen])] == [pytest.approx(0.6), 0.6]
    assert mean_rows([]) == []


def test_interval_is_near_the_normal_one() -> None:
    values = np.random.default_rng(3).normal(0.85, 0.05, 200)
    low, high = interval(values) or (0.0, 0.0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_one_value_has_no_interval() -> None:
    assert interval(np.array([0.5])) is None
    assert interval(np.array([])) is None
