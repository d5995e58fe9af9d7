"""Maps as files: other libraries read what was written, and the comparison sees what is wrong."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg import scratch
from medseg.errors import InputError, OutputError
from medseg.geometry import Geometry
from medseg.io import nifti
from medseg.io.maps import compare_map, write_map
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (4, 5, 6)


def a_map(channels: int = 3, shape: tuple[int, int, int] = SHAPE) -> Volume:
    affine = np.array([[0, 0, 1.5, -20], [0.1, 1.4, 0, 30], [2.0, -0.07, 0, 7], [0, 0, 0, 1.0]])
    array = scratch.empty((channels, *shape))
    array[:] = np.random.default_rng(0).random(array.shape, np.float32)
    return Volume(array, Geometry(shape, affine), tuple(f"{c}" for c in range(channels)))


@pytest.mark.parametrize("channels", [1, 3])
def test_other_libraries_read_the_same_numbers(channels: int, tmp_path: Path) -> None:
    volume, path = a_map(channels), tmp_path / "map.nii.gz"
    write_map(volume, path)
    assert compare_map(path, volume) == (pytest.approx(0, abs=1e-4), 0)
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.float32
    found = np.asarray(image.dataobj).T.reshape(volume.array.shape)
    np.testing.assert_array_equal(found, volume.array)
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).reshape(volume.array.shape)
    np.testing.assert_array_equal(itk, volume.array)


def test_a_header_of_the_second_kind_is_compared_too(tmp_path: Path) -> None:
    volume, path = a_map(1, (1, 1, 40_000)), tmp_path / "map.nii.gz"
    write_map(volume, path)
    assert isinstance(nibabel.load(path), nibabel.Nifti2Image)
    assert compare_map(path, volume).voxels_differing == 0


def test_what_differs_is_counted(tmp_path: Path) -> None:
    volume, path = a_map(), tmp_path / "map.nii.gz"
    other = volume.array.copy()
    other[1, 2, 3, 4] += 1e-6
    other[2, 0, 0, 0] = -other[2, 0, 0, 0]
    write_map(Volume(other, volume.geometry, volume.channels), path)
    assert compare_map(path, volume).voxels_differing == 2
    moved = volume.geometry.affine.copy()
    moved[0, 3] += 0.5
    write_map(Volume(volume.array, Geometry(SHAPE, moved), volume.channels), path)
    off = compare_map(path, volume)
    assert off.grid_mm == pytest.approx(0.5, abs=1e-4)
    assert not off.voxels_differing


def longer(content: bytes) -> bytes:
    return content + b"more"


def shorter(content: bytes) -> bytes:
    return content[:-4]


def scaled(content: bytes) -> bytes:
    return content[:112] + np.float32(2).tobytes() + content[116:]


def headless(content: bytes) -> bytes:
    return b"\0" * 400 + content[400:]


def unplaced(content: bytes) -> bytes:
    return content[:254] + b"\0\0" + content[256:]


@pytest.mark.parametrize("spoil", [longer, shorter, scaled, headless, unplaced])
def test_what_is_no_such_map_is_refused(spoil: Any, tmp_path: Path) -> None:
    volume, path = a_map(), tmp_path / "map.nii.gz"
    write_map(volume, path)
    path.write_bytes(gzip.compress(spoil(gzip.decompress(path.read_bytes()))))
    with pytest.raises(InputError):
        compare_map(path, volume)


def test_what_is_damaged_or_of_another_size_is_refused(tmp_path: Path) -> None:
    volume, path = a_map(), tmp_path / "map.nii.gz"
    write_map(volume, path)
    with pytest.raises(InputError, match=r"that of a map of \(2, 4, 5, 6\) numbers"):
        compare_map(path, Volume(volume.array[:2], volume.geometry, ("a", "b")))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot be read back"):
        compare_map(path, volume)


def test_a_disk_that_is_full_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti.stream, "compressed_writer", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_map(a_map(), tmp_path / "map.nii.gz")
    assert not list(tmp_path.iterdir())
