"""Outlines of masks, filled again by ours and by other people's rules."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import grid_points_in_poly

from medseg.errors import MissingExtraError
from medseg.io.dicom.rtstruct.contours import filled, outlined, require_contours


def drawn(*rows):
    """Return a mask from a picture."""
    return np.array([[c == "#" for c in row] for row in rows])


SHAPES = {
    "single": drawn("#"),
    "row": drawn("#####"),
    "column": drawn("#", "#", "#"),
    "full": np.ones((6, 5), bool),
    "diagonal": np.eye(5, dtype=bool),
    "checkerboard": np.indices((7, 8)).sum(axis=0) % 2 == 0,
    "ring": drawn("###", "#.#", "###"),
    "holes that touch at a corner": drawn("####", "#.##", "##.#", "####"),
    "hole that touches the outside at a corner": drawn(".###", "#.##", "####"),
    "island in a hole of an island in a hole": np.pad(
        drawn(
            "#########",
            "#.......#",
            "#.#####.#",
            "#.#...#.#",
            "#.#.#.#.#",
            "#.#...#.#",
            "#.#####.#",
            "#.......#",
            "#########",
        ),
        1,
    ),
    "holes in one column": drawn("###", "#.#", "###", "#.#", "###", "#.#", "###"),
    "holes in one row": drawn("#######", "#.#.#.#", "#######"),
    "hole behind a hole": drawn("######", "#..###", "#.##.#", "#..###", "######"),
    "hole inside the bay of a hole": drawn("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.#...#", "#######"),
}
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans())


def windings(polygon, shape):
    """Return how often a polygon winds around each voxel centre: the sum of the angles that its edges span there."""
    y, x = np.indices(shape)
    a = polygon[:, :, None, None] - np.stack([y, x])
    b = np.roll(a, -1, axis=0)
    angles = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(axis=1))
    return np.rint(angles.sum(axis=0) / (2 * np.pi)).astype(int)


def check(mask):
    polygons = outlined(mask)
    np.testing.assert_array_equal(filled(polygons, mask.shape), mask)
    assert len(polygons) == ndimage.label(mask)[1]  # one for each island
    wound = np.array([windings(p, mask.shape) for p in polygons]).reshape(-1, *mask.shape)
    assert set(np.unique(wound)) <= {0, 1} or set(np.unique(wound)) <= {0, -1}  # whatever the rule: inside or not
    np.testing.assert_array_equal(np.abs(wound).sum(axis=0), mask)  # no voxel is in two: OR and XOR are one
    for polygon in polygons:
        doubled = 2 * polygon
        np.testing.assert_array_equal(doubled, np.rint(doubled))
        assert (doubled % 2).any(axis=1).all()  # no vertex on a voxel centre
        assert np.abs(np.roll(polygon, -1, axis=0) - polygon).any(axis=1).all()  # no point twice in a row


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_come_back_whatever_the_rule(name):
    check(SHAPES[name])


@given(MASKS)
def test_any_mask_comes_back_whatever_the_rule(mask):
    check(mask)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_noise_comes_back(share):
    mask = np.random.default_rng(7).random((90, 70)) < share
    np.testing.assert_array_equal(filled(outlined(mask), mask.shape), mask)


@given(MASKS)
def test_scikit_image_fills_them_alike(mask):
    found = np.zeros(mask.shape, bool)
    for polygon in outlined(mask):
        found ^= grid_points_in_poly(mask.shape, np.vstack([polygon, polygon[:1]]))
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("name", SHAPES)
def test_matplotlib_fills_them_alike(name):
    path = pytest.importorskip("matplotlib.path")
    mask = SHAPES[name]
    centres = np.stack(np.indices(mask.shape), axis=-1).reshape(-1, 2)
    found = np.zeros(mask.size, bool)
    for polygon in outlined(mask):
        found |= path.Path(np.vstack([polygon, polygon[:1]])).contains_points(centres)
    np.testing.assert_array_equal(found.reshape(mask.shape), mask)


@pytest.mark.parametrize("name", SHAPES)
def test_a_picture_of_them_shows_the_mask(name):
    mask, zoom = SHAPES[name], 16
    picture = Image.new("1", (mask.shape[1] * zoom, mask.shape[0] * zoom))
    for polygon in outlined(mask):
        points = [(float(x), float(y)) for y, x in (polygon + 0.5) * zoom]
        ImageDraw.Draw(picture).polygon(points, fill=1)
    np.testing.assert_array_equal(np.asarray(picture)[zoom // 2 :: zoom, zoom // 2 :: zoom], mask)


def test_straight_runs_have_two_points():
    (polygon,) = outlined(np.ones((40, 30), bool))
    assert len(polygon) == 8  # four sides, corners cut


def test_an_empty_mask_has_no_outline():
    assert outlined(np.zeros((3, 4), bool)) == []
    assert not filled([], (3, 4)).any()


# -- polygons of other origin --------------------------------------------------------------------------------------


POLYGONS = st.lists(
    st.tuples(st.floats(-3, 12, allow_nan=False), st.floats(-3, 12, allow_nan=False)), min_size=3, max_size=9
)


@given(POLYGONS)
def test_any_polygon_is_filled_by_the_even_odd_rule(points):
    polygon = np.array(points)
    found = filled([polygon], (9, 10))
    y, x = np.indices(found.shape)
    a, b = polygon[:, :, None, None], np.roll(polygon, -1, axis=0)[:, :, None, None]
    along = b - a
    length = (along**2).sum(axis=1)
    off = np.stack([y, x]) - a
    share = np.clip((off * along).sum(axis=1) / np.where(length == 0, 1, length), 0, 1)
    distance = np.sqrt(((off - share[:, None] * along) ** 2).sum(axis=1)).min(axis=0)
    clear = distance > 0.01
    np.testing.assert_array_equal(found[clear], windings(polygon, found.shape)[clear] % 2 == 1)
    assert found[distance < 1e-3].all()  # edges belong to the region


def test_contours_through_voxel_centres_hold_them():
    square = np.array([(1, 1), (1, 4), (4, 4), (4, 1)], float)
    assert filled([square], (6, 6)).sum() == 16
    assert filled([np.array([(2.0, 3.0)])], (6, 6)).sum() == 1
    assert filled([np.array([(2.0, 1.0), (2.0, 4.0)])], (6, 6)).sum() == 4
    assert filled([np.array([(1.0, 1.0), (4.0, 4.0)])], (6, 6)).sum() == 4


def test_a_hole_drawn_through_voxel_centres_keeps_them():
    outer, inner = (np.array([(a, a), (a, b), (b, b), (b, a)], float) for a, b in ((0, 6), (2, 4)))
    found = filled([outer, inner], (7, 7))
    assert not found[3, 3]
    assert found.sum() == 48


def test_rounded_coordinates_are_on_the_edge_still():
    square = np.array([(1, 1), (1, 4), (4, 4), (4, 1)]) * 0.999 + 0.0025
    assert filled([square], (6, 6)).sum() == 16


def test_what_is_outside_of_the_image_is_cut_off():
    far = np.array([(-1e6, -1e6), (-1e6, 1e6), (1e6, 1e6), (1e6, -1e6)])
    assert filled([far], (3, 4)).all()
    assert not filled([far + 2.5e6], (3, 4)).any()
    half = np.array([(-5.0, -5.0), (-5.0, 1.5), (9.0, 1.5), (9.0, -5.0)])
    np.testing.assert_array_equal(filled([half], (3, 4)), np.arange(4)[None, :] < [[2]] * 3)


def test_without_scikit_image_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    for call in (require_contours, lambda: outlined(np.ones((2, 2), bool))):
        with pytest.raises(MissingExtraError, match=r"pip install 'medseg\[rtstruct\]'") as caught:
            call()
        assert caught.value.code == "missing-extra"
