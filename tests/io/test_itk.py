"""NRRD and MetaImage: where other programs see our files, and headers that point elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from medseg import io
from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n"
    "space directions: (1,0,0) (0,1,0) (0,0,2)\nendian: little\nencoding: raw\nspace origin: (1,2,3)\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\nElementSpacing = 1 1 2\nDimSize = 4 3 2\n"
    "ElementType = MET_SHORT\n"
)
GRID = Geometry((2, 3, 4), np.array([[0, 0, 1, 1], [0, 1, 0, 2], [2, 0, 0, 3], [0, 0, 0, 1.0]]))


def nrrd(path: Path, header: str = NRRD, data: bytes = VOXELS.tobytes()) -> Path:
    """Write a NRRD file by hand."""
    path.write_bytes(header.encode() + b"\n" + data)
    return path


def meta(path: Path, data_file: str, header: str = META, data: bytes = b"") -> Path:
    """Write a MetaImage header by hand."""
    path.write_bytes(f"{header}ElementDataFile = {data_file}\n".encode() + data)
    return path


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_simpleitk_sees_our_files_where_we_put_them(suffix: str, grid: Geometry, tmp_path: Path):
    array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(1, *grid.shape)
    io.write_volume(Volume(array, grid), tmp_path / f"a.{suffix}")
    image = sitk.ReadImage(str(tmp_path / f"a.{suffix}"))
    assert np.array_equal(sitk.GetArrayViewFromImage(image), array[0])
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (c * (n - 1) for c, n in zip(corner, grid.shape, strict=True))
        assert np.allclose(image.TransformIndexToPhysicalPoint((x, y, z)), grid.to_lps([z, y, x]), atol=1e-6)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_files_written_by_hand_lie_where_they_say(name: str, tmp_path: Path):
    path = tmp_path / name
    if name == "a.nrrd":
        nrrd(path)
    else:
        meta(path, "LOCAL", data=VOXELS.tobytes())
    scan = io.read_volume(path)
    assert scan.geometry.same_grid(GRID, 1e-9)
    assert np.array_equal(scan.array[0], VOXELS)
    assert io.describe(path).is_placed


def test_ras_becomes_lps(tmp_path: Path):
    path = nrrd(tmp_path / "a.nrrd", NRRD.replace("left-posterior", "right-anterior"))
    assert np.allclose(io.read_geometry(path).to_lps([1, 1, 1]), [-2, -3, 5])


def test_a_file_without_a_space_is_not_placed(tmp_path: Path):
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nspacings: 1 2 3\nendian: little\nencoding: raw\n"
    description = io.describe(nrrd(tmp_path / "a.nrrd", header))
    assert not description.is_placed
    assert description.geometry.spacing_mm == (3.0, 2.0, 1.0)


@pytest.mark.parametrize("kinds", ["list domain domain domain", "vector domain domain domain"])
def test_components_become_channels(kinds: str, tmp_path: Path):
    header = (
        "NRRD0004\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 4 3 2\n"
        f"space directions: none (1,0,0) (0,1,0) (0,0,2)\nkinds: {kinds}\nspace origin: (1,2,3)\nencoding: raw\n"
    )
    data = np.arange(48, dtype=np.uint8)
    scan = io.read_volume(nrrd(tmp_path / "a.nrrd", header, data.tobytes()))
    assert np.array_equal(scan.array, np.moveaxis(data.reshape(2, 3, 4, 2), -1, 0))
    assert scan.geometry.same_grid(GRID, 1e-9)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_two_dimensions_are_one_slice(suffix: str, tmp_path: Path):
    image = sitk.GetImageFromArray(VOXELS[0])
    image.SetSpacing((0.5, 2.0))
    image.SetOrigin((7.0, 8.0))
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    scan = io.read_volume(tmp_path / f"a.{suffix}")
    assert np.array_equal(scan.array, VOXELS[None, :1])
    assert scan.geometry.spacing_mm == (1.0, 2.0, 0.5)
    assert np.allclose(scan.geometry.to_lps([0, 2, 3]), [8.5, 12.0, 0.0])


@pytest.mark.parametrize("line", ["data file: b.raw", "datafile: b.raw", "data file: /etc/passwd", "data file: LIST"])
def test_nrrd_never_reads_another_file(line: str, tmp_path: Path):
    (tmp_path / "b.raw").write_bytes(VOXELS.tobytes())
    for path in (nrrd(tmp_path / "a.nrrd", f"{NRRD}{line}\n"), tmp_path / "c.nrrd"):
        path.write_bytes(f"{NRRD}{line}\n".encode())
        for reader in (io.read_volume, io.read_geometry):
            with pytest.raises(InputError, match="in another file") as caught:
                reader(path)
            assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret.raw", "sub/b.raw", "LIST", "b.%03d 1 2 1", "", ".", "..", "missing.raw", "..\\b.raw"],
)
@pytest.mark.parametrize("suffix", ["mhd", "mha"])
def test_metaimage_follows_plain_names_only(name: str, suffix: str, tmp_path: Path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "secret.raw", folder / "sub" / "b.raw"):
        place.write_bytes(VOXELS.tobytes())
    for reader in (io.read_volume, io.read_geometry, io.check_length):
        with pytest.raises(InputError, match=r"another file|ElementDataFile"):
            reader(meta(folder / f"a.{suffix}", name))


def test_metaimage_reads_the_file_beside_it(tmp_path: Path):
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    scan = io.read_volume(meta(tmp_path / "a.mhd", "a.raw"))
    assert np.array_equal(scan.array[0], VOXELS)
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes()[:-1])
    with pytest.raises(InputError, match="47 bytes"):
        io.read_volume(tmp_path / "a.mhd")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("sizes: 4 3 2", "sizes: 400000 300000 200000", "48 bytes"),
        ("sizes: 4 3 2", "sizes: 4 3 0", "cannot be read"),
        ("sizes: 4 3 2", "sizes: 4 3 -2", "cannot be read"),
        ("sizes: 4 3 2", "sizes: 4 3", "cannot be read"),
        ("(0,0,2)", "(0,0,nan)", "cannot be read|finite"),
        ("(0,0,2)", "(0,0,0)", "cannot be read|finite"),
        ("(0,0,2)", "(0,2,0)", "cannot be read|span"),
        ("(0,0,2)", "(0,0,inf)", "cannot be read|finite"),
        ("(1,2,3)", "(1,nan,3)", "cannot be read|finite"),
        ("type: short", "type: block", "cannot be read"),
        ("type: short", "type: nonsense", "cannot be read"),
        ("encoding: raw", "encoding: bzip2", "encoding is 'bzip2'"),
        ("encoding: raw", "encoding: gzip", "damaged|cannot be read|ends"),
        ("endian: little\n", 'endian: little\nspace units: "um" "um" "um"\n', "lengths are in um"),
        ("dimension: 3", "dimension: 17", "cannot be read"),
        ("NRRD0004", "NRRX0004", "does not begin like NRRD"),
    ],
)
def test_a_nrrd_header_that_lies_is_refused(old: str, new: str, reason: str, tmp_path: Path, capfd):
    assert old in NRRD
    path = nrrd(tmp_path / "a.nrrd", NRRD.replace(old, new))
    with pytest.raises(InputError, match=reason) as caught:
        io.read_volume(path)
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("DimSize = 4 3 2", "DimSize = 400000 300000 200000", "48 bytes"),
        ("DimSize = 4 3 2", "DimSize = 4 3 0", "read|bytes|shape"),
        ("TransformMatrix = 1 0 0 0 1 0", "TransformMatrix = 1 0 0 1 0 0", "read|span"),
        ("TransformMatrix = 1 0", "TransformMatrix = nan 0", "finite"),
        ("TransformMatrix = 1 0", "TransformMatrix = 1", "9 finite numbers"),
        ("Offset = 1 2 3", "Offset = inf 2 3", "finite"),
        ("Offset = 1 2 3", "Offset = 1 2", "3 finite numbers"),
        ("Offset = 1 2 3", "Offset = one 2 3", "3 finite numbers"),
        ("ElementSpacing = 1 1 2", "ElementSpacing = 1 1 0", "read|span"),
        ("ElementType = MET_SHORT", "ElementType = MET_OTHER", "read"),
        ("NDims = 3", "NDims = 11", "finite numbers"),
        ("NDims = 3", "NDims = x", "NDims"),
    ],
)
def test_a_metaimage_header_that_lies_is_refused(old: str, new: str, reason: str, tmp_path: Path):
    assert old in META
    path = meta(tmp_path / "a.mha", "LOCAL", META.replace(old, new), VOXELS.tobytes())
    with pytest.raises(InputError, match=reason) as caught:
        io.read_volume(path)
    assert str(path) in str(caught.value)


def test_a_small_file_cannot_promise_gigabytes(tmp_path: Path):
    import zlib

    packed = zlib.compress(bytes(10000))
    header = META.replace("CompressedData = False", f"CompressedData = True\nCompressedDataSize = {len(packed)}")
    path = meta(tmp_path / "a.mha", "LOCAL", header.replace("4 3 2", "4000 3000 2000"), packed)
    with pytest.raises(InputError, match="bytes of voxels are there"):
        io.read_volume(path)


@pytest.mark.parametrize("component", [sitk.sitkComplexFloat32])
def test_complex_numbers_are_refused(component: int, tmp_path: Path):
    sitk.WriteImage(sitk.Image((4, 3, 2), component), str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match="complex"):
        io.read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("is_shown", [True, False])
def test_itks_warnings_are_left_as_they_were(is_shown: bool, tmp_path: Path):
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    try:
        sitk.ProcessObject.SetGlobalWarningDisplay(is_shown)
        io.read_volume(nrrd(tmp_path / "a.nrrd"))
        with pytest.raises(InputError):
            io.read_volume(nrrd(tmp_path / "b.nrrd", NRRD.replace("4 3 2", "4 3")))
        assert sitk.ProcessObject.GetGlobalWarningDisplay() == is_shown
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def test_real_files_lie_where_simpleitk_sees_them(test_data: Path):
    files = sorted(test_data.rglob("*.nrrd"))
    assert len(files) >= 5
    for path in files:
        scan, image = io.read_volume(path), sitk.ReadImage(str(path))
        last = [n - 1 for n in image.GetSize()]
        assert np.allclose(scan.geometry.to_lps(last[::-1]), image.TransformIndexToPhysicalPoint(last), atol=1e-6)
        assert np.array_equal(scan.array[0], sitk.GetArrayViewFromImage(image))
        io.check_length(path)
