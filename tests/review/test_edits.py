"""The tools on shapes of known truth, against SciPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import InputError
from medseg.review import edits
from medseg.review.changes import Edit


def ball(shape=(21, 31, 31), centre=(10, 15, 15), radius_mm=9.0, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    at = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    squares = sum(((a - c) * s) ** 2 for a, c, s in zip(at, centre, spacing, strict=True))
    return (squares <= radius_mm**2).astype(np.uint8)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_the_box_of_a_label_is_scipys() -> None:
    mask = ball() * 3
    mask[0, 0, 0] = 7
    (found,) = ndimage.find_objects((mask == 3).astype(np.uint8))
    box = edits.label_box(mask, 3)
    assert box is not None
    assert box.slices == found
    grown = edits.label_box(mask, 3, margin=(50, 1, 0))
    assert grown is not None
    assert grown.slices[0] == slice(0, 21)
    assert edits.label_box(mask, 4) is None


def test_islands_go_and_other_labels_stay() -> None:
    mask = ball(radius_mm=5)
    clean = mask.copy()
    mask[0:2, 0:2, 0:2] = 1  # 8 voxels
    mask[20, 30, 28:31] = 1  # 3 voxels
    mask[20, 0, 0:5] = clean[20, 0, 0:5] = 2
    assert np.array_equal(edits.remove_islands(mask, 1), clean)
    kept = edits.remove_islands(mask, 1, minimum_voxels=5)
    assert np.array_equal(np.argwhere(kept != clean), np.argwhere(np.ones((2, 2, 2))))


def test_holes_are_scipys() -> None:
    from medseg.geometry import Box

    mask = ball()
    mask[8:12, 13:17, 13:17] = 0
    mask[10, 15, 15] = 2
    filled = edits.fill_holes(mask, 1)
    assert np.array_equal(filled == 1, ndimage.binary_fill_holes(mask == 1) & (mask != 2))
    tube = np.ones((6, 9, 9), np.uint8)
    tube[:, 3:6, 3:6] = 0
    assert np.array_equal(edits.fill_holes(tube, 1), tube)
    assert edits.fill_holes(tube, 1, axis=0).all()
    sideways = np.moveaxis(tube, 0, 2)
    assert edits.fill_holes(sideways, 1, axis=2).all()
    edit = Edit.of_block(tube, Box((0, 0, 0), tube.shape), edits.fill_holes(tube, 1, axis=0))
    assert edit.n_voxels == 54


def test_smoothing_takes_bumps_and_hardly_shrinks() -> None:
    smooth_ball = ball()
    bumpy = smooth_ball.copy()
    bumpy[10, 15, 24:29] = 1  # a spike
    bumpy[10, 5:9, 15] = 0  # a scratch
    bumpy[0:3, 0, 0] = 2
    result = edits.smooth(bumpy, 1, sigma_mm=1.5, spacing_mm=(1, 1, 1))
    assert result[10, 15, 27] == 0
    assert result[10, 7, 15] == 1
    assert np.array_equal(result == 2, bumpy == 2)
    radius, was = (np.cbrt(0.75 * np.count_nonzero(m == 1) / np.pi) for m in (result, smooth_ball))
    assert radius == pytest.approx(was - 1.5**2 / was, abs=0.1)  # how far a blurred ball's surface at a half moves in


def test_smoothing_is_in_millimetres() -> None:
    spacing = (4.0, 1.0, 1.0)
    thick = ball((11, 41, 41), (5, 20, 20), 15.0, spacing)
    result = edits.smooth(thick, 1, sigma_mm=1.0, spacing_mm=spacing)
    assert overlap(result == 1, thick == 1) > 0.97
    oracle = ndimage.gaussian_filter((thick == 1).astype(np.float64), (0.25, 1, 1), mode="nearest", truncate=3.0) > 0.5
    assert np.count_nonzero((result == 1) != oracle) <= 4  # a voxel at a half, in single precision


def test_smoothing_grows_into_background_only() -> None:
    mask = ball()
    mask[:, :, 16:] = np.where(mask[:, :, 16:] == 1, 2, 0)
    result = edits.smooth(mask, 1, sigma_mm=2.0, spacing_mm=(1, 1, 1))
    assert np.array_equal(result == 2, mask == 2)
    with pytest.raises(InputError, match="more than zero"):
        edits.smooth(mask, 1, sigma_mm=0.0, spacing_mm=(1, 1, 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cylinder_is_filled_exactly(axis: int) -> None:
    disc = ball((1, 31, 31), (0, 15, 15), 9.0)[0]
    whole = np.repeat(disc[None], 9, axis=0)
    sparse = whole.copy()
    sparse[1:4] = sparse[5:8] = 0
    result = edits.fill_between(np.moveaxis(sparse, 0, axis), 1, axis=axis)
    assert np.array_equal(np.moveaxis(result, axis, 0), whole)


def test_a_cone_between_two_discs_has_the_radii_of_a_cone() -> None:
    block = np.zeros((9, 41, 41), np.uint8)
    block[0] = ball((1, 41, 41), (0, 20, 20), 16.0)[0]
    block[8] = ball((1, 41, 41), (0, 20, 20), 4.0)[0]
    result = edits.fill_between(block, 1)
    radii = [np.sqrt(np.count_nonzero(slice_yx) / np.pi) for slice_yx in result]
    assert np.abs(np.array(radii) - np.linspace(radii[0], radii[-1], 9)).max() < 0.6


def test_a_ball_drawn_in_every_fourth_slice_comes_back() -> None:
    whole = ball((41, 41, 41), (20, 20, 20), 17.0)
    sparse = np.zeros_like(whole)
    sparse[::4] = whole[::4]
    assert overlap(edits.fill_between(sparse, 1) == 1, whole == 1) > 0.97


def test_the_spacing_within_slices_counts() -> None:
    spacing = (5.0, 3.0, 1.0)
    block = np.zeros((5, 15, 41), np.uint8)
    block[0] = ball((1, 15, 41), (0, 7, 20), 15.0, spacing)[0]
    block[4] = ball((1, 15, 41), (0, 7, 20), 3.0, spacing)[0]
    middle = edits.fill_between(block, 1, spacing_mm=spacing)[2]
    truth = ball((1, 15, 41), (0, 7, 20), 9.0, spacing)[0]
    assert overlap(middle == 1, truth == 1) > 0.9


def test_filling_spares_other_labels_and_drawn_slices() -> None:
    block = np.repeat(ball((1, 21, 21), (0, 10, 10), 7.0), 5, axis=0)
    block[1:4] = 0
    block[2, 10, 10] = 2
    result = edits.fill_between(block, 1)
    assert result[2, 10, 10] == 2
    assert np.array_equal(result[[0, 4]], block[[0, 4]])
    with pytest.raises(InputError, match="no gap"):
        edits.fill_between(result, 1)


def test_the_brush_paints_between_its_limits() -> None:
    rng = np.random.default_rng(0)
    image, brush = rng.normal(0, 50, (4, 9, 9)), rng.random((4, 9, 9)) < 0.5
    block = rng.integers(0, 3, (4, 9, 9)).astype(np.uint8)
    result = edits.threshold_within(block, image, brush, label_id=2, low=-20, high=30)
    wanted = np.where(brush & (image >= -20) & (image <= 30), 2, block)
    assert np.array_equal(result, wanted)
    with pytest.raises(InputError, match="lower one first"):
        edits.threshold_within(block, image, brush, label_id=2, low=1, high=0)


def test_no_tool_changes_what_it_was_given() -> None:
    mask = ball()
    mask[5:8] = 0
    before = mask.copy()
    edits.remove_islands(mask, 1)
    edits.fill_holes(mask, 1, axis=1)
    edits.smooth(mask, 1, sigma_mm=1.0, spacing_mm=(1, 1, 1))
    edits.fill_between(mask, 1)
    edits.threshold_within(mask, mask, mask > 0, label_id=3, low=0, high=2)
    assert np.array_equal(mask, before)
