"""Tidying: pieces of known size, labels that must not change, and SciPy as the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import PlanError
from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.postprocess import PostprocessPlan, apply, fill_holes, keep_largest, remove_small
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = LabelSet.from_names({1: "liver", 2: "spleen", 7: "tumour"})


def segmentation(array: NDArray[Any]) -> Segmentation:
    return Segmentation(array, Geometry(array.shape, np.diag([2.0, 1.0, 1.0, 1.0])), LABELS)


def pieces() -> NDArray[np.uint8]:
    """Two pieces of label 1 (64 and 27 voxels), two of label 2 (8 and 1), one of label 7 (1)."""
    mask = np.zeros((20, 20, 20), dtype=np.uint8)
    mask[1:5, 1:5, 1:5] = 1
    mask[10:13, 10:13, 10:13] = 1
    mask[16:18, 16:18, 16:18] = 2
    mask[1, 1, 15] = 2
    mask[18, 1, 1] = 7
    return mask


def test_largest_piece_stays_and_other_labels_are_left_alone() -> None:
    mask = pieces()
    before = mask.copy()
    kept = keep_largest(mask, [1])
    assert [np.count_nonzero(kept == i) for i in (1, 2, 7)] == [64, 9, 1]
    np.testing.assert_array_equal(mask, before)
    both = keep_largest(mask, [1, 2, 7])
    assert [np.count_nonzero(both == i) for i in (1, 2, 7)] == [64, 8, 1]


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
def test_largest_piece_equals_scipy(connectivity: Any, rank: int) -> None:
    mask = (np.random.default_rng(4).random((18, 20, 22)) < 0.22).astype(np.uint8)
    found, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, rank))
    expected = found == np.bincount(found.ravel())[1:].argmax() + 1
    np.testing.assert_array_equal(keep_largest(mask, [1], connectivity=connectivity) == 1, expected)


def test_touching_labels_are_pieces_of_their_own() -> None:
    mask = np.array([[[1, 1, 2, 1]]], dtype=np.uint16)
    assert keep_largest(mask, [1]).tolist() == [[[1, 1, 2, 0]]]


def test_small_pieces_go_by_their_volume() -> None:
    tidy = apply(segmentation(pieces()), PostprocessPlan(minimum_ml=0.016))  # 8 voxels of 2 mm3
    assert tidy.voxel_counts() == {1: 91, 2: 8, 7: 0}
    assert remove_small(pieces(), [1], minimum_voxels=28).sum() == 64 + 2 * 9 + 7


def test_hole_is_filled_but_neither_the_outside_nor_another_label() -> None:
    mask = np.zeros((9, 9, 9), dtype=np.uint8)
    mask[1:8, 1:8, 1:8] = 1
    mask[3:6, 3:6, 3:6] = 0
    mask[4, 4, 4] = 7
    filled = fill_holes(mask, [1])
    assert np.count_nonzero(filled == 1) == 7**3 - 1
    assert filled[4, 4, 4] == 7
    open_box = mask.copy()
    open_box[:6, 4, 3] = 0  # a channel to the outside
    np.testing.assert_array_equal(fill_holes(open_box, [1]), open_box)
    np.testing.assert_array_equal(fill_holes(mask, [2]), mask)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_has_holes_in_its_plane(axis: int) -> None:
    ring = np.ones((5, 5), dtype=np.uint8)
    ring[2, 2] = 0
    assert fill_holes(np.expand_dims(ring, axis), [1]).all()


def test_a_thin_ring_in_a_volume_encloses_nothing() -> None:
    mask = np.zeros((5, 7, 7), dtype=np.uint8)
    mask[2, 1:6, 1:6] = 1
    mask[2, 3, 3] = 0
    np.testing.assert_array_equal(fill_holes(mask, [1]), mask)


def test_steps_follow_one_another() -> None:
    mask = pieces()
    mask[2, 2, 2] = 0
    tidy = apply(segmentation(mask), PostprocessPlan(largest_component=(1, 2), minimum_ml=0.005, fill_holes=(1,)))
    assert tidy.voxel_counts() == {1: 64, 2: 8, 7: 0}
    assert tidy.array.dtype == np.uint8


def test_nothing_asked_nothing_done() -> None:
    mask = segmentation(pieces())
    np.testing.assert_array_equal(apply(mask, PostprocessPlan()).array, mask.array)


def test_empty_and_read_only_masks_pass() -> None:
    empty = np.zeros((3, 4, 5), dtype=np.uint8)
    assert not apply(segmentation(empty), PostprocessPlan((1,), 1.0, (1,))).array.any()
    locked = pieces()
    locked.flags.writeable = False
    assert np.count_nonzero(keep_largest(locked[::-1], [1]) == 1) == 64


def test_plans_that_make_no_sense_are_refused() -> None:
    with pytest.raises(PlanError, match="names the label 3; expected one of 1, 2, 7"):
        apply(segmentation(pieces()), PostprocessPlan(largest_component=(3,)))
    with pytest.raises(PlanError, match="zero or more"):
        apply(segmentation(pieces()), PostprocessPlan(minimum_ml=float("nan")))
    with pytest.raises(PlanError):
        apply(segmentation(pieces()), PostprocessPlan(minimum_ml={3: 0.1}))


def test_a_minimum_of_its_own_for_each_label() -> None:
    tidy = apply(segmentation(pieces()), PostprocessPlan(minimum_ml={1: 0.06, 2: 0.004}))  # 30 and 2 voxels of 2 mm3
    assert [np.count_nonzero(tidy.array == i) for i in (1, 2, 7)] == [64, 8, 1]
