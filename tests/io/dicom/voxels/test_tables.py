from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import InputError
from medseg.io.dicom.voxels.tables import Table, table_of

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def header(descriptor, data, *, signed=0, vr="OW", descriptor_vr=None):
    found, item = Dataset(), Dataset()
    found.PixelRepresentation, found.BitsAllocated = signed, 16
    item.add_new("LUTDescriptor", descriptor_vr or ("SS" if signed else "US"), descriptor)
    item.add_new("LUTData", vr, data)
    found.ModalityLUTSequence = [item]
    return found


def through_a_file(dataset, syntax):
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    stream.seek(0)
    return pydicom.dcmread(stream)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("signed", [0, 1])
def test_pydicom_says_the_same(syntax, signed):
    rng = np.random.default_rng(signed)
    entries = rng.integers(0, 4096, 300).astype(np.uint16)
    first = -100 if signed else 100
    data = entries.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    read = through_a_file(header([300, first, 16], data, signed=signed), syntax)
    plane = rng.integers(-400 if signed else 0, 900, (20, 30)).astype(np.int16 if signed else np.uint16)
    found = table_of(read).applied(plane)
    np.testing.assert_array_equal(found, apply_modality_lut(plane, read))
    assert found.dtype == np.uint16


@given(first=st.integers(-40, 40), count=st.integers(1, 50), kind=st.sampled_from(["i1", "u1", "i2", "u2", "i4"]))
def test_values_beyond_the_ends_take_the_last_entry(first, count, kind):
    entries = np.random.default_rng(count).integers(0, 60000, count).astype(np.uint16)
    limits = np.iinfo(kind)
    plane = np.array([[max(limits.min, -100), 0, 3, 17, 100, limits.max]], kind)
    slow = [[entries[min(max(v - first, 0), count - 1)] for v in row] for row in plane.tolist()]
    np.testing.assert_array_equal(Table(entries, first).applied(plane), slow)


@pytest.mark.parametrize("data", [bytes([9, 8, 7, 0]), bytes([9, 0, 8, 0, 7, 0]), [9, 8, 7]])
def test_entries_of_eight_bits_in_bytes_or_in_words(data):
    table = table_of(header([3, 0, 8], data, vr="US" if isinstance(data, list) else "OW"))
    np.testing.assert_array_equal(table.entries, [9, 8, 7])
    assert table.entries.dtype == np.uint8


def test_bytes_in_big_endian_words_are_swapped():
    read = through_a_file(header([4, 0, 8], bytes([8, 9, 6, 7])), ExplicitVRBigEndian)
    np.testing.assert_array_equal(table_of(read).entries, [9, 8, 7, 6])


def test_a_full_table_has_no_number_of_entries():
    data = np.arange(2**16, dtype="<u2")[::-1].tobytes()
    table = table_of(header([0, 0, 16], data))
    assert table.entries.size == 2**16
    np.testing.assert_array_equal(table.applied(np.array([[0, 65535]], np.uint16)), [[65535, 0]])


def test_the_sign_of_the_first_value_is_that_of_the_pixels():
    data = bytes(6)
    assert table_of(header([3, 65526, 16], data, signed=1, descriptor_vr="US")).first == -10
    assert table_of(header([3, -10, 16], data, descriptor_vr="SS")).first == 65526


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (header([0, 0, 16], bytes(100)), "holds 50 entries, where its descriptor says 65536"),
        (header([4, 0, 16], [1, 2], vr="US"), "holds 2 entries"),
        (header([3, 0, 16], None), "holds 0 entries"),
        (header([3, 0, 7], bytes(6)), "entries of 7 bits"),
        (header([3, 0, 60000], bytes(6)), "entries of 60000 bits"),
        (header([3, 0], bytes(6)), "not three numbers"),
        (header(None, bytes(6)), "not three numbers"),
    ],
)
def test_what_makes_no_table_is_refused(case, words):
    with pytest.raises(InputError, match=words) as caught:
        table_of(case)
    assert caught.value.code == "bad-rescale"


def test_mirrored_keeps_the_range():
    table = Table(np.array([100, 200, 700], np.uint16), 0)
    np.testing.assert_array_equal(table.mirrored().entries, [700, 600, 100])
    assert table.mirrored().ends == table.ends == (100.0, 700.0)


def test_without_a_table():
    empty = Dataset()
    empty.ModalityLUTSequence = []
    assert table_of(Dataset()) is None
    assert table_of(empty) is None
