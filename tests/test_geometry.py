"""Grids: every derived fact follows from where the voxels lie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError
from medseg.geometry import Box, Geometry

CODES = ["".join(p) for axes in itertools.permutations(["LR", "AP", "SI"]) for p in itertools.product(*axes)]
AXIAL = Geometry((4, 5, 6), np.array([[0, 0, 0.7, -10], [0, 0.8, 0, 20], [2.5, 0, 0, -30], [0, 0, 0, 1.0]]), "1.2.3")

finite = st.floats(-500, 500)
lengths = st.floats(0.1, 10)


@st.composite
def geometries(draw, *, can_shear: bool = True) -> Geometry:
    """Grids of any direction and handedness."""
    matrix = np.array(draw(st.lists(st.floats(-1, 1), min_size=9, max_size=9))).reshape(3, 3)
    rotation, _ = np.linalg.qr(matrix + 1e-3 * np.eye(3))
    steps = rotation * np.array(draw(st.tuples(lengths, lengths, lengths)))
    if can_shear:
        steps = steps @ (np.eye(3) + np.triu(np.full((3, 3), draw(st.floats(-0.3, 0.3))), 1))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, draw(st.tuples(finite, finite, finite))
    return Geometry(draw(st.tuples(*[st.integers(1, 40)] * 3)), affine)


# -- invariants of the constructor ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.eye(3), "shape"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "does not span"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "does not span"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "not finite"),
        (np.diag([1.0, np.inf, 1.0, 1.0]), "not finite"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
        (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1e-9, 0, 0, 1.0]]), "last row"),
    ],
)
def test_an_affine_that_is_none_is_refused(affine: np.ndarray, reason: str):
    with pytest.raises(GeometryError, match=reason):
        Geometry((2, 3, 4), affine)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (0, 3, 4), (-1, 3, 4), (2.5, 3, 4)])
def test_a_shape_that_is_none_is_refused(shape: tuple):
    with pytest.raises(GeometryError, match="shape"):
        Geometry(shape, np.eye(4))


def test_tiny_and_huge_voxels_are_grids():
    for scale in (1e-9, 1e9):
        assert Geometry((2, 2, 2), np.diag([scale, scale, scale, 1])).spacing_mm == (scale,) * 3


def test_a_geometry_cannot_be_changed_from_outside():
    affine = np.eye(4)
    geometry = Geometry((2, 3, 4), affine)
    affine[0, 3] = 99
    assert geometry.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 3] = 1
    geometry.origin_lps[0] = 1
    assert geometry.affine[0, 3] == 0
    with pytest.raises(AttributeError):
        geometry.shape = (1, 1, 1)


def test_numpy_numbers_become_plain_ones():
    geometry = Geometry(tuple(np.array([2, 3, 4])), np.eye(4))
    assert all(type(n) is int for n in geometry.shape)


# -- derived facts -------------------------------------------------------------------------------------------------


def test_an_axial_grid_in_numbers():
    assert AXIAL.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert (AXIAL.axis_codes, AXIAL.orientation) == ("SPL", "axial")
    assert AXIAL.voxel_ml == pytest.approx(0.0014)
    assert not AXIAL.is_sheared
    assert not AXIAL.is_oblique
    assert AXIAL.to_lps([3, 4, 5]) == pytest.approx([-6.5, 23.2, -22.5])
    assert repr(AXIAL) == "Geometry((4, 5, 6), 2.5 x 0.8 x 0.7 mm, origin (-10, 20, -30) LPS, SPL)"


@pytest.mark.parametrize(
    ("codes", "plane"),
    [("SPL", "axial"), ("IAR", "axial"), ("PSL", "coronal"), ("AIR", "coronal"), ("LSP", "sagittal")],
)
def test_the_plane_of_the_slices(codes: str, plane: str):
    assert AXIAL.reoriented(codes).orientation == plane


@pytest.mark.parametrize(
    ("degrees", "plane"), [(0, "axial"), (19, "axial"), (21, "oblique"), (69, "oblique"), (71, "coronal")]
)
def test_twenty_degrees_make_a_plane_oblique(degrees: float, plane: str):
    a = np.deg2rad(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.eye(3)[:, ::-1]
    geometry = Geometry((3, 3, 3), affine)
    assert geometry.orientation == plane
    assert geometry.is_oblique == (degrees != 0)


def test_axis_codes_use_every_patient_axis_once():
    """Two array axes can both be closest to one patient axis; the codes are the best one-to-one match."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.8, 0.7, 0.0], [0.6, 0.71, 0.1], [0.0, 0.1, 1.0]])
    assert sorted(
        "xyz"["LAS".find(c) if c in "LAS" else "RPI".find(c)] for c in Geometry((2, 2, 2), affine).axis_codes
    ) == [
        "x",
        "y",
        "z",
    ]


@given(geometries(), st.tuples(*[st.floats(-50, 50)] * 3))
def test_points_go_there_and_back(geometry: Geometry, index: tuple):
    assert np.allclose(geometry.to_index(geometry.to_lps(index)), index, atol=1e-6)
    assert geometry.to_lps(np.tile(index, (2, 5, 1))).shape == (2, 5, 3)


@given(geometries())
def test_a_grid_is_the_same_as_itself_and_no_other(geometry: Geometry):
    assert geometry.same_grid(geometry)
    moved = geometry.affine.copy()
    moved[:3, 3] += [0.02, 0, 0]
    assert not geometry.same_grid(Geometry(geometry.shape, moved))
    assert geometry.same_grid(Geometry(geometry.shape, moved), tol_mm=0.03)
    z, y, x = geometry.shape
    assert not geometry.same_grid(Geometry((z + 1, y, x), geometry.affine))


def test_far_corners_decide_not_the_origin():
    long = Geometry((1, 1, 1000), np.eye(4))
    affine = np.eye(4)
    affine[:3, 2] *= 1.0001
    assert not long.same_grid(Geometry((1, 1, 1000), affine))


def test_frames_of_reference_part_grids_only_where_both_are_known():
    other = Geometry(AXIAL.shape, AXIAL.affine, "9.9")
    unknown = Geometry(AXIAL.shape, AXIAL.affine)
    assert not AXIAL.same_grid(other)
    assert AXIAL.same_grid(unknown)
    assert unknown.same_grid(other)


# -- other grids ---------------------------------------------------------------------------------------------------


def test_a_box():
    assert Box((0, 1, 2), (3, 4, 7)).shape == (3, 3, 5)
    assert np.zeros((9, 9, 9))[Box((0, 1, 2), (3, 4, 7)).slices].shape == (3, 3, 5)
    for stop in ((0, 4, 7), (-1, 4, 7)):
        with pytest.raises(GeometryError, match="no voxel"):
            Box((0, 1, 2), stop)


@given(geometries(), st.data())
def test_cropped_voxels_stay_where_they_are(geometry: Geometry, data: st.DataObject):
    start = tuple(data.draw(st.integers(0, n - 1)) for n in geometry.shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, geometry.shape, strict=True))
    cropped = geometry.crop(Box(start, stop))
    assert cropped.shape == Box(start, stop).shape
    assert np.allclose(cropped.to_lps([0, 0, 0]), geometry.to_lps(start))
    assert np.allclose(cropped.to_lps(np.array(cropped.shape) - 1), geometry.to_lps(np.array(stop) - 1), atol=1e-6)
    after = [n - b for n, b in zip(geometry.shape, stop, strict=True)]
    assert cropped.pad(start, after).same_grid(geometry, tol_mm=1e-6)


@pytest.mark.parametrize("box", [Box((-1, 0, 0), (2, 2, 2)), Box((0, 0, 0), (5, 5, 6)), Box((3, 3, 3), (4, 6, 5))])
def test_a_crop_stays_inside(box: Box):
    with pytest.raises(GeometryError, match="leaves the grid"):
        AXIAL.crop(box)


def test_padding_away_everything_is_refused():
    with pytest.raises(GeometryError, match="shape"):
        AXIAL.pad((-4, 0, 0), (0, 0, 0))


@pytest.mark.parametrize("codes", CODES)
@settings(max_examples=5)
@given(geometry=geometries())
def test_reorienting_moves_no_voxel(codes: str, geometry: Geometry):
    there = geometry.reoriented(codes)
    assert there.axis_codes == codes
    ours = {tuple(p) for p in np.round(geometry.corners_lps, 6) + 0.0}
    theirs = np.round(there.corners_lps, 6) + 0.0
    assert all(min(np.abs(np.array(p) - q).max() for q in ours) < 1e-4 for p in theirs)
    assert there.reoriented(geometry.axis_codes).same_grid(geometry, tol_mm=1e-6)


@pytest.mark.parametrize("codes", ["", "SP", "SPLL", "SPP", "SPA", "spl", "XYZ", "SIL"])
def test_codes_that_are_no_orientation(codes: str):
    with pytest.raises(GeometryError, match="no orientation"):
        AXIAL.reoriented(codes)


@given(geometries(), st.tuples(lengths, lengths, lengths))
def test_other_spacing_keeps_the_outer_faces(geometry: Geometry, spacing: tuple):
    other = geometry.with_spacing(spacing)
    for corner in itertools.product((0, 1), repeat=3):
        faces = [np.array(corner) * g.shape - 0.5 for g in (geometry, other)]
        assert np.allclose(geometry.to_lps(faces[0]), other.to_lps(faces[1]), atol=1e-6)
    extent = np.array(geometry.shape) * geometry.spacing_mm
    assert np.array_equal(other.shape, np.maximum(1, np.rint(extent / spacing)))
    assert np.allclose(np.array(other.shape) * other.spacing_mm, extent)
    assert geometry.with_spacing(geometry.spacing_mm).same_grid(geometry, tol_mm=1e-6)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, np.nan, 1), (1, np.inf, 1), (1, 1), 1.0])
def test_a_spacing_that_is_none_is_refused(spacing: object):
    with pytest.raises(GeometryError, match="no spacing"):
        AXIAL.with_spacing(spacing)


@given(geometries())
def test_without_shear_covers_and_is_right_angled(geometry: Geometry):
    straight = geometry.without_shear()
    directions = straight.directions_lps
    assert np.allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    inside = straight.to_index(geometry.corners_lps)
    assert (inside > -1e-4).all()
    assert (inside < np.array(straight.shape) - 1 + 1e-4).all()
    assert np.allclose(straight.spacing_mm[1:], geometry.spacing_mm[1:])
    assert np.allclose(directions[:, 2], geometry.directions_lps[:, 2])
    assert (np.diag(directions.T @ geometry.directions_lps) > 0).all()


@given(geometries(can_shear=False))
def test_without_shear_leaves_a_right_angled_grid(geometry: Geometry):
    assert geometry.without_shear().same_grid(geometry, tol_mm=1e-5)


def test_new_grids_keep_the_frame_of_reference():
    for other in (
        AXIAL.crop(Box((0, 0, 0), (1, 1, 1))),
        AXIAL.pad((1, 1, 1), (1, 1, 1)),
        AXIAL.reoriented("LPS"),
        AXIAL.with_spacing((1, 1, 1)),
        AXIAL.without_shear(),
    ):
        assert other.frame_of_reference_uid == "1.2.3"
