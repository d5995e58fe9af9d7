"""What was written, opened again by other means: equal where it is, and seen where it is not."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io import write_segmentation
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.io.dicom.identity import Identity
from medseg.io.dicom.rtstruct.contours import outlined
from medseg.io.dicom.rtstruct.writing import write_rtstruct
from medseg.io.planes import Planes, apart
from medseg.io.reopen import reopen_nifti, reopen_rtstruct, reopen_seg, wound
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume

pytest.importorskip("skimage", reason="scikit-image (the extra rtstruct) is not installed")

LABELS = LabelSet.from_names({1: "ring", 3: "left", 7: "absent"})
SHAPE = (6, 12, 14)


def ring_and_spots() -> np.ndarray:
    """A ring with an island in its hole, touching corners, and another label by its side."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:5, 1:9, 1:9] = 1
    array[1:5, 3:7, 3:7] = 0
    array[2:4, 4:6, 4:6] = 1
    array[2, 3, 3] = 1
    array[1:6:2, 2:10, 10:13] = 3
    return array


@pytest.fixture
def on_any_grid(grid) -> Segmentation:
    return Segmentation(ring_and_spots(), Geometry(SHAPE, grid.affine), LABELS)


def test_nifti_on_any_grid(on_any_grid, tmp_path):
    path = tmp_path / "a.nii.gz"
    write_segmentation(on_any_grid, path)
    wanted = Planes.on_grid(on_any_grid.array, on_any_grid.geometry, LABELS.ids)
    found, reader = reopen_nifti(path, LABELS.ids)
    assert reader == "the bytes of the header" if on_any_grid.geometry.is_sheared else "SimpleITK"
    off = apart(found, wanted)
    assert (off.voxels_differing, off.laterality) == (0, True)
    assert off.grid_mm < 1e-3
    assert off.centroid_mm < 1e-3


def test_centroids_are_those_of_the_voxels(on_any_grid):
    planes = Planes.on_grid(on_any_grid.array, on_any_grid.geometry, LABELS.ids)
    centroids = planes.centroids_lps(planes.moments)
    for row, id_ in zip(centroids[:2], (1, 3), strict=True):
        np.testing.assert_allclose(row, on_any_grid.geometry.to_lps(np.argwhere(planes.array == id_)).mean(axis=0))
    assert np.isnan(centroids[2]).all()


def mirrored(image):
    found = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[:, :, ::-1])
    found.CopyInformation(image)
    return found


def one_label(image):
    return sitk.Cast(image != 0, sitk.sitkUInt8)


def moved(image):
    image.SetOrigin(np.add(image.GetOrigin(), (0.0, 0.5, 0.0)).tolist())
    return image


def turned(image):
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    return image


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (mirrored, {"voxels_differing", "centroid_mm", "laterality"}),
        (one_label, {"voxels_differing", "centroid_mm", "laterality"}),
        (moved, {"grid_mm", "centroid_mm"}),
        (turned, {"grid_mm", "centroid_mm", "laterality"}),
    ],
    ids=["mirrored", "lost-label", "moved", "flipped-axis"],
)
def test_what_is_wrong_is_seen(change, seen, tmp_path):
    affine = np.array([[0, 0, 1.5, -10], [0, 1.5, 0, 30], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])
    segmentation = Segmentation(ring_and_spots(), Geometry(SHAPE, affine), LABELS)
    write_segmentation(segmentation, tmp_path / "a.nii.gz")
    sitk.WriteImage(change(sitk.ReadImage(str(tmp_path / "a.nii.gz"))), str(tmp_path / "b.nii.gz"))
    off = apart(
        reopen_nifti(tmp_path / "b.nii.gz", LABELS.ids)[0],
        Planes.on_grid(segmentation.array, segmentation.geometry, LABELS.ids),
    )
    wrong = {name for name in ("grid_mm", "centroid_mm") if getattr(off, name) > 1e-3}
    wrong |= {"voxels_differing"} if off.voxels_differing else set()
    wrong |= set() if off.laterality else {"laterality"}
    assert wrong == seen


@pytest.fixture
def series(tmp_path):
    """Return a function that writes a series on a grid, and reads it as a source."""

    def make(affine):
        write_series(Volume(np.zeros((1, *SHAPE), np.int16), Geometry(SHAPE, affine)), tmp_path / "series")
        return find_series(tmp_path / "series")

    return make


@pytest.fixture(params=["oblique", "tilted"])
def source(request, series):
    steps = np.array([[0.2, 0.1, 0.8], [0.1, 0.7, -0.2], [2.5, -0.1, 0.1]])
    steps[:, 1] -= steps[:, 2] * (steps[:, 1] @ steps[:, 2]) / (steps[:, 2] @ steps[:, 2])
    if request.param == "oblique":
        steps[:, 0] = np.cross(steps[:, 2], steps[:, 1]) * 4
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, (-30, 12, 800)
    return series(affine)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_seg_on_oblique_and_tilted_slices(source, kind, tmp_path):
    segmentation = Segmentation(ring_and_spots(), source.geometry, LABELS)
    identity = Identity.new(LABELS)
    path = tmp_path / "seg.dcm"
    write_seg(segmentation, path, source=source, kind=kind, identity=identity)
    wanted = Planes.on_grid(segmentation.array, segmentation.geometry, LABELS.ids)
    numbers = {t.uid: i for i, t in identity.tracking.items()}
    off = apart(reopen_seg(path, wanted, numbers), wanted)
    assert (off.voxels_differing, off.laterality) == (0, True)
    assert off.grid_mm < 1e-3

    dataset = pydicom.dcmread(path)
    for group in dataset.PerFrameFunctionalGroupsSequence[:1]:
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y + 0.3, z]
    dataset.save_as(path)
    assert apart(reopen_seg(path, wanted, numbers), wanted).grid_mm == pytest.approx(0.3, abs=0.01)
    with pytest.raises(InputError, match="cannot be read back"):
        reopen_seg(path, wanted, {})


def test_rtstruct_on_oblique_and_tilted_slices(source, tmp_path):
    segmentation = Segmentation(ring_and_spots(), source.geometry, LABELS)
    path = tmp_path / "rtstruct.dcm"
    write_rtstruct(segmentation, path, source=source)
    wanted = Planes.on_grid(segmentation.array, segmentation.geometry, LABELS.ids)
    off = apart(reopen_rtstruct(path, wanted), wanted)
    assert (off.voxels_differing, off.laterality) == (0, True)
    assert off.grid_mm < 1e-2

    dataset = pydicom.dcmread(path)
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    contour.ContourData = [f"{v:.6f}" for v in (points + source.geometry.affine[:3, 2]).ravel()]
    dataset.save_as(path)
    assert apart(reopen_rtstruct(path, wanted), wanted).voxels_differing > 0
    del dataset.ROIContourSequence[2]
    dataset.save_as(path)
    with pytest.raises(InputError, match="2 structures; expected 3"):
        reopen_rtstruct(path, wanted)


@settings(max_examples=150)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(np.any))
def test_the_winding_rule_fills_any_outline_exactly(mask):
    np.testing.assert_array_equal(wound(outlined(mask), mask.shape), mask)


@settings(max_examples=50)
@given(hnp.arrays(np.bool_, (7, 8)).filter(np.any), st.integers(0, 10**6))
def test_outlines_moved_by_rounding_enclose_the_same(mask, seed):
    rng = np.random.default_rng(seed)
    shaken = [p + rng.uniform(-1e-4, 1e-4, p.shape) for p in outlined(mask)]
    np.testing.assert_array_equal(wound(shaken, mask.shape), mask)


@pytest.mark.parametrize("damage", [lambda b: b[:200], lambda b: b"", lambda b: b"\0" * len(b)])
def test_damaged_files_are_refused(damage, tmp_path):
    segmentation = Segmentation(ring_and_spots(), Geometry(SHAPE, np.eye(4)), LABELS)
    path = tmp_path / "a.nii"
    write_segmentation(segmentation, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError):
        reopen_nifti(path, LABELS.ids)
    with pytest.raises(InputError, match="cannot be read back"):
        reopen_rtstruct(path, Planes.on_grid(segmentation.array, segmentation.geometry, LABELS.ids))


def test_other_sizes_are_no_comparison():
    one = Planes.on_grid(ring_and_spots(), Geometry(SHAPE, np.eye(4)), LABELS.ids)
    other = Planes(one.array[1:], one.origins_lps[1:], one.steps_lps, one.ids)
    with pytest.raises(InputError, match="expected"):
        apart(other, one)
