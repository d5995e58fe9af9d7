"""Paired tests: against SciPy's own numbers, and for what cannot be tested."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medseg.errors import InputError
from medseg.evaluation import CaseScore, Evaluation, LabelScore, compare
from medseg.evaluation.comparison import holm
from medseg.labels import LabelSet

LABELS = LabelSet.from_names({1: "liver", 2: "spleen"})


def evaluation(dice: dict[str, tuple[float | None, float | None]]) -> Evaluation:
    cases = {
        case: CaseScore({1: LabelScore(dice=liver), 2: LabelScore(dice=spleen)}, {}, 1.0, 1.0)
        for case, (liver, spleen) in dice.items()
    }
    return Evaluation(cases, LABELS, (), 1.0)


def test_differences_and_p_values_equal_scipy() -> None:
    rng = np.random.default_rng(5)
    first = rng.uniform(0.7, 0.9, (12, 2))
    second = first - rng.normal(0.03, 0.02, (12, 2))
    ours = evaluation({f"c{n}": (row[0], row[1]) for n, row in enumerate(first.tolist())})
    theirs = evaluation({f"c{n}": (row[0], row[1]) for n, row in enumerate(second.tolist())})
    result = compare(ours, theirs)
    assert result["cases"] == 12
    p_values = []
    for place, name in enumerate(LABELS.names):
        entry = result["labels"][name]["dice"]
        differences = first[:, place] - second[:, place]
        assert entry["mean_difference"] == pytest.approx(differences.mean())
        assert entry["ci95"][0] < differences.mean() < entry["ci95"][1]
        assert entry["p_value"] == pytest.approx(stats.wilcoxon(first[:, place], second[:, place]).pvalue)
        p_values.append(entry["p_value"])
    adjusted = [result["labels"][name]["dice"]["p_holm"] for name in LABELS.names]
    assert adjusted == pytest.approx([max(2 * min(p_values), p) if p > min(p_values) else 2 * p for p in p_values])
    mean = result["labels"]["mean"]["dice"]
    assert mean["mean_difference"] == pytest.approx((first.mean(axis=1) - second.mean(axis=1)).mean())
    assert "p_holm" not in mean


def test_only_shared_and_defined_cases_count() -> None:
    ours = evaluation({"a": (0.9, None), "b": (0.8, 0.5), "c": (0.7, 0.5)})
    theirs = evaluation({"b": (0.8, None), "c": (0.7, 0.4), "d": (0.1, 0.1)})
    result = compare(ours, theirs)["labels"]
    assert result["liver"]["dice"]["n"] == 2
    assert (result["liver"]["dice"]["p_value"], result["liver"]["dice"]["mean_difference"]) == (1.0, 0.0)
    assert result["spleen"]["dice"]["n"] == 1
    assert result["spleen"]["hd95_mm"] == {
        "mean_difference": None, "median_difference": None, "ci95": None, "p_value": None, "n": 0, "p_holm": None,
    }  # fmt: skip


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(InputError, match="no case in common"):
        compare(evaluation({"a": (1.0, 1.0)}), evaluation({"b": (1.0, 1.0)}))


def test_holm_is_monotone_and_at_most_one() -> None:
    assert holm([0.04, 0.03, 0.01]) == pytest.approx([0.06, 0.06, 0.03])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
