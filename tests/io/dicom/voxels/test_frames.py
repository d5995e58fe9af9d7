from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import JPEGExtended12Bit

from medseg.errors import InputError
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.voxels.frames import encoded_frames, read_frame
from medseg.io.dicom.voxels.pixels import open_pixels


def frames_of(path, numbers=None):
    """Return the frames of a file, each read by itself."""
    with quiet():
        pixels, _ = open_pixels(Path(path))
        return np.stack([read_frame(pixels, n) for n in (range(pixels.frames) if numbers is None else numbers)])


NATIVE = """CT_small.dcm MR_small_bigendian.dcm MR_small_implicit.dcm MR_small_padded.dcm MR_small_expb.dcm
image_dfl.dcm rtdose.dcm rtdose_expb.dcm rtdose_1frame.dcm liver_1frame.dcm liver_expb_1frame.dcm"""
COMPRESSED = """MR_small_RLE.dcm MR_small_jp2klossless.dcm MR_small_jpeg_ls_lossless.dcm JPEG2000.dcm 693_J2KI.dcm
J2K_pixelrep_mismatch.dcm JPEGLSNearLossless_08.dcm JPEGLSNearLossless_16.dcm rtdose_rle.dcm rtdose_rle_1frame.dcm"""


@pytest.mark.parametrize("name", (NATIVE + " " + COMPRESSED).split())
def test_every_frame_equals_what_pydicom_decodes(name):
    path = get_testdata_file(name, download=False)
    with quiet():
        reference = pydicom.dcmread(path).pixel_array
    found = frames_of(path)
    np.testing.assert_array_equal(found, reference.reshape(-1, *reference.shape[-2:]))
    assert found.dtype == reference.dtype.newbyteorder("=")


@pytest.mark.parametrize("name", ["", "_RLE", "_jpeg_2k_lossless", "_jpeg_ls_lossless"])
def test_a_multi_frame_object_is_the_same_in_every_syntax(name, test_data):
    folder = test_data / "dicom_edge" / "enhanced_small_compressed"
    reference = pydicom.dcmread(folder / "emri_small.dcm").pixel_array
    np.testing.assert_array_equal(frames_of(folder / f"emri_small{name}.dcm"), reference)
    np.testing.assert_array_equal(frames_of(folder / f"emri_small{name}.dcm", [7, 2]), reference[[7, 2]])


@pytest.mark.parametrize("table", ["basic", "none", "extended", "fragments"])
def test_frames_are_found_by_any_table_or_none(table, test_data, tmp_path):
    path = test_data / "dicom_edge" / "enhanced_small_compressed" / "emri_small_jpeg_2k_lossless.dcm"
    dataset = pydicom.dcmread(path)
    reference = dataset.pixel_array
    frames = list(generate_frames(dataset.PixelData, number_of_frames=10))
    if table == "extended":
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            frames
        )
    else:
        pieces = 3 if table == "fragments" else 1
        dataset.PixelData = encapsulate(frames, has_bot=table == "basic", fragments_per_frame=pieces)
    dataset.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(frames_of(tmp_path / "x.dcm"), reference)
    with quiet():
        pixels, _ = open_pixels(tmp_path / "x.dcm")
        assert [number for number, _ in encoded_frames(pixels, {9, 0, 4})] == [0, 4, 9]


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
@pytest.mark.parametrize(("bits", "signed"), [(12, 0), (12, 1), (16, 1), (10, 1)])
def test_bits_that_belong_to_no_value_are_dropped(name, bits, signed, tmp_path):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    dirty = np.random.default_rng(2).integers(0, 2**16, (64, 64), dtype=np.uint16)
    dataset.PixelData = dirty.astype(">u2" if "bigendian" in name else "<u2").tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, signed
    dataset.SmallestImagePixelValue = dataset.LargestImagePixelValue = None
    dataset.save_as(tmp_path / "x.dcm")
    found = frames_of(tmp_path / "x.dcm")[0]
    np.testing.assert_array_equal(found, pydicom.dcmread(tmp_path / "x.dcm").pixel_array)
    low = dirty.astype(int) % 2**bits
    np.testing.assert_array_equal(found, np.where((low >= 2 ** (bits - 1)) & (signed == 1), low - 2**bits, low))


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_pixels_that_are_floats(keyword, dtype, tmp_path):
    values = np.random.default_rng(3).normal(size=(2, 6, 5)).astype(dtype)
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for absent in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        del dataset[absent]
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 6, 5, 2
    dataset.BitsAllocated = values.itemsize * 8
    setattr(dataset, keyword, values.tobytes())
    dataset.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(frames_of(tmp_path / "x.dcm"), values)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("rescale", [None, (2.5, 7)])
@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_12_bit_jpeg_extended_is_decoded_to_stored_values(name, rescale, frames, tmp_path):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData, dataset.NumberOfFrames = encapsulate([frame] * frames), frames
    if rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = rescale
    dataset.save_as(tmp_path / "x.dcm")
    array = frames_of(tmp_path / "x.dcm", [frames - 1])[0]
    reference = pydicom.dcmread(get_testdata_file("JPEG2000.dcm", download=False)).pixel_array
    assert (array[420, 140], array[230, 120]) == (244, 95)  # what pydicom's own tests expect of these files
    assert abs(array.mean() - reference.mean()) < 1  # the same picture, once lossy, once lossless
    assert np.corrcoef(array.ravel(), reference.ravel())[0, 1] > 0.9


def damaged(name, tmp_path, change):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    frame = change(bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1))))
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset.save_as(tmp_path / "x.dcm")
    with pytest.raises(InputError) as caught:
        frames_of(tmp_path / "x.dcm")
    assert caught.value.code == "undecodable"
    return str(caught.value)


SYNTAX_NAMES = {
    "MR_small_RLE.dcm": "RLE Lossless",
    "MR_small_jp2klossless.dcm": "JPEG 2000",
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS",
}


@pytest.mark.parametrize("name", SYNTAX_NAMES)
def test_damaged_pixels_name_the_syntax_and_nothing_else_is_said(name, tmp_path, capfd):
    assert SYNTAX_NAMES[name] in damaged(name, tmp_path, lambda frame: frame[:2] + bytes(78))
    assert capfd.readouterr() == ("", "")


def test_damaged_12_bit_pixels_name_the_syntax(tmp_path):
    assert "JPEG Extended" in damaged("JPGExtended.dcm", tmp_path, lambda frame: frame[:2] + bytes(78))


def test_a_jpeg_ls_frame_without_end_is_given_up_at_once(tmp_path):
    assert "JPEG-LS" in damaged("MR_small_jpeg_ls_lossless.dcm", tmp_path, lambda frame: frame[:3113])


def test_a_frame_that_would_decode_to_gigabytes_is_refused_before_it_is_decoded(tmp_path):
    def grown(frame):
        frame[8:16] = b"\0\0\xea\x60" * 2  # 60000 x 60000 in the marker segment SIZ
        return frame

    assert "60000 x 60000" in damaged("MR_small_jp2klossless.dcm", tmp_path, grown)


def test_a_fragment_that_claims_four_gigabytes_reads_what_is_there(tmp_path):
    path = get_testdata_file("MR_small_jp2klossless.dcm", download=False)
    content = bytearray(Path(path).read_bytes())
    at = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xfe\xff\x00\xe0") + 4)
    content[at + 4 : at + 8] = b"\xfe\xff\xff\xff"
    (tmp_path / "x.dcm").write_bytes(content)
    reference = pydicom.dcmread(path).pixel_array
    np.testing.assert_array_equal(frames_of(tmp_path / "x.dcm")[0], reference)


def test_a_frame_that_is_not_there_is_said(test_data, tmp_path):
    path = test_data / "dicom_edge" / "enhanced_small_compressed" / "emri_small_RLE.dcm"
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 11
    dataset.save_as(tmp_path / "x.dcm")
    with pytest.raises(InputError):
        frames_of(tmp_path / "x.dcm", [10])
