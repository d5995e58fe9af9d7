"""Real multi-frame objects and mosaics: their frames and tiles lie where other readers see them, voxel by voxel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.io.dicom import find_series, inspect_folder, read_series
from medseg.io.dicom.source import Repairs

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def assert_same_in_world(volume, path, *, number=None):
    """Compare a volume with a NIfTI file, whose voxel axes may differ: every voxel has its partner within 0.01 mm."""
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    data = data.reshape(data.shape[:3]) if number is None else data[..., number]
    index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.shape), indexing="ij"), axis=-1)
    inverse = np.linalg.inv(image.affine)
    exact = (volume.geometry.to_lps(index) * RAS_TO_LPS) @ inverse[:3, :3].T + inverse[:3, 3]
    nearest = np.rint(exact).astype(int)
    assert np.abs((exact - nearest) @ image.affine[:3, :3].T).max() < 0.01
    assert data.size == volume.array[0].size
    np.testing.assert_allclose(data[tuple(np.moveaxis(nearest, -1, 0))], volume.array[0], rtol=1e-5)


@pytest.mark.parametrize("case", ["enhanced_mr_philips", "enhanced_mr_siemens"])
def test_enhanced_objects_lie_where_the_reference_says(case, test_data):
    folder = test_data / "dicom_edge" / case
    (series,) = [item for item in inspect_folder(folder).items if item.kind == "series"]
    assert [piece.frame for piece in series.source.slices] in ([*range(8)], [*range(8)][::-1])
    assert_same_in_world(read_series(series), folder / "001_ground_truth.nii.gz")


def test_enhanced_ct_rises_along_its_normal(test_data):
    (series,) = inspect_folder(test_data / "dicom_edge" / "enhanced_ct").items
    np.testing.assert_allclose(series.geometry.origin_lps, (99.5, -301.5, -149.0))
    np.testing.assert_allclose(series.spacing_mm, (10.0, 0.388672, 0.388672))
    assert [piece.frame for piece in series.source.slices] == [1, 0]  # rows run to the left: the normal points down


def test_single_frames_and_their_legacy_conversion_are_one_volume(test_data):
    folder = test_data / "dicom_edge" / "seg_multiframe_source"
    single, converted = read_series(folder / "image"), read_series(folder / "multiframe")
    assert single.geometry.same_grid(converted.geometry, 1e-6)
    np.testing.assert_array_equal(single.array, converted.array)


def test_without_functional_groups_the_place_is_said_to_be_absent(test_data):
    (series,) = inspect_folder(test_data / "dicom_edge" / "enhanced_small_compressed").items
    assert (series.status, series.geometry, len(series.paths)) == ("refused", None, 4)
    assert "without functional groups" in series.reason


def _dcm2niix():
    """Return the program, from beside the Python of the tests or from the path; skip where it is not there."""
    found = shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or shutil.which("dcm2niix")
    if found is None:
        pytest.skip("dcm2niix is not installed (pip install dcm2niix)")
    return found


@pytest.mark.parametrize("number", [0, 1])
def test_a_mosaic_is_taken_apart_as_dcm2niix_does(number, test_data, tmp_path):
    folder = test_data / "dicom_edge" / "mosaic"
    subprocess.run([_dcm2niix(), "-b", "n", "-z", "n", "-f", "it", "-o", str(tmp_path), str(folder)], check=True)
    volume = read_series(folder, repairs=Repairs(volume=number, mosaic="split"))
    assert volume.geometry.shape == (5, 72, 72)
    assert_same_in_world(volume, tmp_path / "it.nii", number=number)


def test_a_mosaic_is_not_taken_apart_unasked(test_data):
    with pytest.raises(InputError) as caught:
        find_series(test_data / "dicom_edge" / "mosaic", volume=0)
    assert (caught.value.code, "--mosaic split" in caught.value.remedy) == ("mosaic", True)
