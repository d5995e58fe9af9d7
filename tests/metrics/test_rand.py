"""The Rand score equals one counted pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.metrics import rand_score


def by_pairs(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Count ordered pairs, a voxel with itself included, as the sums of squares do."""
    inside = reference.ravel() > 0
    true, found = reference.ravel()[inside].astype(int), prediction.ravel()[inside].astype(int)
    found = np.where(found == 0, found.max() + 1 + np.arange(len(found)), found)
    same_true, same_found = true[:, None] == true, found[:, None] == found
    together = (same_true & same_found).sum()
    return together / same_true.sum(), together / same_found.sum()


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_count_of_all_pairs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    prediction, reference = generator.integers(0, 5, (2, 9, 11)).astype(np.uint16)
    score = rand_score(prediction, reference)
    split, merge = by_pairs(prediction, reference)
    assert score is not None
    assert (score.split, score.merge) == pytest.approx((split, merge))
    assert score.f_score == pytest.approx(2 * split * merge / (split + merge))


def test_equal_partitions_whatever_their_numbers() -> None:
    reference = np.array([[1, 1, 0, 7, 7, 7]])
    score = rand_score(np.array([[4, 4, 9, 2, 2, 2]]), reference)
    assert score is not None
    assert score.f_score == 1.0


def test_splits_and_merges_are_told_apart() -> None:
    reference = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    halved = rand_score(np.array([[1, 1, 2, 2, 3, 3, 4, 4]]), reference)
    joined = rand_score(np.ones_like(reference), reference)
    assert halved is not None
    assert joined is not None
    assert (halved.split, halved.merge) == (0.5, 1.0)
    assert (joined.split, joined.merge) == (1.0, 0.5)


def test_without_objects_there_is_no_score() -> None:
    assert rand_score(np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8)) is None
    with pytest.raises(GeometryError):
        rand_score(np.ones((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
