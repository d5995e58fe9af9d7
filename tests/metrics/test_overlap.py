"""Overlap metrics: known truth, conventions for empty masks, pooled matrices."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import GeometryError, InputError
from medseg.metrics import Counts, confusion_counts, confusion_matrix, dice, iou, mean_iou, pixel_accuracy, volume_ml


def boxes() -> tuple[np.ndarray, np.ndarray]:
    prediction, reference = np.zeros((2, 10, 10, 10), dtype=bool)
    reference[2:6, 2:6, 2:6] = True  # 64 voxels
    prediction[4:8, 2:6, 2:6] = True  # 64 voxels, 32 shared
    return prediction, reference


def test_two_boxes_that_share_a_half() -> None:
    prediction, reference = boxes()
    assert confusion_counts(prediction, reference) == Counts(tp=32, fp=32, fn=32, tn=904)
    assert dice(prediction, reference) == 0.5
    assert iou(prediction, reference) == pytest.approx(1 / 3)


def test_empty_masks() -> None:
    prediction, _ = boxes()
    empty = np.zeros_like(prediction)
    assert dice(empty, empty) is None
    assert iou(empty, empty) is None
    assert dice(prediction, empty) == dice(empty, prediction) == 0.0
    assert iou(prediction, empty) == iou(empty, prediction) == 0.0


def test_volume_counts_millilitres() -> None:
    prediction, _ = boxes()
    assert volume_ml(prediction, (5.0, 0.5, 0.5)) == pytest.approx(64 * 1.25 / 1000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_matrix_agrees_with_counting_by_hand(dtype: type) -> None:
    rng = np.random.default_rng(1)
    prediction, reference = rng.integers(0, 4, (2, 5, 6, 7)).astype(dtype)
    matrix = confusion_matrix(prediction, reference, 4)
    by_hand = [[np.count_nonzero((reference == r) & (prediction == p)) for p in range(4)] for r in range(4)]
    assert matrix.tolist() == by_hand
    assert pixel_accuracy(matrix) == pytest.approx(np.mean(prediction == reference))
    ious = [iou(prediction == k, reference == k) for k in range(4)]
    assert mean_iou(matrix) == pytest.approx(np.mean(np.array(ious, dtype=float)))


def test_classes_that_do_not_occur_are_left_out_of_the_mean() -> None:
    prediction = np.array([[0, 1], [1, 1]], np.uint8)
    assert mean_iou(confusion_matrix(prediction, prediction, 7)) == 1.0


def test_voxels_without_prediction_count_against_it() -> None:
    matrix = np.array([[4, 0, 4], [0, 2, 2]])  # the last column: not predicted
    assert pixel_accuracy(matrix) == 0.5
    assert mean_iou(matrix) == 0.5


def test_a_matrix_of_nothing_has_no_accuracy() -> None:
    assert pixel_accuracy(np.zeros((2, 2), np.int64)) is None
    assert mean_iou(np.zeros((2, 2), np.int64)) is None


def test_what_does_not_fit_is_refused() -> None:
    small, large = np.zeros((2, 2), np.uint8), np.full((2, 2), 9, np.uint8)
    with pytest.raises(InputError, match="holds the class 9; expected 0 to 3"):
        confusion_matrix(small, large, 4)
    with pytest.raises(InputError, match="5000 classes were asked for"):
        confusion_matrix(small, small, 5000)
    with pytest.raises(GeometryError, match="prediction has shape"):
        confusion_matrix(small, large[:1], 10)
    with pytest.raises(GeometryError, match="prediction has shape"):
        dice(small.astype(bool), large[:, :1].astype(bool))
