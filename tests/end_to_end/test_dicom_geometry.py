"""Real DICOM series lie where other readers see them, voxel by voxel: nibabel on reference files, and dcm2niix."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medseg.errors import InputError
from medseg.io.dicom import find_series, inspect_folder, read_seg, read_series, seg_obstacle, write_seg
from medseg.labels import LabelSet
from medseg.volume import Segmentation

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def assert_same_in_world(volume, path, *, tol_mm=0.01, rtol=0.0, number=None):
    """Compare a volume with a NIfTI file: every voxel has its partner at the same place, with the same value."""
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    data = data if number is None else data[..., number]
    index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.shape), indexing="ij"), axis=-1)
    ras = volume.geometry.to_lps(index) * RAS_TO_LPS
    inverse = np.linalg.inv(image.affine)
    exact = ras @ inverse[:3, :3].T + inverse[:3, 3]
    nearest = np.rint(exact).astype(int)
    assert np.abs((exact - nearest) @ image.affine[:3, :3].T).max() < tol_mm
    assert data.size == volume.array[0].size
    np.testing.assert_allclose(data[tuple(np.moveaxis(nearest, -1, 0))], volume.array[0], rtol=rtol)


@pytest.mark.parametrize(
    ("case", "reference", "rtol"),
    [
        ("coronal", "001", 0.0),
        ("oblique_38deg", "001", 0.0),
        ("sagittal_oblique", "001", 0.0),
        ("per_slice_rescale", "002_non_isotropic", 1e-6),
        ("ts_implicit_le", "001_implicit", 0.0),
        ("ts_jpeg2000_lossless", "001", 0.0),
        ("ts_reference_uncompressed", "001", 0.0),
    ],
)
def test_reference_files_agree(case, reference, rtol, test_data):
    folder = test_data / "dicom_edge" / case
    series = [item for item in inspect_folder(folder).items if item.kind == "series"]
    assert_same_in_world(read_series(series[0]), folder / f"{reference}_ground_truth.nii.gz", rtol=rtol)


@pytest.mark.parametrize("case", ["dwi_4d", "fmri_4d"])
@pytest.mark.parametrize("number", [0, 1])
def test_each_volume_of_a_4d_series_agrees(case, number, test_data):
    folder = test_data / "dicom_edge" / case
    (series,) = [item for item in inspect_folder(folder).items if item.kind == "series"]
    assert_same_in_world(read_series(series, volume=number), folder / "001_ground_truth.nii.gz", number=number)


@pytest.mark.parametrize(
    ("name", "dtype", "rtol"), [("CT", "int16", 0), ("MR_T1", "int16", 0), ("PET", "float32", 2e-6)]
)
def test_nifti_and_dicom_of_one_scan_agree(name, dtype, rtol, test_data):
    patient = test_data / "dicom" / "sarcoma" / "STS_002"
    volume = read_series(patient / "dicom" / name / "image")
    assert volume.array.dtype == dtype
    assert_same_in_world(volume, patient / "nifti" / f"{name}_image.nii.gz", rtol=rtol)


def test_lossless_syntaxes_hold_the_same_voxels(test_data):
    names = ("ts_jpeg2000_lossless", "ts_jpeg_lossless", "ts_jpegls_lossless", "ts_rle")
    first, *others = (read_series(list((test_data / "dicom_edge" / name).glob("*.dcm"))) for name in names)
    for other in others:
        np.testing.assert_array_equal(other.array, first.array)
        assert other.geometry.same_grid(first.geometry, 1e-6)


def test_one_slice_in_five_syntaxes(test_data):
    files = sorted((test_data / "dicom_edge" / "ts_single_ct_slice").glob("*.dcm"))
    images = {file.name: read_series(file).array.astype(int) for file in files}
    assert len(images) == 5
    plain = images.pop("CTImage.dcm")
    for name, image in images.items():
        assert np.abs(image - plain).max() <= (5 if "JPEG2000" in name else 0)


def test_big_endian_is_read_as_its_little_endian_twin(test_data):
    folder = test_data / "dicom_edge" / "ts_big_endian"
    big, little = (read_series(folder / name).array for name in ("MR_small_bigendian.dcm", "MR_small.dcm"))
    np.testing.assert_array_equal(big, little)


SERIES = [
    "dicom/ct_abdomen/series",
    "dicom/mr_brain_study1/12-T1post-05670",
    "dicom/mr_brain_study1/13_HCropVolume",
    "dicom/sarcoma/STS_025/dicom/CT/image",
    "dicom/sarcoma/STS_025/dicom/MR_T1/image",
    "dicom_edge/coronal",
    "dicom_edge/oblique_38deg",
    "dicom_edge/sagittal_oblique",
    "dicom_edge/ts_jpeg_lossless",
    "dicom_edge/seg_multiframe_source/image",
]


@pytest.mark.parametrize("folder", SERIES)
def test_dcm2niix_sees_the_same_world(folder, test_data, tmp_path):
    program = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if program is None:
        pytest.skip("dcm2niix is not installed")
    subprocess.run(
        [program, "-z", "n", "-b", "n", "-f", "x", "-o", tmp_path, test_data / folder], check=True, capture_output=True
    )
    (image,) = tmp_path.glob("*.nii")
    assert_same_in_world(read_series(test_data / folder), image)


@pytest.mark.parametrize(
    "folder",
    [
        "dicom/mr_brain_study1/12-T1post-05670",
        "dicom/mr_brain_study1/13_HCropVolume",
        "dicom/sarcoma/STS_002/dicom/CT/image",
        "dicom_edge/gantry_tilt",
        "dicom_edge/single_slice",
        "dicom_edge/seg_with_images",
        "dicom_edge/per_slice_rescale",
    ],
)
def test_a_seg_of_a_real_series_is_sound(folder, test_data, tmp_path):
    source = find_series(test_data / folder)
    z, y, x = source.geometry.shape
    array = np.zeros((z, y, x), np.uint8)
    array[:, y // 4 : y // 2, x // 4 : x // 2] = 1
    array[z // 2 :, y // 2 : y - 3, x // 3 :] = 2
    segmentation = Segmentation(array, source.geometry, LabelSet.from_names({1: "liver", 2: "kidney_left"}))
    write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", onto=source.geometry).array, array)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    uids = {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in source.paths}
    assert {str(i.ReferencedSOPInstanceUID) for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == uids
    if shutil.which("dciodvfy"):
        result = subprocess.run(["dciodvfy", tmp_path / "seg.dcm"], capture_output=True, text=True, check=False)
        assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == []


def test_a_series_without_study_uid_gets_no_seg(test_data, tmp_path):
    source = find_series(test_data / "dicom" / "ct_abdomen" / "series")
    labels = LabelSet.from_names({1: "liver"})
    segmentation = Segmentation(np.zeros(source.geometry.shape, np.uint8), source.geometry, labels)
    assert seg_obstacle(source).code == "format-not-applicable"
    with pytest.raises(InputError, match="StudyInstanceUID"):
        write_seg(segmentation, tmp_path / "seg.dcm", source=source)


def test_another_writers_seg_is_read(test_data):
    folder = test_data / "dicom_edge" / "seg_with_images"
    source = find_series(sorted(folder.glob("0*.dcm")))
    mask = read_seg(folder / "liver.dcm", onto=source.geometry)
    import SimpleITK as sitk

    reference = sitk.ReadImage(str(folder / "liver_seg.nrrd"))
    index = np.argwhere(mask.array)
    points = mask.geometry.to_lps(index)
    theirs = sitk.GetArrayFromImage(reference)
    assert len(index) == np.count_nonzero(theirs) > 0
    assert all(theirs[reference.TransformPhysicalPointToIndex(p.tolist())[::-1]] for p in points[::97])
