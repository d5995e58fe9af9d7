from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import get_decoder
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian

from medseg.errors import InputError
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.voxels.pixels import has_decoder, open_pixels

WITH_DECODER = """1.2.840.10008.1.2 1.2.840.10008.1.2.1 1.2.840.10008.1.2.1.99 1.2.840.10008.1.2.2 1.2.840.10008.1.2.5
1.2.840.10008.1.2.4.50 1.2.840.10008.1.2.4.51 1.2.840.10008.1.2.4.57 1.2.840.10008.1.2.4.70 1.2.840.10008.1.2.4.80
1.2.840.10008.1.2.4.81 1.2.840.10008.1.2.4.90 1.2.840.10008.1.2.4.91 1.2.840.10008.1.2.4.201 1.2.840.10008.1.2.4.202
1.2.840.10008.1.2.4.203"""


def test_the_common_syntaxes_have_a_decoder_and_video_has_none():
    assert {uid for uid in AllTransferSyntaxes if has_decoder(uid)} == set(WITH_DECODER.split())
    assert not has_decoder("1.2.3.4.5")
    assert has_decoder("")


def test_pydicom_knows_no_decoder_that_we_deny():
    assert all(has_decoder(uid) for uid in WITH_DECODER.split() if get_decoder(uid).is_available)


@pytest.fixture
def refused(tmp_path):
    """Return a function that changes a known file and returns the error of opening it."""

    def check(name="CT_small.dcm", *, syntax=None, drop=(), **changes):
        dataset = pydicom.dcmread(get_testdata_file(name, download=False))
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        for keyword in drop:
            del dataset[keyword]
        if syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "x.dcm")
        with quiet(), pytest.raises(InputError) as caught:
            open_pixels(tmp_path / "x.dcm")
        assert "x.dcm" in str(caught.value)
        return caught.value

    return check


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"])
def test_a_small_file_that_promises_gigabytes_is_refused(name, refused):
    error = refused(name, Rows=60000, Columns=60000)
    assert error.code == ("truncated" if name == "CT_small.dcm" else "undecodable")


def test_a_million_frames_are_refused(refused):
    assert refused(NumberOfFrames=10**6).code == "truncated"
    assert refused("MR_small_RLE.dcm", NumberOfFrames=10**6).code == "undecodable"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"BitsAllocated": 12}, "undecodable"),
        ({"BitsStored": 17}, "undecodable"),
        ({"BitsStored": 0}, "undecodable"),
        ({"PixelRepresentation": 7}, "undecodable"),
        ({"Rows": 0}, "undecodable"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"drop": ["PixelRepresentation"]}, "undecodable"),
        ({"drop": ["Rows"]}, "undecodable"),
        ({"drop": ["PixelData"]}, "no-pixel-data"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_by_what_is_wrong(changes, code, refused):
    assert refused(**changes).code == code


def test_a_syntax_without_decoder_is_named(refused):
    error = refused("MR_small_RLE.dcm", syntax="1.2.840.10008.1.2.4.107")
    assert error.code == "undecodable"
    assert "HEVC" in str(error)


def test_a_file_that_is_no_dicom_or_not_there_is_unreadable(tmp_path):
    (tmp_path / "x").write_bytes(bytes(300))
    for name in ("x", "absent"):
        with quiet(), pytest.raises(InputError):
            open_pixels(tmp_path / name)


def test_pixels_say_where_they_stand():
    with quiet():
        pixels, header = open_pixels(Path(get_testdata_file("CT_small.dcm", download=False)))
    assert (pixels.rows, pixels.columns, pixels.frames, str(pixels.dtype)) == (128, 128, 1, "int16")
    assert pixels.syntax == ExplicitVRLittleEndian
    assert "PixelData" not in header
