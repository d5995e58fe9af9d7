from __future__ import annotations

import math

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medseg.io.dicom.voxels.padding import Padding, air_of, is_tissue, padding_of, padding_words


def header(value, limit=None, *, signed=0, bits=16, vr=None):
    found = Dataset()
    found.PixelRepresentation, found.BitsAllocated, found.BitsStored = signed, 16, bits
    for keyword, number in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
        if number is not None:
            found.add_new(keyword, vr or ("SS" if number < 0 else "US"), number)
    return found


@pytest.mark.parametrize(
    ("case", "ends"),
    [
        (header(-2000, signed=1), (-2000, -2000)),
        (header(63536, signed=1), (-2000, -2000)),  # -2000 written without its sign
        (header(63536), (63536, 63536)),
        (header(-2000), (63536, 63536)),  # 63536 written with a sign
        (header(2096, signed=1, bits=12), (-2000, -2000)),  # the 12 bits of -2000 alone
        (header(-2000, signed=1, bits=12), (-2000, -2000)),
        (header(0, signed=1), (0, 0)),
        (header(-2000, -1025, signed=1), (-2000, -1025)),
        (header(4095, 4000), (4000, 4095)),  # MONOCHROME1 counts downwards
        (header(65535, 10, signed=1), (-1, 10)),
    ],
)
def test_padding_is_read_as_the_pixels_are(case, ends):
    found = padding_of(case)
    assert (found.low, found.high) == ends


def test_headers_without_padding():
    assert padding_of(Dataset()) is None
    empty = Dataset()
    empty.add_new("PixelPaddingValue", "US", None)
    assert padding_of(empty) is None


@pytest.mark.parametrize("keyword", ["FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue"])
def test_padding_of_floats(keyword):
    found = Dataset()
    setattr(found, keyword, -1.5)
    plane = np.array([[-1.5, 0.0, np.nan]], np.float32)
    assert padding_of(found).within(plane).tolist() == [[True, False, False]]
    setattr(found, keyword, math.nan)
    assert padding_of(found).within(plane).tolist() == [[False, False, True]]


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4"])
@pytest.mark.parametrize("ends", [(-2000, -2000), (63536, 63536), (3, 5), (0.5, 0.5), (-math.inf, 2)])
def test_within_is_a_comparison_of_numbers(dtype, ends):
    plane = np.arange(10).reshape(2, 5).astype(dtype)
    exact = [[ends[0] <= v <= ends[1] for v in row] for row in plane.tolist()]
    assert Padding(*ends).within(plane).tolist() == exact


def test_air():
    assert [air_of(m) for m in ("CT", "MR", "PT", "CR")] == [-1000.0, 0.0, 0.0, None]
    assert padding_words(Padding(-2000, -2000), "CT").endswith("-2000 are padding: they are set to -1000 HU")
    assert "3 to 5" in padding_words(Padding(3, 5), "DX")


@pytest.mark.parametrize(
    ("ends", "modality", "tissue"),
    [
        ((0, 0), "CT", True),
        ((-3024, -3024), "CT", False),
        ((-1024, -1024), "CT", False),
        ((31743, 31743), "CT", False),
        ((-3024, 10), "CT", True),
        ((0, 0), "MR", False),
    ],
)
def test_tissue_is_no_padding(ends, modality, tissue):
    assert is_tissue(ends, modality) is tissue
