"""Surfaces of known bodies, on any grid; and of anything at all, closed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.errors import InputError, MissingExtraError, OutputError
from medseg.geometry import Geometry
from medseg.io.mesh import _surface, file_name, is_closed, numbered_corners, read_stl, volume_and_centroid, write_stl
from medseg.labels import Label, LabelSet
from medseg.volume import Segmentation

pytest.importorskip("skimage", reason="scikit-image (the extra stl) is not installed")

LABELS = LabelSet.from_names({1: "ball", 4: "Lunge / links", 9: "absent"})
SHAPE = (24, 30, 34)


def closed(triangles):
    return is_closed(numbered_corners(triangles)[0])


@pytest.fixture
def on_any_grid(grid):
    """An ellipsoid, a block at the very corner of the grid and an absent label, on every awkward grid."""
    geometry = Geometry(SHAPE, grid.affine)
    z, y, x = np.ogrid[:24, :30, :34]
    array = np.zeros(SHAPE, np.uint8)
    array[((z - 12) / 9) ** 2 + ((y - 15) / 12) ** 2 + ((x - 18) / 13) ** 2 < 1] = 1
    array[:3, :4, :5] = 4
    return Segmentation(array, geometry, LABELS)


def test_surfaces_lie_where_the_labels_do(on_any_grid, tmp_path):
    paths = write_stl(on_any_grid, tmp_path / "stl")
    assert [p.name for p in paths] == ["1_ball.stl", "4_Lunge_links.stl"]
    grid = on_any_grid.geometry
    ellipsoid_mm3 = 4 / 3 * np.pi * 9 * 12 * 13 * grid.voxel_ml * 1000
    for path, id_, true_mm3 in zip(paths, (1, 4), (ellipsoid_mm3, 60 * grid.voxel_ml * 1000), strict=True):
        triangles = read_stl(path)
        volume, centroid = volume_and_centroid(triangles)
        assert closed(triangles)
        assert volume == pytest.approx(true_mm3, rel=0.03 if id_ == 1 else 0.2)  # edges of a small block are cut off
        inside = np.argwhere(on_any_grid.array == id_)
        np.testing.assert_allclose(centroid, grid.to_lps(inside).mean(axis=0), atol=0.02)
        index = grid.to_index(triangles.reshape(-1, 3))
        np.testing.assert_allclose(index.min(axis=0), inside.min(axis=0) - 0.5, atol=1e-3)
        np.testing.assert_allclose(index.max(axis=0), inside.max(axis=0) + 0.5, atol=1e-3)


def test_normals_point_outwards(on_any_grid, tmp_path):
    path = write_stl(on_any_grid, tmp_path / "stl")[0]
    content = np.frombuffer(path.read_bytes(), [("n", "<f4", 3), ("c", "<f4", (3, 3)), ("a", "<u2")], offset=84)
    middle = on_any_grid.geometry.to_lps((12, 15, 18))
    outwards = np.einsum("ij,ij->i", content["n"], content["c"].mean(axis=1) - middle)
    assert (outwards > 0).all()  # the ellipsoid is convex
    np.testing.assert_allclose(np.linalg.norm(content["n"], axis=1), 1, atol=1e-5)
    assert b"SPACE=LPS" in path.read_bytes()[:80]
    assert not path.read_bytes().startswith(b"solid")


@settings(max_examples=60)
@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)).filter(np.any),
    st.sampled_from([1.0, -1.0]),
)
def test_the_surface_of_any_mask_is_closed_and_faces_outwards(inside, handedness):
    affine = np.array([[0.2, 0.1, 1.0, 400], [0, 1.5, 0.3, -700], [3 * handedness, 0, 0, 9], [0, 0, 0, 1.0]])
    geometry = Geometry(inside.shape, affine)
    triangles = _surface(inside, [0, 0, 0], geometry).astype(np.float32)
    assert closed(triangles)
    assert volume_and_centroid(triangles)[0] > 0


def test_a_hole_faces_into_itself(tmp_path):
    array = np.ones((12, 12, 12), np.uint8)
    array[4:8, 4:8, 4:8] = 0
    hollow = Segmentation(array, Geometry(array.shape, np.eye(4)), LABELS)
    triangles = read_stl(write_stl(hollow, tmp_path / "stl")[0])
    assert closed(triangles)
    assert volume_and_centroid(triangles)[0] == pytest.approx(12**3 - 4**3, rel=0.05)


def test_what_is_open_or_turned_round_is_seen():
    whole = _surface(np.ones((2, 2, 2), bool), [0, 0, 0], Geometry((2, 2, 2), np.eye(4))).astype(np.float32)
    assert closed(whole)
    assert not closed(whole[1:])
    assert not closed(np.concatenate([whole[:1, ::-1], whole[1:]]))
    assert volume_and_centroid(whole[:, ::-1])[0] < 0


def test_an_empty_mask_leaves_an_empty_folder(tmp_path):
    empty = Segmentation(np.zeros((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), LABELS)
    assert write_stl(empty, tmp_path / "stl") == ()
    assert list((tmp_path / "stl").iterdir()) == []
    with pytest.raises(OutputError, match="cannot be made"):
        write_stl(empty, tmp_path / "nowhere" / "stl")


def test_files_that_are_no_binary_stl_are_refused(tmp_path):
    path = tmp_path / "a.stl"
    for content in (b"", b"solid text", bytes(80) + (10**9).to_bytes(4, "little") + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="a binary STL"):
            read_stl(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_stl(tmp_path / "none.stl")


def test_names_become_safe():
    assert file_name(Label(3, "../..", (0, 0, 0))) == "3.stl"
    assert len(file_name(Label(3, "x" * 500, (0, 0, 0)))) < 100


def test_without_scikit_image_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    empty = Segmentation(np.zeros((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), LABELS)
    with pytest.raises(MissingExtraError, match=r"pip install 'medseg\[stl\]'") as caught:
        write_stl(empty, tmp_path / "stl")
    assert caught.value.code == "missing-extra"


def test_corners_are_numbered_by_their_place():
    corners = np.array([[1, 2, 3], [0, 0, 0], [1, 2, 3], [-0.0, 0, 0], [3, 2, 1], [2, 1, 3]], np.float32)
    numbers, points = numbered_corners(corners.reshape(2, 3, 3))
    np.testing.assert_array_equal(points[numbers.ravel()], corners)
    assert len(points) == 4
