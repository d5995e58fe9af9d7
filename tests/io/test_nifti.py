"""NIfTI against the standard, nibabel and SimpleITK, and against headers that lie."""

from __future__ import annotations

import gzip
import itertools
import struct
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg import io
from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io import nifti, stream
from medseg.io.verify import same_bits
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, UNITS, QFORM, SFORM, MAGIC = 40, 70, 76, 108, 112, 123, 252, 254, 344


def affine_ras(geometry: Geometry) -> np.ndarray:
    """Return what nibabel would call the affine, worked out from three points, not by swapping columns."""
    steps = [geometry.to_lps(p) - geometry.to_lps([0, 0, 0]) for p in ([0, 0, 1], [0, 1, 0], [1, 0, 0])]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.stack(steps, axis=1), geometry.to_lps([0, 0, 0])
    return RAS @ affine


def written(path: Path, dtype: str = "int16", shape: tuple[int, ...] = (2, 3, 4)) -> bytearray:
    """Write a small NIfTI file by nibabel and return its bytes."""
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0]), dtype=dtype), path)
    return bytearray(path.read_bytes())


def patched(path: Path, patches: dict[int, tuple[str, Any]]) -> Path:
    """Overwrite fields of a small NIfTI file."""
    block = written(path)
    for offset, (form, value) in patches.items():
        struct.pack_into(f"<{form}", block, offset, *(value if isinstance(value, tuple) else (value,)))
    path.write_bytes(block)
    return path


# -- oracles -------------------------------------------------------------------------------------------------------


def test_nibabel_sees_our_files_where_we_put_them(grid: Geometry, tmp_path: Path):
    array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(1, *grid.shape)
    io.write_volume(Volume(array, grid), tmp_path / "a.nii.gz")
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.shape == grid.shape[::-1]
    assert np.allclose(image.affine, affine_ras(grid), atol=1e-4)
    assert np.array_equal(np.asanyarray(image.dataobj), array[0].transpose(2, 1, 0))
    assert image.header.get_xyzt_units()[0] == "mm"
    assert np.allclose(image.header.get_zooms(), grid.spacing_mm[::-1], rtol=1e-6)


def test_we_see_nibabels_files_where_it_puts_them(grid: Geometry, tmp_path: Path):
    array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape[::-1])
    nibabel.save(nibabel.Nifti1Image(array, affine_ras(grid)), tmp_path / "a.nii")
    scan = io.read_volume(tmp_path / "a.nii")
    assert np.abs(scan.geometry.corners_lps - grid.corners_lps).max() < 1e-3
    for index in np.ndindex(array.shape):
        assert scan.array[0][index[::-1]] == array[index]


def test_simpleitk_sees_our_files_where_we_put_them(right_angled: Geometry, tmp_path: Path):
    io.write_volume(Volume(np.zeros((1, *right_angled.shape), np.int16), right_angled), tmp_path / "a.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    z, y, x = right_angled.shape
    for index in np.ndindex(2, 2, 2):
        z_, y_, x_ = (i * (n - 1) for i, n in zip(index, (z, y, x), strict=True))
        assert np.allclose(
            image.TransformIndexToPhysicalPoint((x_, y_, z_)), right_angled.to_lps([z_, y_, x_]), atol=1e-3
        )


def test_a_sheared_grid_uses_the_sform_alone(sheared: Geometry, tmp_path: Path):
    io.write_volume(Volume(np.zeros((1, 3, 4, 5), np.int16), sheared), tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)


def test_the_qform_is_equal_or_unused(right_angled: Geometry, tmp_path: Path):
    io.write_volume(Volume(np.zeros((1, *right_angled.shape), np.int16), right_angled), tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    assert int(header["sform_code"]) == 1
    if int(header["qform_code"]) == 1:
        assert np.allclose(header.get_qform(), header.get_sform(), atol=1e-3)
    else:
        assert not np.allclose(header.get_qform(), header.get_sform(), atol=1e-4)


def test_a_plain_grid_has_a_qform(tmp_path: Path):
    grid = Geometry((2, 3, 4), np.array([[0, 0, 0.7, -180], [0, 0.7, 0, -170], [2.5, 0, 0, 900], [0, 0, 0, 1]]))
    io.write_volume(Volume(np.zeros((1, 2, 3, 4), np.int16), grid), tmp_path / "a.nii")
    assert int(nibabel.load(tmp_path / "a.nii").header["qform_code"]) == 1


def test_real_files_lie_where_nibabel_and_simpleitk_see_them(test_data: Path):
    files = sorted(p for p in test_data.rglob("*.nii.gz") if "hippocampus" not in str(p))
    files += sorted((test_data / "hippocampus" / "imagesTr").glob("*.nii.gz"))[:5]
    assert len(files) > 30
    for path in files:
        scan = io.read_volume(path)
        theirs = nibabel.load(path)
        assert np.allclose(affine_ras(scan.geometry), theirs.affine, atol=1e-4), path
        ours = scan.array[0].transpose(2, 1, 0)
        first = np.asanyarray(theirs.dataobj).reshape(*ours.shape, -1)[..., 0]
        assert np.array_equal(ours, first.astype(ours.dtype)), path
        io.check_length(path)
        image = sitk.ReadImage(str(path))
        last = [n - 1 for n in image.GetSize()]
        place = image.TransformIndexToPhysicalPoint(last)[:3]
        assert np.allclose(scan.geometry.to_lps(last[2::-1]), place, atol=0.02), path


# -- the standard --------------------------------------------------------------------------------------------------


def test_the_sform_goes_before_the_qform(tmp_path: Path):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4))
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=2)
    image.set_qform(np.diag([3.0, 3, 3, 1]), code=1)
    nibabel.save(image, tmp_path / "a.nii")
    assert np.allclose(io.read_geometry(tmp_path / "a.nii").affine[:3, 2], [-2, 0, 0])
    patched_file = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<h", patched_file, SFORM, 0)
    (tmp_path / "a.nii").write_bytes(patched_file)
    assert np.allclose(io.read_geometry(tmp_path / "a.nii").affine[:3, 2], [-3, 0, 0])


def test_without_codes_voxel_sizes_count_as_in_itk(tmp_path: Path):
    path = patched(tmp_path / "a.nii", {QFORM: ("h", 0), SFORM: ("h", 0)})
    description = io.describe(path)
    assert not description.is_placed
    image = sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (1, 2, 3)):
        assert np.allclose(description.geometry.to_lps(index[::-1]), image.TransformIndexToPhysicalPoint(index))


@pytest.mark.parametrize(("code", "mm"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (2 | 8, 1.0)])
def test_lengths_are_told_in_millimetres(code: int, mm: float, tmp_path: Path):
    path = patched(tmp_path / "a.nii", {UNITS: ("B", code)})
    assert np.allclose(io.read_geometry(path).spacing_mm, np.array([4, 3, 2]) * mm)


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "dtype"),
    [
        ("int16", 1.0, 0.0, "int16"),
        ("int16", 0.0, 5.0, "int16"),  # a slope of 0 means no scale at all
        ("int16", float("nan"), float("nan"), "int16"),
        ("int16", 1.0, -1024.0, "int16"),
        ("uint8", 1.0, -1024.0, "int16"),
        ("uint8", 300.0, 0.0, "int16"),
        ("uint8", 3000.0, 0.0, "int32"),
        ("int16", 100000.0, 0.0, "int32"),
        ("int16", 1e12, 0.0, "float32"),
        ("int16", 0.5, 0.0, "float32"),
        ("int16", 1.0, 0.25, "float32"),
        ("float32", 2.0, 1.0, "float32"),
        ("float64", 1.0, 0.0, "float32"),
        ("int64", 1.0, 0.0, "int32"),
        ("uint32", 1.0, 0.0, "int32"),
    ],
)
def test_the_scale_is_applied_and_whole_numbers_stay_whole(
    stored: str, slope: float, intercept: float, dtype: str, tmp_path: Path
):
    block = written(tmp_path / "a.nii", stored)
    struct.pack_into("<2f", block, SLOPE, slope, intercept)
    (tmp_path / "a.nii").write_bytes(block)
    scan = io.read_volume(tmp_path / "a.nii")
    assert scan.array.dtype == dtype
    theirs = np.asanyarray(nibabel.load(tmp_path / "a.nii").dataobj)
    assert np.allclose(scan.array[0].transpose(2, 1, 0), theirs, rtol=1e-6)


def test_both_byte_orders_and_versions_are_read(tmp_path: Path):
    array = np.random.default_rng(0).integers(-3000, 3000, (4, 3, 2), dtype=np.int16)
    for kind, order in itertools.product((nibabel.Nifti1Image, nibabel.Nifti2Image), "<>"):
        header = kind.header_class(endianness=order)
        header.set_data_dtype(np.int16)
        nibabel.save(kind(array, np.diag([1.0, 2, 3, 1]), header), tmp_path / "a.nii.gz")
        assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[0] == 0 or order == "<"
        scan = io.read_volume(tmp_path / "a.nii.gz")
        assert same_bits(scan.array[0], np.ascontiguousarray(array.T)), (kind, order)
        assert scan.geometry.spacing_mm == (3.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "czyx"),
    [
        ((4, 3), (1, 1, 3, 4)),
        ((4, 3, 2, 1), (1, 2, 3, 4)),
        ((4, 3, 2, 5), (5, 2, 3, 4)),
        ((4, 3, 2, 1, 6), (6, 2, 3, 4)),
    ],
)
def test_other_numbers_of_dimensions(shape: tuple[int, ...], czyx: tuple[int, ...], tmp_path: Path):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    scan = io.read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(scan.array, array.T.reshape(czyx))


def test_extensions_are_passed_over(tmp_path: Path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert np.array_equal(io.read_volume(tmp_path / "a.nii.gz").array[0].T, np.asanyarray(image.dataobj))
    io.check_length(tmp_path / "a.nii.gz")


# -- headers that lie ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patches", "reason"),
    [
        ({DIM: ("8h", (3, 32767, 32767, 32767, 1, 1, 1, 1))}, "promises|has 400 bytes"),
        ({DIM: ("8h", (7, 32767, 32767, 32767, 32767, 32767, 32767, 32767))}, "bytes"),
        ({DIM: ("8h", (3, 2, 3, 5, 1, 1, 1, 1))}, "400 bytes; expected 412"),
        ({DIM: ("8h", (3, -2, 3, 4, 1, 1, 1, 1))}, "sizes"),
        ({DIM: ("8h", (3, 0, 3, 4, 1, 1, 1, 1))}, "sizes"),
        ({DIM: ("8h", (0, 2, 3, 4, 1, 1, 1, 1))}, "0 dimensions"),
        ({DIM: ("8h", (1, 2, 3, 4, 1, 1, 1, 1))}, "1 dimensions"),
        ({DIM: ("8h", (9, 2, 3, 4, 1, 1, 1, 1))}, "9 dimensions"),
        ({DATATYPE: ("h", 999)}, "type code 999"),
        ({DATATYPE: ("h", 0)}, "type code 0|are"),
        ({DATATYPE: ("h", 32)}, "complex"),
        ({DATATYPE: ("h", 128)}, "colours"),
        ({DATATYPE: ("h", 2304)}, "colours"),
        ({DATATYPE: ("h", 1536)}, "voxels are"),
        ({VOX_OFFSET: ("f", float("nan"))}, "begin at byte nan"),
        ({VOX_OFFSET: ("f", float("inf"))}, "begin at byte inf"),
        ({VOX_OFFSET: ("f", -352.0)}, "begin at byte -352"),
        ({VOX_OFFSET: ("f", 100.0)}, "begin at byte 100"),
        ({VOX_OFFSET: ("f", 1e9)}, "bytes"),
        ({280: ("f", float("nan"))}, "not finite"),
        ({280: ("f", float("inf"))}, "not finite"),
        ({280: ("12f", (0.0,) * 12)}, "does not span"),
        ({SFORM: ("h", 0), QFORM: ("h", 1), PIXDIM + 4: ("f", float("nan"))}, "not finite"),
        ({SFORM: ("h", 0), QFORM: ("h", 1), 256: ("3f", (1.0, 1.0, 1.0))}, "not a rotation"),
        ({SFORM: ("h", 0), QFORM: ("h", 1), 256: ("f", float("nan"))}, "not finite|not a rotation"),
        ({SFORM: ("h", 0), QFORM: ("h", 0), PIXDIM + 4: ("3f", (0.0, 0.0, 0.0))}, "does not span"),
        ({UNITS: ("B", 5)}, "unit of length has code 5"),
        ({SLOPE: ("2f", (1.0, float("inf")))}, "scl_inter"),
        ({MAGIC: ("4s", b"ni1\0")}, "pair"),
        ({MAGIC: ("4s", b"\0\0\0\0")}, "Analyze"),
        ({0: ("i", 349)}, "not NIfTI"),
    ],
)
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_header_that_lies_is_refused_in_words(patches: dict, reason: str, suffix: str, tmp_path: Path):
    path = patched(tmp_path / "a.nii", patches)
    if suffix == "nii.gz":
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.nii.gz"
        reason = reason if "bytes" not in reason else "promises|ends|early"
    with pytest.raises(InputError, match=reason) as caught:
        io.read_volume(path)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError):
        io.check_length(path)


def test_sixty_four_bit_numbers_that_do_not_fit_are_refused(tmp_path: Path):
    array = np.array([[[1, 2**40]]], np.int64)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), dtype="int64"), tmp_path / "a.nii")
    with pytest.raises(InputError, match="beyond 32 bits"):
        io.read_volume(tmp_path / "a.nii")


def test_a_bomb_is_not_unpacked(tmp_path: Path):
    header = written(tmp_path / "a.nii")[:352]
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(bytes(header) + bytes(48 + 50_000_000)))
    for reader in (io.read_volume, io.check_length):
        with pytest.raises(InputError, match="more data than its header says"):
            reader(path)


@pytest.mark.parametrize("padding", [1, 512, 65536])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_some_padding_at_the_end_is_tolerated(padding: int, suffix: str, tmp_path: Path):
    block = bytes(written(tmp_path / "a.nii")) + bytes(padding)
    path = tmp_path / f"b.{suffix}"
    path.write_bytes(gzip.compress(block) if suffix == "nii.gz" else block)
    assert io.read_volume(path).array.shape == (1, 4, 3, 2)
    io.check_length(path)


def test_gzip_of_several_members_is_read_and_counted(tmp_path: Path):
    block = bytes(written(tmp_path / "a.nii"))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(block[:370]) + gzip.compress(block[370:]))
    assert np.array_equal(io.read_volume(tmp_path / "b.nii.gz").array, io.read_volume(tmp_path / "a.nii").array)
    io.check_length(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(block[:370]) + gzip.compress(block[370:380]))
    with pytest.raises(InputError, match=r"early|ends"):
        io.check_length(tmp_path / "c.nii.gz")


def test_a_name_without_gz_may_hold_gzip_and_the_other_way_round(tmp_path: Path):
    block = bytes(written(tmp_path / "a.nii"))
    (tmp_path / "b.nii").write_bytes(gzip.compress(block))
    (tmp_path / "c.nii.gz").write_bytes(block)
    for name in ("b.nii", "c.nii.gz"):
        assert io.read_volume(tmp_path / name).array.shape == (1, 4, 3, 2)


def test_a_flipped_bit_in_the_compressed_voxels_is_found(tmp_path: Path):
    rng = np.random.default_rng(0)
    scan = Volume(rng.integers(-1000, 1000, (1, 20, 20, 20), dtype=np.int16), Geometry((20, 20, 20), np.eye(4)))
    path = tmp_path / "a.nii.gz"
    io.write_volume(scan, path)
    whole = path.read_bytes()
    for position in rng.integers(len(whole) // 2, len(whole) - 8, 20):
        block = bytearray(whole)
        block[position] ^= 16
        path.write_bytes(block)
        with pytest.raises(InputError, match=r"damaged|early|more data"):
            io.read_volume(path)


def test_a_header_is_read_without_unpacking_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path / "a.nii.gz")
    monkeypatch.setattr(stream, "read_array", None)
    monkeypatch.setattr(stream, "skip", None)
    assert nifti.describe(tmp_path / "a.nii.gz").geometry.shape == (4, 3, 2)


def test_unreadable_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path / "a.nii")
    monkeypatch.setattr(type(tmp_path), "open", _denied)
    with pytest.raises(InputError, match="Permission denied"):
        nifti.read(tmp_path / "a.nii")


def _denied(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")
