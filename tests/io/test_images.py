"""Pictures and stacks: stored numbers in, honest refusals out."""

from __future__ import annotations

import logging
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg import io
from medseg.errors import InputError, OutputError
from medseg.io.images import colour_table, picture_grid, write_indexed
from medseg.io.reopen import reopen_indexed
from medseg.io.verify import same_bits
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def colour(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)


# -- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "dtype", "channels"),
    [("1", "uint8", 1), ("L", "uint8", 1), ("I;16", "uint16", 1), ("RGB", "uint8", 3), ("P", "uint8", 3),
     ("RGBA", "uint8", 3), ("LA", "uint8", 1)],
)  # fmt: skip
def test_every_kind_of_png(mode: str, dtype: str, channels: int, tmp_path: Path):
    stored = {"I;16": GREY.astype(np.uint16) * 5000}.get(mode)
    image = Image.fromarray(stored) if stored is not None else Image.fromarray(colour()).convert(mode)
    image.save(tmp_path / "a.png")
    scan = io.read_volume(tmp_path / "a.png")
    assert (scan.array.shape, scan.array.dtype) == ((channels, 1, 3, 4), np.dtype(dtype))
    assert scan.channels == (("red", "green", "blue") if channels == 3 else ("image",))
    description = io.describe(tmp_path / "a.png")
    assert (description.volumes, description.dtype, description.is_placed) == (channels, dtype, False)
    assert description.geometry.same_grid(scan.geometry)
    expected = np.atleast_3d(stored if stored is not None else np.array(image.convert("RGB")))
    if channels == 3:
        assert np.array_equal(np.moveaxis(scan.array[:, 0], 0, -1), expected)
    elif mode == "I;16":
        assert np.array_equal(scan.array[0, 0], stored)
    io.check_length(tmp_path / "a.png")
    assert np.array_equal(io.read_volume(tmp_path / "a.png", volume=channels - 1).array, scan.array[-1:])
    with pytest.raises(InputError, match=f"no volume {channels}"):
        io.read_volume(tmp_path / "a.png", volume=channels)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "bmp"])
def test_other_pictures_are_read(suffix: str, tmp_path: Path):
    Image.fromarray(GREY).save(tmp_path / f"a.{suffix}", quality=100)
    assert np.abs(io.read_volume(tmp_path / f"a.{suffix}").array[0, 0].astype(int) - GREY).max() <= 2


def test_a_picture_lies_as_an_axial_slice_is_shown(tmp_path: Path):
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(300, 300))
    geometry = io.read_geometry(tmp_path / "a.png")
    assert (geometry.axis_codes, geometry.spacing_mm, geometry.shape) == ("SPL", (1.0, 1.0, 1.0), (1, 3, 4))
    assert np.array_equal(geometry.to_lps([0, 2, 3]), [3, 2, 0])


def test_a_turn_for_display_is_passed_over(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert io.read_volume(tmp_path / "a.jpg").array.shape == (1, 1, 3, 4)


def test_see_through_pictures_are_refused(tmp_path: Path):
    rgba = np.dstack([colour(), np.full((3, 4), 255, np.uint8)])
    rgba[1, 1, 3] = 254
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="see-through"):
        io.read_volume(tmp_path / "a.png")


def test_sixteen_bit_colour_is_refused_rather_than_cut(tmp_path: Path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(4 * 6) for _ in range(3))
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 4, 3, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip
    for reader in (io.read_volume, io.read_segmentation):
        with pytest.raises(InputError, match="16 bits per colour") as caught:
            reader(path)
        assert str(path) in str(caught.value)


def test_a_palette_mask_is_its_indices(tmp_path: Path):
    image = Image.fromarray(GREY % 3).convert("P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    image.putdata((GREY % 3).ravel().tolist())
    image.save(tmp_path / "m.png")
    assert np.array_equal(io.read_segmentation(tmp_path / "m.png").array[0], GREY % 3)


def test_a_grey_mask_saved_as_colour_is_read_and_a_coloured_one_refused(tmp_path: Path):
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "m.png")
    assert np.array_equal(io.read_segmentation(tmp_path / "m.png").array[0], GREY)
    Image.fromarray(colour()).save(tmp_path / "c.png")
    with pytest.raises(InputError, match="colour picture"):
        io.read_segmentation(tmp_path / "c.png")


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 1), ("uint8", 3)])
def test_a_png_comes_back(dtype: str, channels: int, tmp_path: Path):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (channels, 1, 5, 7)).astype(dtype)
    io.write_volume(Volume(array, picture_grid((1, 5, 7)), tuple("rgb"[:channels])), tmp_path / "a.png")
    assert same_bits(io.read_volume(tmp_path / "a.png").array, array)


@pytest.mark.parametrize(
    ("dtype", "channels"), [("int16", 1), ("float32", 1), ("uint16", 3), ("uint8", 2), ("uint8", 4)]
)
def test_a_png_refuses_what_it_cannot_hold(dtype: str, channels: int, tmp_path: Path):
    scan = Volume(np.zeros((channels, 1, 5, 7), dtype), picture_grid((1, 5, 7)), tuple("rgba"[:channels]))
    with pytest.raises(OutputError, match="a PNG cannot hold"):
        io.write_volume(scan, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_bomb_is_refused(tmp_path: Path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path = tmp_path / "a.png"
    header = struct.pack(">2I5B", 60000, 60000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))))
    with pytest.raises(InputError, match="more pixels than are safe") as caught:
        io.read_volume(path)
    assert str(path) in str(caught.value)


def test_a_picture_of_another_format_is_not_opened_by_name(tmp_path: Path):
    Image.fromarray(GREY).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match="not a whole PNG"):
        io.read_volume(tmp_path / "a.png")


def test_real_pictures_are_read(test_data: Path):
    folder = test_data / "images2d"
    masks = sorted(folder.glob("*/masks/*.png"))[:3] + sorted(folder.glob("*/SegmentationClass/*.png"))
    masks += sorted(folder.glob("nuclei/instances/*.png"))[:3]
    assert len(masks) >= 7
    for path in masks:
        mask = io.read_segmentation(path)
        assert np.array_equal(mask.array[0], np.array(Image.open(path)).astype(mask.array.dtype))
    for path in sorted(folder.glob("*/images/*.png"))[::10]:
        scan = io.read_volume(path)
        stored = np.atleast_3d(np.array(Image.open(path)))[..., :3]
        assert np.array_equal(np.moveaxis(scan.array[:, 0], 0, -1), stored)


# -- TIFF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("slices", [1, 3])
def test_a_stack_comes_back_with_its_spacing(dtype: str, channels: int, slices: int, tmp_path: Path):
    array = (np.random.default_rng(0).random((channels, slices, 5, 7)) * 200).astype(dtype)
    grid = picture_grid((slices, 5, 7), (2.5, 0.7, 1 / 3))
    io.write_volume(Volume(array, grid, tuple("abc"[:channels])), tmp_path / "a.tif")
    back = io.read_volume(tmp_path / "a.tif")
    assert same_bits(back.array, array)
    assert np.allclose(back.geometry.affine, grid.affine, atol=1e-6)
    description = io.describe(tmp_path / "a.tif")
    assert (description.volumes, description.dtype, description.is_placed) == (channels, dtype, False)
    io.check_length(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_a_tiff_refuses_types_it_cannot_hold(dtype: str, tmp_path: Path):
    with pytest.raises(OutputError, match="a TIFF cannot hold int"):
        io.write_volume(Volume(np.zeros((1, 2, 5, 7), dtype), picture_grid((2, 5, 7))), tmp_path / "a.tif")


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("cm", 10.0), ("micron", 1e-3), ("um", 1e-3), ("nm", 1e-6)])
def test_imagejs_units(unit: str, mm: float, tmp_path: Path):
    stack = np.zeros((3, 4, 5), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack,
        imagej=True,
        resolution=(4, 2),
        metadata={"spacing": 3.0, "unit": unit, "axes": "ZYX"},
    )
    assert np.allclose(io.read_geometry(tmp_path / "a.tif").spacing_mm, np.array([3.0, 0.5, 0.25]) * mm)


@pytest.mark.parametrize(("unit", "spacing"), [("CENTIMETER", (1, 0.1, 0.2)), ("INCH", (1, 1, 1)), ("NONE", (1, 1, 1))])
def test_a_resolution_counts_per_centimetre_only(unit: str, spacing: tuple, tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), resolution=(50, 100), resolutionunit=unit)
    assert np.allclose(io.read_geometry(tmp_path / "a.tif").spacing_mm, spacing)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_the_usual_compressions_of_a_stack(compression: str, tmp_path: Path):
    pages = [Image.fromarray(GREY + i) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", compression=compression, save_all=True, append_images=pages[1:])
    assert np.array_equal(io.read_volume(tmp_path / "a.tif").array[0], np.stack([GREY, GREY + 1, GREY + 2]))


@pytest.mark.parametrize("compression", ["tiff_lzw", "raw"])
def test_colour_becomes_channels(compression: str, tmp_path: Path):
    Image.fromarray(colour()).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(io.read_volume(tmp_path / "a.tif").array[:, 0], np.moveaxis(colour(), -1, 0))


def test_big_endian_samples(tmp_path: Path):
    stack = np.arange(60, dtype=np.uint16).reshape(3, 4, 5) * 1000
    tifffile.imwrite(tmp_path / "a.tif", stack, byteorder=">", photometric="minisblack")
    assert same_bits(io.read_volume(tmp_path / "a.tif").array[0], stack)


def test_white_as_zero_is_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    with pytest.raises(InputError, match="white is this file's zero"):
        io.read_volume(tmp_path / "a.tif")


def test_pages_of_different_size_are_no_stack(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY)
        writer.write(np.zeros((7, 8), np.uint8))
    with pytest.raises(InputError, match="2 image series"):
        io.read_volume(tmp_path / "a.tif")


def test_time_and_depth_together_are_no_stack(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 3, 4, 5), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(InputError, match="axes are TZYX"):
        io.read_volume(tmp_path / "a.tif")


def test_a_tiff_bomb_is_refused(tmp_path: Path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression="zlib")
    block = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages.first.tags
        places = [tags[name].valueoffset for name in ("ImageWidth", "ImageLength", "RowsPerStrip")]
        kinds = [tags[name].dtype for name in ("ImageWidth", "ImageLength", "RowsPerStrip")]
    for place, kind in zip(places, kinds, strict=True):
        struct.pack_into("<I" if kind == 4 else "<H", block, place, 60000)
    path.write_bytes(block)
    with pytest.raises(InputError, match="more than") as caught:
        io.read_volume(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("is_disabled", [True, False])
def test_tifffiles_log_is_left_as_it_was(is_disabled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.getLogger("tifffile"), "disabled", is_disabled)
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    io.read_volume(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    with pytest.raises(InputError):
        io.read_volume(tmp_path / "b.tif")
    assert logging.getLogger("tifffile").disabled is is_disabled


# -- palettes ------------------------------------------------------------------------------------------------------


def test_indices_and_palette_come_back_by_the_bytes_of_the_file(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 256, (37, 23), dtype=np.uint8)
    colours = tuple((i, 255 - i, i // 2) for i in range(256))
    write_indexed(ids, colours, tmp_path / "m.png")
    back, table = reopen_indexed(tmp_path / "m.png")
    assert np.array_equal(back, ids)
    assert table == colours == colour_table(tmp_path / "m.png")
    assert np.array_equal(io.read_segmentation(tmp_path / "m.png").array[0], ids)
    few = np.zeros((2, 3), np.uint8)  # few colours tempt a writer to fewer bits a pixel
    write_indexed(few, colours, tmp_path / "few.png")
    assert np.array_equal(reopen_indexed(tmp_path / "few.png")[0], few)


def test_what_is_no_indexed_png_is_not_read_back(tmp_path: Path) -> None:
    write_indexed(GREY, [(i, 0, 0) for i in range(256)], tmp_path / "m.png")
    whole = (tmp_path / "m.png").read_bytes()
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    (tmp_path / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "mark.png").write_bytes(b"\x00" + whole[1:])
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("grey", "cut", "mark", "empty"):
        with pytest.raises(InputError):
            reopen_indexed(tmp_path / f"{name}.png")


def test_greys_and_other_files_have_no_colour_table(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(GREY).convert("P").save(tmp_path / "greys.png")
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    assert [colour_table(tmp_path / name) for name in ("grey.png", "greys.png", "a.tif")] == [None] * 3
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError):
        colour_table(tmp_path / "broken.png")
