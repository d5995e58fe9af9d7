from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from medseg.io.dicom.voxels.codestream import FrameSize, frame_size


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_size_that_an_encoder_wrote(syntax, bits):
    image = np.random.default_rng(1).integers(0, 2**bits, (40, 70)).astype(np.uint8 if bits == 8 else np.uint16)
    frame = next(
        get_encoder(syntax).iter_encode(
            image,
            rows=40,
            columns=70,
            bits_allocated=8 * image.itemsize,
            bits_stored=bits,
            number_of_frames=1,
            samples_per_pixel=1,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
    )
    assert frame_size(frame) == FrameSize(40, 70, 1, bits)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("JPGExtended.dcm", FrameSize(1024, 256, 1, 12)),
        ("JPEG2000.dcm", FrameSize(1024, 256, 1, 16)),
        ("SC_rgb_jpeg_gdcm.dcm", FrameSize(100, 100, 3, 8)),
        ("JPEGLSNearLossless_08.dcm", FrameSize(45, 10, 1, 8)),
    ],
)
def test_the_size_of_real_frames(name, size):
    dataset = dcmread(get_testdata_file(name, download=False))
    assert frame_size(next(generate_frames(dataset.PixelData, number_of_frames=1))) == size


def test_an_offset_image_and_leading_boxes():
    siz = struct.pack(">HH8LHBBB", 41, 0, 110, 60, 10, 20, 110, 60, 0, 0, 1, 0x8B, 1, 1)
    assert frame_size(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff\x4f\xff\x51" + siz) == FrameSize(40, 100, 1, 12)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\x4f\xff\x51"]))
def test_any_bytes_give_a_size_or_none(tail, head):
    size = frame_size(head + tail)
    assert size is None or len(size) == 4
