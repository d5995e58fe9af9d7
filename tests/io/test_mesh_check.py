from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io.mesh import write_stl
from medseg.io.mesh_check import check_surfaces
from medseg.labels import LabelSet
from medseg.volume import Segmentation

pytest.importorskip("skimage", reason="scikit-image (the extra stl) is not installed")

LABELS = LabelSet.from_names({1: "blob", 2: "spots", 9: "absent"})
SHAPE = (9, 11, 13)


def awkward() -> np.ndarray:
    array = (np.random.default_rng(3).random(SHAPE) < 0.4).astype(np.uint8) * 2
    array[2:6, 3:8, 7:12] = 1
    return array


def test_right_meshes_pass_on_any_grid(grid, tmp_path):
    segmentation = Segmentation(awkward(), Geometry(SHAPE, grid.affine), LABELS)
    write_stl(segmentation, tmp_path / "stl")
    check = check_surfaces(tmp_path / "stl", segmentation)
    assert (check.closed, check.voxels_differing, check.laterality) == (True, 0, True)
    assert check.grid_mm < 1e-3
    assert check.centroid_mm < sum(grid.spacing_mm)
    assert check.volume_ml < segmentation.volumes_ml()[2]


AFFINE = np.array([[0, 0.2, 1.5, -10], [0, 1.5, -0.2, 30], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])


def checked(tmp_path, wrong, *, by=(0, 0, 0)):
    """Write the meshes of one mask, moved by millimetres, and hold them against another."""
    moved = AFFINE.copy()
    moved[:3, 3] += by
    write_stl(Segmentation(wrong, Geometry(SHAPE, moved), LABELS), tmp_path / "stl")
    return check_surfaces(tmp_path / "stl", Segmentation(awkward(), Geometry(SHAPE, AFFINE), LABELS))


def test_another_mask_is_seen(tmp_path):
    pierced = awkward()
    pierced[4, 5, 9] = 0
    swapped = np.where(awkward() == 0, 0, 3 - awkward()).astype(np.uint8)
    for n, wrong in enumerate((awkward()[:, :, ::-1].copy(), pierced, swapped)):
        (tmp_path / str(n)).mkdir()
        check = checked(tmp_path / str(n), wrong)
        assert check.voxels_differing > 0
        assert check.closed


def test_another_place_is_seen(tmp_path):
    check = checked(tmp_path, awkward(), by=(0, 0.3, 0))
    assert check.grid_mm == pytest.approx(0.3, abs=1e-3)
    assert check.voxels_differing == 0


def test_a_surface_inside_out_is_seen(tmp_path):
    right = Segmentation(awkward(), Geometry(SHAPE, AFFINE), LABELS)
    path = write_stl(right, tmp_path / "stl")[0]
    content = path.read_bytes()
    raw = np.frombuffer(content[84:], np.uint8).reshape(-1, 50).copy()
    raw[:, 12:36] = np.concatenate([raw[:, 24:36], raw[:, 12:24]], axis=1)
    path.write_bytes(content[:84] + raw.tobytes())
    assert not check_surfaces(tmp_path / "stl", right).closed


def test_missing_and_spare_files_are_named(tmp_path):
    segmentation = Segmentation(awkward(), Geometry(SHAPE, np.eye(4)), LABELS)
    first, second = write_stl(segmentation, tmp_path / "stl")
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(InputError, match="1 meshes; expected 2"):
        check_surfaces(tmp_path / "stl", segmentation)
    second.write_bytes(content)
    first.write_bytes(bytes(84))
    with pytest.raises(InputError, match="no triangle"):
        check_surfaces(tmp_path / "stl", segmentation)


def test_an_empty_mask_has_no_mesh(tmp_path):
    empty = Segmentation(np.zeros(SHAPE, np.uint8), Geometry(SHAPE, np.eye(4)), LABELS)
    write_stl(empty, tmp_path / "stl")
    check = check_surfaces(tmp_path / "stl", empty)
    assert (check.closed, check.voxels_differing, check.grid_mm) == (True, 0, 0.0)
