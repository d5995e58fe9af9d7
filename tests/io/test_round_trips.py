"""What is written is what is read: every grid, every format, every voxel type, or a sentence that says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg import io
from medseg.errors import InputError, OutputError
from medseg.geometry import Geometry
from medseg.io.images import picture_grid
from medseg.io.verify import same_bits
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS_OF_SPACE = ["nii", "nii.gz", "nrrd", "mha"]
TYPES = ["uint8", "int8", "uint16", "int16", "int32", "float32"]


def voxels(shape: tuple[int, ...], dtype: str = "int16", seed: int = 0) -> np.ndarray:
    """Return numbers that differ all over and reach the ends of their type."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        array = rng.normal(0, 1e5, shape).astype(np.float32)
        array.flat[0] = np.nextafter(np.float32(1), np.float32(2))
        return array
    limits = np.iinfo(dtype)
    array = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    array.flat[0], array.flat[-1] = limits.min, limits.max
    return array


def refusal(reader: Callable[[Path], object], path: Path) -> str | None:
    """Return why a file was refused, or None where it was read; any other error goes through."""
    try:
        reader(path)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("suffix", FORMATS_OF_SPACE)
def test_every_grid_comes_back(suffix: str, grid: Geometry, tmp_path: Path):
    array = voxels((1, *grid.shape))
    path = tmp_path / f"a.{suffix}"
    io.write_volume(Volume(array, grid), path)
    back = io.read_volume(path)
    assert same_bits(back.array, array)
    assert np.abs(back.geometry.corners_lps - grid.corners_lps).max() < 1e-3
    assert np.array_equal(io.read_geometry(path).affine, back.geometry.affine)
    assert back.geometry.axis_codes == grid.axis_codes


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", FORMATS_OF_SPACE)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_type_and_number_of_channels_comes_back(suffix: str, dtype: str, channels: int, tmp_path: Path):
    grid = Geometry((2, 3, 4), np.diag([-2.0, 1.5, 0.5, 1.0]))
    array = voxels((channels, *grid.shape), dtype)
    path = tmp_path / f"a.{suffix}"
    io.write_volume(Volume(array, grid, tuple(f"c{i}" for i in range(channels))), path)
    assert same_bits(io.read_volume(path).array, array)
    for i in range(channels):
        assert same_bits(io.read_volume(path, volume=i).array, array[i : i + 1])
    description = io.describe(path)
    assert (description.volumes, description.dtype, description.is_placed) == (channels, dtype, True)
    io.check_length(path)


@pytest.mark.parametrize("suffix", FORMATS_OF_SPACE)
def test_bits_of_infinities_and_nans_come_back(suffix: str, tmp_path: Path):
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32).reshape(1, 1, 2, 3)
    path = tmp_path / f"a.{suffix}"
    io.write_volume(Volume(array, Geometry((1, 2, 3), np.eye(4))), path)
    assert same_bits(io.read_volume(path).array, array)


@pytest.mark.parametrize("suffix", FORMATS_OF_SPACE)
def test_voxels_in_any_memory_order_come_back(suffix: str, tmp_path: Path):
    array = voxels((4, 3, 2, 5)).transpose(3, 2, 1, 0)[:, ::-1, :, ::-1]
    path = tmp_path / f"a.{suffix}"
    io.write_volume(Volume(array, Geometry(array.shape[1:], np.eye(4)), tuple("abcde")), path)
    assert same_bits(io.read_volume(path).array, array)


@pytest.mark.parametrize("suffix", [*FORMATS_OF_SPACE, "tif", "png"])
@pytest.mark.parametrize("top", [1, 255, 256, 65535])
def test_masks_come_back_with_their_labels(suffix: str, top: int, tmp_path: Path):
    labels = LabelSet.from_names({1: "first", top: "last"} if top > 1 else {1: "only"})
    array = np.zeros((1, 4, 5), np.uint8 if top < 256 else np.uint16)
    array[0, 1, 2], array[0, 3, 4] = 1, top
    path = tmp_path / f"m.{suffix}"
    io.write_segmentation(Segmentation(array, picture_grid(array.shape), labels), path)
    back = io.read_segmentation(path, labels=labels)
    assert same_bits(back.array, array)
    assert back.labels == labels
    assert io.read_segmentation(path).labels.names == tuple(f"label_{i}" for i in sorted({1, top}))


def test_masks_of_wide_type_are_written_as_uint16(tmp_path: Path):
    array = np.zeros((2, 3, 4), np.uint32)
    array[0, 0, 0] = 300
    grid = Geometry((2, 3, 4), np.eye(4))
    io.write_segmentation(Segmentation(array, grid, LabelSet.from_names({300: "x"})), tmp_path / "m.nii.gz")
    back = io.read_segmentation(tmp_path / "m.nii.gz")
    assert back.array.dtype == np.uint16
    assert np.array_equal(back.array, array)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_refuse_a_turned_grid_in_a_sentence(suffix: str, grid: Geometry, tmp_path: Path):
    array = voxels((1, *grid.shape), "uint8")
    with pytest.raises(OutputError, match=r"cannot hold the grid|slices") as caught:
        io.write_volume(Volume(array, grid), tmp_path / f"a.{suffix}")
    assert str(tmp_path / f"a.{suffix}") in str(caught.value)
    assert "Write NIfTI" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.jpg", "a.mhd", "a.dcm", "a", "a.nhdr", "a.img", "a.nii.bz2"])
def test_formats_that_are_not_written_are_refused(name: str, tmp_path: Path):
    scan = Volume(voxels((1, 1, 3, 4), "uint8"), picture_grid((1, 3, 4)))
    with pytest.raises(OutputError, match="are not written"):
        io.write_volume(scan, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS_OF_SPACE)
@pytest.mark.parametrize("dtype", ["float64", "int64", "uint32", "float16"])
def test_types_that_would_change_are_refused(suffix: str, dtype: str, tmp_path: Path):
    scan = Volume(np.zeros((1, 2, 3, 4), dtype), Geometry((2, 3, 4), np.eye(4)))
    with pytest.raises(OutputError, match=f"type {dtype}"):
        io.write_volume(scan, tmp_path / f"a.{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [*FORMATS_OF_SPACE, "png", "tif"])
@pytest.mark.parametrize("fault", ["voxel", "grid"])
def test_a_file_that_reads_back_different_never_appears(suffix: str, fault: str, tmp_path: Path, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    grid = picture_grid((1, 3, 4))
    io.write_volume(Volume(np.zeros((1, 1, 3, 4), np.uint8), grid), path)
    before = path.read_bytes()
    module = io._module(io.suffix_of(path))
    write = module.write

    def wrong(array_czyx: np.ndarray, geometry: Geometry, path: Path) -> None:
        if fault == "voxel":
            array_czyx = array_czyx.copy()
            array_czyx[0, 0, 1, 1] ^= 1
        else:
            geometry = Geometry((1, 4, 3), geometry.affine)
            array_czyx = array_czyx.reshape(1, 1, 4, 3)
        write(array_czyx, geometry, path)

    monkeypatch.setattr(module, "write", wrong)
    with pytest.raises(OutputError, match="came back"):
        io.write_volume(Volume(np.ones((1, 1, 3, 4), np.uint8), grid), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS_OF_SPACE)
def test_a_grid_beyond_the_precision_of_the_format_never_passes(suffix: str, tmp_path: Path):
    affine = np.eye(4)
    affine[:3, 3] = 123456.789012  # float32 steps here are 8 micrometres
    affine[0, 3] = 9.87654321e7  # and 8 mm here
    scan = Volume(np.zeros((1, 2, 3, 4), np.uint8), Geometry((2, 3, 4), affine))
    path = tmp_path / f"a.{suffix}"
    if suffix.startswith("nii"):
        with pytest.raises(OutputError, match="mm off"):
            io.write_volume(scan, path)
        assert not path.exists()
    else:
        io.write_volume(scan, path)
        assert np.abs(io.read_geometry(path).corners_lps - scan.geometry.corners_lps).max() < 1e-3


def test_an_extent_beyond_nifti_1_is_written_as_nifti_2(tmp_path: Path):
    array = voxels((1, 1, 1, 40000), "uint8")
    io.write_volume(Volume(array, Geometry((1, 1, 40000), np.diag([1, 1, 0.01, 1.0]))), tmp_path / "a.nii.gz")
    assert same_bits(io.read_volume(tmp_path / "a.nii.gz").array, array)


@pytest.mark.parametrize(
    "name",
    ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.png", "a.tif", "a.jpg", "a.hdr", "a.xyz", "a", "a.dcm"],
)
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path):
    for reader in (io.read_volume, io.read_geometry, io.read_segmentation, io.describe, io.check_length):
        with pytest.raises(InputError) as caught:
            reader(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    "suffix", ["nii", "nii.gz", "nrrd", "mha", "mhd", "png", "jpg", "bmp", "tif", "hdr", "dcm", "xyz"]
)
@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"hello, this is no image\n" * 40, b"\x1f\x8b\x08\x00" + bytes(600), bytes(4000)]
)
def test_what_is_no_image_is_refused_with_its_path(suffix: str, content: bytes, tmp_path: Path, capfd):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    for reader in (io.read_volume, io.read_geometry, io.read_segmentation):
        with pytest.raises(InputError) as caught:
            reader(path)
        assert path.name in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [*FORMATS_OF_SPACE, "png", "tif"])
def test_a_file_cut_anywhere_is_refused(suffix: str, tmp_path: Path, capfd):
    path = tmp_path / f"a.{suffix}"
    io.write_volume(Volume(voxels((1, 1, 40, 50), "uint16"), picture_grid((1, 40, 50))), path)
    whole = path.read_bytes()
    for kept in sorted({*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1}):
        if suffix == "png" and kept > len(whole) - 13:
            continue  # only the closing IEND chunk is cut: every pixel and its checksum are there
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError) as caught:
            io.read_volume(path)
        assert str(path) in str(caught.value), kept
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [*FORMATS_OF_SPACE, "png", "tif", "bmp", "jpg"])
def test_damaged_headers_never_end_in_a_traceback(suffix: str, tmp_path: Path, capfd):
    path = tmp_path / f"a.{suffix}"
    if suffix in ("bmp", "jpg"):
        from PIL import Image

        Image.fromarray(voxels((20, 20), "uint8")).save(path)
    else:
        io.write_volume(Volume(voxels((1, 1, 20, 20), "uint8"), picture_grid((1, 20, 20))), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(200):
        block = bytearray(whole)
        for position in rng.integers(0, min(len(block), 600), 3):
            block[position] = rng.integers(0, 256)
        path.write_bytes(block)
        for reader in (io.read_volume, io.read_geometry):
            outcome = refusal(reader, path)
            assert outcome is None or str(path) in outcome
    capfd.readouterr()  # what libraries print about such files is caught, and not judged


def test_channels_are_named_and_counted(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    io.write_volume(Volume(voxels((2, 2, 3, 4)), Geometry((2, 3, 4), np.eye(4)), ("T1", "T2")), path)
    assert io.read_volume(path).channels == ("image_0", "image_1")
    assert io.read_volume(path, channels=("T1", "T2")).channels == ("T1", "T2")
    assert io.read_volume(path, channels=["T2"], volume=1).channels == ("T2",)
    with pytest.raises(InputError, match="2 channels; expected 1: CT"):
        io.read_volume(path, channels=["CT"])
    for wrong in (-1, 2):
        with pytest.raises(InputError, match=f"no volume {wrong}"):
            io.read_volume(path, volume=wrong)
    with pytest.raises(InputError, match="2 channels; expected 1"):
        io.read_segmentation(path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([0, -1], "from -1 to 0"), ([0, 0.5], "not whole"), ([0, np.nan], "not finite"), ([0, 70000], "0 to 70000|70000")],
)
def test_a_mask_of_other_numbers_is_refused(values: list[float], reason: str, tmp_path: Path):
    path = tmp_path / "m.nii.gz"
    array = np.array(values, np.float32).reshape(1, 1, 1, 2)
    io.write_volume(Volume(array, Geometry((1, 1, 2), np.eye(4))), path)
    with pytest.raises(InputError, match=reason) as caught:
        io.read_segmentation(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "float32", "uint16"])
def test_a_mask_stored_as_other_numbers_is_read(dtype: str, tmp_path: Path):
    path = tmp_path / "m.nrrd"
    array = np.array([0, 3, 100, 7], dtype).reshape(1, 1, 2, 2)
    io.write_volume(Volume(array, Geometry((1, 2, 2), np.eye(4))), path)
    mask = io.read_segmentation(path)
    assert mask.array.dtype == (np.uint16 if dtype == "uint16" else np.uint8)
    assert mask.labels.ids == (3, 7, 100)
    with pytest.raises(InputError, match=r"value 7; expected 0 or one of 3, 100"):
        io.read_segmentation(path, labels=LabelSet.from_names({3: "a", 100: "b"}))


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(OutputError, match="folder of this name"):
        io.write_volume(Volume(voxels((1, 2, 3, 4)), Geometry((2, 3, 4), np.eye(4))), tmp_path / "a.nii.gz")
    with pytest.raises(InputError):
        io.read_volume(tmp_path / "a.nii.gz")


def test_reading_a_file_imports_neither_torch_nor_other_formats(tmp_path: Path):
    import subprocess
    import sys

    path = tmp_path / "a.nii.gz"
    io.write_volume(Volume(voxels((1, 2, 3, 4)), Geometry((2, 3, 4), np.eye(4))), path)
    script = (
        f"import sys, medseg.io as io; io.read_volume({str(path)!r});"
        "print(sorted({'torch', 'monai', 'SimpleITK', 'highdicom', 'tifffile'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
