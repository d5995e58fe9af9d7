"""Surface metrics: against the authors' package, and against shapes whose distances are known."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import GeometryError
from medseg.metrics import contour_lengths_mm, surface_areas_mm2, surface_distances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the oracle speaks an older SciPy

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.3, 1.1, 2.4)]


def blobs(seed: int, shape: tuple[int, ...]) -> Mask:
    noise = np.random.default_rng(seed).standard_normal(shape)
    mask: Mask = ndimage.gaussian_filter(noise, 1.5) > 0.05
    return mask


def ball(shape: tuple[int, ...], centre: Sequence[float], radius: float) -> Mask:
    offsets = np.indices(shape) - np.reshape(centre, (-1, *[1] * len(shape)))
    mask: Mask = np.linalg.norm(offsets, axis=0) <= radius
    return mask


def assert_equals_oracle(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> None:
    import surface_distance as oracle

    ours = surface_distances(prediction, reference, spacing_mm)
    theirs: dict[str, Any] = oracle.compute_surface_distances(reference, prediction, spacing_mm)
    assert ours is not None
    np.testing.assert_allclose(ours.to_reference_mm, theirs["distances_pred_to_gt"], atol=1e-9)
    np.testing.assert_allclose(ours.to_prediction_mm, theirs["distances_gt_to_pred"], atol=1e-9)
    assert ours.prediction_areas.sum() == pytest.approx(theirs["surfel_areas_pred"].sum())
    assert ours.reference_areas.sum() == pytest.approx(theirs["surfel_areas_gt"].sum())
    for percentile in (50, 95, 100):
        expected = oracle.compute_robust_hausdorff(theirs, percentile)
        assert ours.hausdorff_mm(percentile) == pytest.approx(expected)
    for tolerance_mm in (0.0, 0.85, 1.0, 2.5):
        expected = oracle.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        assert ours.nsd(tolerance_mm) == pytest.approx(expected)
    to_prediction_mm, to_reference_mm = oracle.compute_average_surface_distance(theirs)
    areas = ours.reference_areas.sum(), ours.prediction_areas.sum()
    assert ours.assd_mm() == pytest.approx(np.average([to_prediction_mm, to_reference_mm], weights=areas))


@pytest.mark.parametrize("spacing_mm", [*SPACINGS, (1e-3, 1.0, 40.0)])
def test_area_of_every_block_equals_the_oracle(spacing_mm: tuple[float, float, float]) -> None:
    from surface_distance import lookup_tables

    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    np.testing.assert_allclose(surface_areas_mm2(spacing_mm), theirs, rtol=1e-12)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.4, 3.0)])
def test_contour_of_every_block_equals_the_oracle(spacing_mm: tuple[float, float]) -> None:
    from surface_distance import lookup_tables

    theirs = lookup_tables.create_table_neighbour_code_to_contour_length(spacing_mm)
    np.testing.assert_allclose(contour_lengths_mm(spacing_mm), theirs, rtol=1e-12)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("seed", [1, 2])
def test_blobs_equal_the_oracle(seed: int, spacing_mm: tuple[float, float, float]) -> None:
    assert_equals_oracle(blobs(seed, (14, 22, 18)), blobs(seed + 10, (14, 22, 18)), spacing_mm)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_balls_near_and_far_equal_the_oracle(spacing_mm: tuple[float, float, float]) -> None:
    shape = (60, 62, 64)
    reference = ball(shape, (29.5, 30, 31), 24.3)
    assert_equals_oracle(ball(shape, (31, 30.5, 29), 23.1), reference, spacing_mm)
    assert_equals_oracle(ball(shape, (29.5, 30, 31), 3.0), reference, spacing_mm)  # no surface within ten voxels


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.8, 2.2)])
def test_flat_masks_equal_the_oracle(spacing_mm: tuple[float, float]) -> None:
    assert_equals_oracle(blobs(3, (40, 50)), blobs(4, (40, 50)), spacing_mm)
    assert_equals_oracle(ball((90, 90), (44, 45), 40), ball((90, 90), (45, 43), 37), spacing_mm)


def test_masks_that_touch_the_border_equal_the_oracle() -> None:
    everything = np.ones((6, 7, 8), dtype=bool)
    assert_equals_oracle(everything, ball((6, 7, 8), (0, 0, 0), 4), (2.0, 1.0, 0.5))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_measured_in_its_plane(axis: int) -> None:
    prediction, reference = blobs(5, (30, 34)), blobs(6, (30, 34))
    spacing_mm = np.insert([0.7, 1.9], axis, 99.0)
    thick = surface_distances(np.expand_dims(prediction, axis), np.expand_dims(reference, axis), tuple(spacing_mm))
    flat = surface_distances(prediction, reference, (0.7, 1.9))
    assert thick is not None
    assert flat is not None
    np.testing.assert_array_equal(thick.to_reference_mm, flat.to_reference_mm)
    np.testing.assert_array_equal(thick.reference_areas, flat.reference_areas)


def test_moved_box_has_the_distance_it_was_moved_by() -> None:
    reference = np.zeros((30, 30, 30), dtype=bool)
    reference[5:20, 5:20, 5:20] = True
    for axis, spacing_mm in enumerate((3.0, 2.0, 0.5)):
        distances = surface_distances(np.roll(reference, 3, axis), reference, (3.0, 2.0, 0.5))
        assert distances is not None
        assert distances.hausdorff_mm() == pytest.approx(3 * spacing_mm)
        assert distances.hausdorff_mm(95.0) == pytest.approx(3 * spacing_mm)
        assert distances.nsd(3 * spacing_mm) == pytest.approx(1.0)
        assert 0.0 < distances.assd_mm() < 3 * spacing_mm


def test_area_of_a_box_is_that_of_the_chamfered_box() -> None:
    mask = np.zeros((9, 12, 15), dtype=bool)
    mask[2:6, 3:9, 1:11] = True
    z, y, x = spacing_mm = (3.0, 2.0, 0.5)
    length_z, length_y, length_x = 3 * z, 5 * y, 9 * x  # between the centres of the outer voxels
    faces = 2 * (length_y * length_x + length_z * length_x + length_z * length_y)
    edges = 4 * 0.5 * (length_z * np.hypot(y, x) + length_y * np.hypot(z, x) + length_x * np.hypot(z, y))
    corners = 8 * np.linalg.norm([y * x, z * x, z * y]) / 8
    distances = surface_distances(mask, mask, spacing_mm)
    assert distances is not None
    assert distances.reference_areas.sum() == pytest.approx(faces + edges + corners)


def test_order_and_direction_of_axes_do_not_matter() -> None:
    prediction, reference = blobs(7, (12, 16, 20)), blobs(8, (12, 16, 20))
    spacing_mm = (3.0, 1.2, 0.6)
    straight = surface_distances(prediction, reference, spacing_mm)
    assert straight is not None
    for order in itertools.permutations(range(3)):
        turned = surface_distances(
            prediction.transpose(order)[::-1], reference.transpose(order)[::-1], [spacing_mm[i] for i in order]
        )
        assert turned is not None
        assert turned.hausdorff_mm(95.0) == pytest.approx(straight.hausdorff_mm(95.0))
        assert turned.assd_mm() == pytest.approx(straight.assd_mm())
        assert turned.nsd(1.0) == pytest.approx(straight.nsd(1.0))


def test_tolerance_bears_the_rounding_of_a_float32_affine() -> None:
    reference = np.zeros((12, 12, 12), dtype=bool)
    reference[3:8, 3:8, 3:8] = True
    spacing_mm = (1.0 + 1e-7, 1.0, 1.0)
    distances = surface_distances(np.roll(reference, 1, 0), reference, spacing_mm)
    assert distances is not None
    assert distances.nsd(1.0) == pytest.approx(1.0)


def test_distance_equal_to_an_uneven_tolerance_is_within_it() -> None:
    reference = np.zeros((40, 40, 40), dtype=bool)
    reference[3:33, 3:33, 3:33] = True
    distances = surface_distances(np.roll(reference, 1, 2), reference, (0.1, 0.1, 0.1))
    assert distances is not None
    assert set(distances.to_reference_mm.tolist()) <= {0.0, 0.1}
    assert distances.nsd(0.1) == pytest.approx(1.0)


def test_empty_masks_have_no_distance() -> None:
    empty, full = np.zeros((4, 4, 4), dtype=bool), np.ones((4, 4, 4), dtype=bool)
    assert surface_distances(empty, full, (1, 1, 1)) is None
    assert surface_distances(full, empty, (1, 1, 1)) is None
    assert surface_distances(empty, empty, (1, 1, 1)) is None


def test_what_cannot_be_measured_is_refused() -> None:
    mask = np.ones((4, 4, 4), dtype=bool)
    with pytest.raises(GeometryError, match=r"expected \(4, 4, 4\), as the reference has"):
        surface_distances(mask[:3], mask, (1, 1, 1))
    with pytest.raises(GeometryError, match="3 axes came with 2 spacings"):
        surface_distances(mask, mask, (1, 1))
    with pytest.raises(GeometryError, match="positive lengths in mm"):
        surface_distances(mask, mask, (1, 0, 1))
