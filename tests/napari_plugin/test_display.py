from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.geometry import Geometry
from napari_plugin.display import Display

CODES = [
    "".join(letters) for order in itertools.permutations(("SI", "PA", "LR")) for letters in itertools.product(*order)
]


@pytest.mark.parametrize("codes", CODES)
def test_every_scan_along_the_axes_is_shown_in_its_place(codes):
    grid = Geometry((4, 5, 6), np.array([[0, 0, 1, 5], [0, 2, 0, -6], [3, 0, 0, 70], [0, 0, 0, 1.0]])).reoriented(codes)
    shown = Display(grid)
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    assert (np.diag(shown.affine)[:3] > 0).all()
    assert not shown.note
    seen = shown.view(array)
    for index in ((0, 0, 0), tuple(n - 1 for n in grid.shape), (1, 2, 3)):
        world = grid.to_lps(index)[::-1]
        place = np.rint(np.linalg.solve(shown.affine, [*world, 1.0])[:3]).astype(int)
        assert seen[tuple(place)] == array[index]


@pytest.mark.parametrize("codes", CODES)
def test_no_voxel_is_copied_and_the_way_back_is_exact(codes, turned):
    grid = turned((4, 5, 6), (3.0, 2.0, 1.0), 17.0).reoriented(codes)
    array = np.arange(120).reshape(grid.shape)
    shown = Display(grid)
    assert np.shares_memory(shown.view(array), array)
    assert np.shares_memory(shown.unview(shown.view(array)), array)
    np.testing.assert_array_equal(shown.unview(shown.view(array)), array)


@given(
    degrees=st.floats(-40, 40),
    codes=st.sampled_from(CODES),
    point=st.tuples(st.floats(0, 3), st.floats(0, 4), st.floats(0, 5)),
)
def test_a_point_clicked_on_an_oblique_scan_is_found_in_the_patient(turned, degrees, codes, point):
    grid = turned((4, 5, 6), (3.0, 2.0, 1.0), degrees).reoriented(codes)
    index = np.minimum(point, np.array(grid.shape) - 1)
    shown = Display(grid)
    world = shown.to_world(index)
    np.testing.assert_allclose(shown.to_index(world), index, atol=1e-6)
    np.testing.assert_allclose(shown.to_lps(world), grid.to_lps(index), atol=1e-6)


def test_an_oblique_scan_is_shown_straight_with_true_lengths_and_a_note(turned):
    grid = turned((4, 5, 6), (3.0, 2.0, 1.0), 20.0)
    shown = Display(grid)
    np.testing.assert_allclose(np.diag(shown.affine)[:3], (3.0, 2.0, 1.0))
    assert np.count_nonzero(shown.affine[:3, :3] - np.diag(np.diag(shown.affine[:3, :3]))) == 0
    assert "20.0 degrees" in shown.note
    assert shown.off_mm > 10


def test_scans_of_equal_directions_still_coincide(turned):
    """A mask on a part of an oblique scan lies on the scan."""
    from medseg.geometry import Box

    grid = turned((8, 9, 10), (3.0, 2.0, 1.0), 20.0)
    part = grid.crop(Box((2, 3, 4), (6, 8, 9)))
    np.testing.assert_allclose(Display(part).to_world((0, 0, 0)), Display(grid).to_world((2, 3, 4)), atol=1e-9)


def test_a_tilted_gantry_keeps_its_slice_distance():
    from medseg.phantom import torso_ct

    grid = torso_ct(3, shape=(6, 8, 8), tilt_deg=20.0).volume.geometry
    shown = Display(grid)
    normal = np.cross(grid.directions_lps[:, 2], grid.directions_lps[:, 1])
    assert shown.affine[0, 0] == pytest.approx(abs(normal @ grid.affine[:3, 0]), rel=1e-6)
    assert shown.note


def test_a_box_in_the_world_is_the_voxels_inside():
    grid = Geometry((10, 20, 30), np.array([[0, 0, 1, 5], [0, 2, 0, -6], [3, 0, 0, 70], [0, 0, 0, 1.0]])).reoriented(
        "IAL"
    )
    shown = Display(grid)
    box = shown.box(shown.to_world((2, 3, 4)), shown.to_world((5, 6, 7)))
    assert box is not None
    assert (box.start, box.stop) == ((2, 3, 4), (6, 7, 8))
    assert shown.box((0, 0, 0), (1, 1, 1)) is None
