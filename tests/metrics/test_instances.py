"""Agreement of objects: against brute force over all pairs of masks, and by cases whose answer is known."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from medseg.errors import GeometryError
from medseg.metrics import THRESHOLDS, aggregated_jaccard, matched, object_counts, object_overlap


def numbered(rng: np.random.Generator, count: int) -> Any:
    """Return boxes with numbers that have gaps, the later over the earlier."""
    array = np.zeros((1, 16, 16), np.uint16)
    for number in rng.choice(np.arange(1, 900), count, replace=False):
        y, x = rng.integers(0, 13, 2)
        array[0, y : y + rng.integers(2, 7), x : x + rng.integers(2, 7)] = number
    return array


def all_iou(prediction: Any, reference: Any) -> Any:
    """Return every IoU, (reference, predicted), one pair of masks after the other."""
    rows = [reference == n for n in np.unique(reference) if n]
    columns = [prediction == n for n in np.unique(prediction) if n]
    return np.array([[(a & b).sum() / (a | b).sum() for b in columns] for a in rows]).reshape(len(rows), len(columns))


@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 7))
def test_counts_are_those_of_brute_force(seed: int, m: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, reference = numbered(rng, m), numbered(rng, n)
    iou = all_iou(prediction, reference)
    overlap = object_overlap(prediction, reference)
    assert (len(overlap.reference_voxels), len(overlap.predicted_voxels)) == iou.shape
    dense = np.zeros(iou.shape)
    dense[overlap.reference, overlap.predicted] = overlap.iou
    assert dense == pytest.approx(iou)
    for threshold in (0.1, 0.3, *THRESHOLDS):
        gain = np.where(iou > threshold, 1000.0 + iou, 0.0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        partners = [iou[r, c] for r, c in zip(rows, columns, strict=True) if iou[r, c] > threshold]
        counts = object_counts(overlap, threshold)
        assert (counts.tp, counts.fp, counts.fn) == (
            len(partners), iou.shape[1] - len(partners), iou.shape[0] - len(partners)
        )  # fmt: skip
        assert counts.iou_sum == pytest.approx(sum(partners))
        pairs = matched(overlap, threshold)
        assert len(set(overlap.reference[pairs])) == len(set(overlap.predicted[pairs])) == counts.tp


@given(st.integers(0, 2**32 - 1))
def test_scores_are_symmetric_and_fall_with_the_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = numbered(rng, 5), numbered(rng, 5)
    there, back = object_overlap(a, b), object_overlap(b, a)
    f1 = []
    for threshold in THRESHOLDS:
        ours, theirs = object_counts(there, threshold), object_counts(back, threshold)
        assert (ours.tp, ours.fp, ours.fn) == (theirs.tp, theirs.fn, theirs.fp)
        assert (ours.f1, ours.average_precision) == (theirs.f1, theirs.average_precision)
        assert (ours.precision, ours.recall) == (theirs.recall, theirs.precision)
        f1.append(ours.f1)
    assert f1 == sorted(f1, reverse=True)


def test_a_perfect_prediction_by_other_numbers_scores_one() -> None:
    reference = numbered(np.random.default_rng(2), 6)
    names = np.unique(reference)
    table = np.zeros(1000, np.uint32)
    table[names[names > 0]] = 70000 + np.random.default_rng(3).permutation((names > 0).sum())
    overlap = object_overlap(table[reference], reference)
    for threshold in THRESHOLDS:
        counts = object_counts(overlap, threshold)
        assert (
            counts.f1 == counts.average_precision == counts.panoptic_quality == counts.precision == counts.recall == 1
        )
    assert aggregated_jaccard(overlap) == 1.0


def test_splits_merges_and_misses_are_counted() -> None:
    whole = np.array([1, 1, 1, 1, 0, 2, 2, 2, 2], np.uint16)
    halves = np.array([1, 1, 3, 3, 0, 2, 2, 2, 2], np.uint16)
    one = np.where(whole > 0, 1, 0).astype(np.uint16)

    def counted(prediction: Any, reference: Any) -> tuple[int, int, int]:
        counts = object_counts(object_overlap(prediction, reference))
        return counts.tp, counts.fp, counts.fn

    assert counted(halves, whole) == (1, 2, 1)  # a half has an IoU of just 0.5, which is not above it
    assert counted(whole, halves) == (1, 1, 2)
    assert counted(one, whole) == (0, 1, 2)
    assert counted(np.zeros_like(whole), whole) == (0, 0, 2)
    assert counted(whole, np.zeros_like(whole)) == (0, 2, 0)


def test_below_a_half_as_many_as_possible_have_a_partner() -> None:
    #  reference 1 meets 1 best, but reference 2 has no one else
    reference = np.repeat([1, 1, 2], [4, 3, 5]).astype(np.uint16)
    prediction = np.repeat([2, 1, 1], [4, 3, 5]).astype(np.uint16)
    overlap = object_overlap(prediction, reference)
    best = max(
        sum(all_iou(prediction, reference)[r, c] > 0.2 for r, c in enumerate(order)) for order in permutations(range(2))
    )
    assert object_counts(overlap, 0.2).tp == best == 2


def test_without_objects_nothing_is_defined() -> None:
    nothing = np.zeros((2, 3), np.uint8)
    overlap = object_overlap(nothing, nothing)
    counts = object_counts(overlap)
    assert (counts.f1, counts.average_precision, counts.panoptic_quality, counts.precision, counts.recall) == (
        None,
    ) * 5
    assert aggregated_jaccard(overlap) is None
    assert object_counts(overlap, 0.2).tp == 0
    with pytest.raises(GeometryError, match="expected"):
        object_overlap(nothing, nothing[:1])


def test_the_aggregated_index_is_that_of_its_algorithm() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        prediction, reference = numbered(rng, 6), numbered(rng, 6)
        shared = union = 0
        taken = set()
        for n in np.unique(reference[reference > 0]):
            own = reference == n
            rivals = [(own & (prediction == m)).sum() / (own | (prediction == m)).sum() for m in np.unique(prediction)]
            rivals[0] = 0.0
            best = np.unique(prediction)[int(np.argmax(rivals))]
            if max(rivals) == 0.0:
                union += own.sum()
                continue
            taken.add(best)
            shared += (own & (prediction == best)).sum()
            union += (own | (prediction == best)).sum()
        union += sum((prediction == m).sum() for m in np.unique(prediction) if m and m not in taken)
        assert aggregated_jaccard(object_overlap(prediction, reference)) == pytest.approx(shared / union)
