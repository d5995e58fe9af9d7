"""Scores of one case: known truth, conventions for empty masks, grids that agree and grids that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.evaluation.scoring import LabelScore, score_case, score_missing
from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.metrics import confusion_matrix, dice, iou, mean_iou, surface_distances
from medseg.resample import resample
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = LabelSet.from_names({1: "liver", 2: "spleen", 300: "tumour"})
SPACING = (3.0, 1.0, 0.8)


def grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] = SPACING, **moved: Any) -> Geometry:
    z, y, x = spacing_mm
    affine = np.array([[0, 0, x, 5.0], [0, y, 0, -7.0], [z, 0, 0, 11.0], [0, 0, 0, 1]])
    affine[:3, 3] += moved.get("by", 0.0)
    return Geometry(shape, affine)


def turned(radians: float) -> NDArray[np.float64]:
    """Rotation about the patient's long axis."""
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]]
    return rotation


def mask(array: NDArray[Any], geometry: Geometry | None = None) -> Segmentation:
    return Segmentation(array, geometry or grid(array.shape), LABELS)


def two_masks(dtype: type = np.uint16) -> tuple[Segmentation, Segmentation]:
    """Liver found two voxels too low, spleen not found, a tumour found that is not there."""
    prediction, reference = np.zeros((2, 12, 20, 20), dtype=dtype)
    reference[2:8, 4:14, 4:14] = 1
    prediction[4:10, 4:14, 4:14] = 1
    reference[1, 16:19, 16:19] = 2
    prediction[11, 0:2, 0:2] = 300
    return mask(prediction), mask(reference)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_scores_equal_the_metrics_of_the_whole_masks(dtype: type) -> None:
    prediction, reference = two_masks(dtype)
    score = score_case(prediction, reference, nsd_tolerance_mm=2.0)
    assert set(score.labels) == {1, 2, 300}
    liver = score.labels[1]
    predicted, true = prediction.array == 1, reference.array == 1
    distances = surface_distances(predicted, true, SPACING)
    assert distances is not None
    assert liver.dice == dice(predicted, true) == pytest.approx(2 / 3)
    assert liver.iou == iou(predicted, true) == pytest.approx(0.5)
    assert liver.hd95_mm == pytest.approx(distances.hausdorff_mm(95.0)) == 6.0
    assert liver.assd_mm == pytest.approx(distances.assd_mm())
    assert liver.nsd == pytest.approx(distances.nsd(2.0))
    assert liver.volume_ml == pytest.approx(600 * 2.4e-3)
    assert liver.volume_error_ml == pytest.approx(0.0)
    classes = [np.searchsorted([0, 1, 2, 300], s.array).astype(np.uint8) for s in (prediction, reference)]
    matrix = confusion_matrix(classes[0], classes[1], 4)
    assert score.pixel_accuracy == pytest.approx(np.mean(prediction.array == reference.array))
    assert score.miou == pytest.approx(mean_iou(matrix))
    assert score.counts[0, 0] == matrix[0, 0]
    assert sum(score.counts.values()) == reference.array.size


def test_a_label_on_one_side_only_scores_zero_and_has_no_surface() -> None:
    score = score_case(*two_masks())
    spleen, tumour = score.labels[2], score.labels[300]
    assert (spleen.dice, spleen.iou, spleen.hd95_mm, spleen.assd_mm, spleen.nsd) == (0.0, 0.0, None, None, None)
    assert spleen.volume_error_ml == pytest.approx(-9 * 2.4e-3)
    assert (tumour.dice, tumour.hd95_mm) == (0.0, None)
    assert tumour.volume_error_ml == pytest.approx(4 * 2.4e-3)


def test_empty_on_both_sides_is_no_label_and_right_everywhere() -> None:
    empty = mask(np.zeros((4, 5, 6), np.uint8))
    score = score_case(empty, empty)
    assert score.labels == {}
    assert (score.pixel_accuracy, score.miou) == (1.0, 1.0)


def test_perfect_is_perfect() -> None:
    _, reference = two_masks()
    score = score_case(reference, reference)
    assert score.labels[1].dice == score.labels[1].iou == score.labels[1].nsd == score.miou == 1.0
    assert score.labels[1].hd95_mm == score.labels[1].assd_mm == 0.0


def test_labels_not_asked_for_count_as_background() -> None:
    prediction, reference = two_masks()
    score = score_case(prediction, reference, label_ids=[1])
    assert set(score.labels) == {1}
    assert score.foreign == {2, 300}
    assert score.pixel_accuracy == pytest.approx(np.mean((prediction.array == 1) == (reference.array == 1)))


def test_a_flat_label_in_a_thick_volume_is_measured_as_a_solid() -> None:
    array = np.zeros((5, 9, 9), np.uint8)
    array[2, 2:7, 2:7] = 1
    other = np.roll(array, 1, 0)
    score = score_case(mask(other), mask(array))
    distances = surface_distances(other == 1, array == 1, SPACING)
    assert distances is not None
    assert score.labels[1].assd_mm == pytest.approx(distances.assd_mm())
    line = np.zeros((5, 9, 9), np.uint8)
    line[2, 2, 2:7] = 1
    assert score_case(mask(line), mask(line)).labels[1].nsd == 1.0


def test_one_slice_is_measured_in_its_plane() -> None:
    reference = np.zeros((1, 20, 20), np.uint8)
    reference[0, 5:15, 5:15] = 1
    prediction = np.roll(reference, 2, 1)
    score = score_case(mask(prediction), mask(reference))
    flat = surface_distances(prediction[0] == 1, reference[0] == 1, SPACING[1:])
    assert flat is not None
    assert score.labels[1].hd95_mm == pytest.approx(flat.hausdorff_mm(95.0)) == 2.0


@pytest.mark.parametrize("codes", ["SPL", "IAR", "LPS", "ARI", "PSL"])
def test_axes_in_another_order_are_the_same_grid(codes: str) -> None:
    prediction, reference = two_masks()
    turned = resample(prediction, onto=prediction.geometry.reoriented(codes))
    assert score_case(turned, reference) == score_case(prediction, reference)


@pytest.mark.parametrize(
    ("other", "how"),
    [
        (grid((12, 20, 21)), r"it has 12 x 20 x 21 voxels \(z, y, x\); expected 12 x 20 x 20, as the reference has"),
        (grid((12, 20, 20), (3.0, 1.0, 0.9)), "its spacing is 3 x 1 x 0.9 mm; expected 3 x 1 x 0.8 mm"),
        (grid((12, 20, 20), by=0.5), r"moved by 0.5, 0.5, 0.5 mm \(L, P, S\), its corners up to 0.866 mm off"),
        (Geometry((12, 20, 20), grid((12, 20, 20)).affine, "1.2.3"), "frame of reference is another one"),
        (Geometry((12, 20, 20), turned(0.1) @ grid((12, 20, 20)).affine), "it is turned, its corners up to"),
    ],
)
def test_other_grids_are_refused_and_named(other: Geometry, how: str) -> None:
    _, reference = two_masks()
    known = Geometry(reference.geometry.shape, reference.geometry.affine, "9.9")
    prediction = mask(np.zeros(other.shape, np.uint8), other)
    with pytest.raises(GeometryError, match=how):
        score_case(prediction, mask(reference.array, known))


def test_a_sheared_grid_has_overlap_but_no_surface() -> None:
    prediction, reference = two_masks()
    sheared = reference.geometry.affine.copy()
    sheared[1, 0] = 0.6
    tilted = Geometry(reference.geometry.shape, sheared)
    score = score_case(mask(prediction.array, tilted), mask(reference.array, tilted))
    assert score.labels[1].dice == pytest.approx(2 / 3)
    assert score.labels[1].hd95_mm is None
    assert score.labels[1].volume_ml == pytest.approx(600 * 2.4e-3)


def test_a_missing_prediction_scores_zero() -> None:
    _, reference = two_masks()
    score = score_missing(reference, label_ids=[1, 300])
    assert score.labels[1] == LabelScore(
        dice=0.0, iou=0.0, volume_ml=0.0, reference_volume_ml=pytest.approx(1.44), volume_error_ml=pytest.approx(-1.44)
    )
    assert set(score.labels) == {1}
    assert (score.pixel_accuracy, score.miou, score.foreign) == (0.0, 0.0, {2})
    assert score.counts == {(0, None): 12 * 400 - 600, (1, None): 600}
