from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import get_decoder
from pydicom.uid import AllTransferSyntaxes, JPEGExtended12Bit

from medseg.errors import InputError
from medseg.io.dicom.pixels import has_decoder, read_pixels
from medseg.io.dicom.quiet import quiet

WITH_DECODER = """1.2.840.10008.1.2 1.2.840.10008.1.2.1 1.2.840.10008.1.2.1.99 1.2.840.10008.1.2.2 1.2.840.10008.1.2.5
1.2.840.10008.1.2.4.50 1.2.840.10008.1.2.4.51 1.2.840.10008.1.2.4.57 1.2.840.10008.1.2.4.70 1.2.840.10008.1.2.4.80
1.2.840.10008.1.2.4.81 1.2.840.10008.1.2.4.90 1.2.840.10008.1.2.4.91 1.2.840.10008.1.2.4.201 1.2.840.10008.1.2.4.202
1.2.840.10008.1.2.4.203"""


def test_the_common_syntaxes_have_a_decoder_and_video_has_none():
    assert {uid for uid in AllTransferSyntaxes if has_decoder(uid)} == set(WITH_DECODER.split())
    assert not has_decoder("1.2.3.4.5")
    assert has_decoder("")


@pytest.mark.parametrize("rescale", [None, (1, -1024), (2.5, 7)])
@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_12_bit_jpeg_extended_is_decoded_to_stored_values(name, rescale, tmp_path):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    if rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = rescale
    dataset.save_as(tmp_path / "x.dcm")
    with quiet():
        array, header = read_pixels(tmp_path / "x.dcm")
    assert array.shape == (1024, 256) == (header.Rows, header.Columns)
    reference = pydicom.dcmread(get_testdata_file("JPEG2000.dcm", download=False)).pixel_array
    assert (array[420, 140], array[230, 120]) == (244, 95)  # what pydicom's own tests expect of these files
    assert abs(array.mean() - reference.mean()) < 1  # the same picture, once lossy, once lossless
    assert np.corrcoef(array.ravel(), reference.ravel())[0, 1] > 0.9
    assert "PixelData" not in header


def test_damaged_pixels_name_the_syntax(tmp_path):
    dataset = pydicom.dcmread(get_testdata_file("MR_small_RLE.dcm", download=False))
    dataset.PixelData = pydicom.encaps.encapsulate([b"\1" * 80])
    dataset.save_as(tmp_path / "x.dcm")
    with quiet(), pytest.raises(InputError, match="RLE Lossless") as caught:
        read_pixels(tmp_path / "x.dcm")
    assert caught.value.code == "undecodable"


def test_pydicom_knows_no_decoder_that_we_deny():
    assert all(has_decoder(uid) for uid in WITH_DECODER.split() if get_decoder(uid).is_available)
