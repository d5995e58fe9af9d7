"""Walking over the elements of a data set: what pydicom finds is found, and hostile bytes end soon."""

from __future__ import annotations

import io

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from medseg.io.dicom.header.sequences import first_values, values
from medseg.io.dicom.header.walk import UNDEFINED, Element, Walker

SEQUENCE, VALUE = 0x00081140, 0x0020000E


def nested(*, undefined):
    """Return a data set with sequences within sequences, of defined or undefined length."""
    inner = Dataset()
    inner.PurposeOfReferenceCodeSequence = [Dataset(), Dataset()]
    inner.PurposeOfReferenceCodeSequence[0].CodeValue = "121311"
    inner.ReferencedSOPInstanceUID = "1.2.3"
    d = Dataset()
    d.ReferencedImageSequence = [inner, Dataset()]
    d.SeriesInstanceUID = "1.2.4"
    for holder in (d, inner):
        for element in holder:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
                for item in element.value:
                    item.is_undefined_length_sequence_item = undefined
    return d


def written(dataset, *, implicit, little):
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = implicit, little
    write_dataset(stream, dataset)
    return io.BytesIO(stream.getvalue())


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_elements_and_items_are_found(undefined, implicit, little):
    walker = Walker(
        written(nested(undefined=undefined), implicit=implicit, little=little), implicit=implicit, little=little
    )
    found = []
    for element in walker.elements(0):
        if element.tag == SEQUENCE:
            items = [[inner.tag for inner in walker.elements(*item)] for item in walker.items(element)]
        else:
            found = [element.tag, values(walker, element, "UI")]
    assert items == [[0x00081155, 0x0040A170], []]
    assert found == [VALUE, ("1.2.4",)]


@pytest.mark.parametrize("undefined", [False, True])
def test_a_sequence_is_stepped_over_however_much_of_it_was_read(undefined):
    walker = Walker(written(nested(undefined=undefined), implicit=False, little=True), implicit=False, little=True)
    for depth in range(3):
        tags = []
        for element in walker.elements(0):
            tags.append(element.tag)
            if depth > 0 and element.tag == SEQUENCE:
                for item in walker.items(element):
                    if depth > 1:
                        next(walker.elements(*item), None)
                    break
        assert tags == [SEQUENCE, VALUE]


def test_implicit_items_within_explicit_ones_are_read():
    inside = written(nested(undefined=False), implicit=True, little=True).getvalue()
    head = b"\x08\x00\x40\x11UN\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0" + len(inside).to_bytes(4, "little")
    tail = b"\xfe\xff\xdd\xe0\0\0\0\0" + written(nested(undefined=False), implicit=False, little=True).getvalue()
    walker = Walker(io.BytesIO(head + inside + tail), implicit=False, little=True)
    first, *others = walker.elements(0)
    assert [e.tag for item in walker.items(first) for e in walker.elements(*item)] == [SEQUENCE, VALUE]
    assert [e.tag for e in others] == [SEQUENCE, VALUE]


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 50_000,
        b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 200_000,
        b"\xff\xff\xff\xff" + b"\x08\x00\x40\x11SQ\x00\x00",
        b"\xff\xff\xff\xff",
        b"\xfe\xff\xff\xff",
        b"\xff\xff\xff\x7f" + bytes(100),
    ],
)
def test_hostile_bytes_are_an_error(raw):
    walker = Walker(io.BytesIO(b"\x08\x00\x40\x11SQ\x00\x00" + raw), implicit=False, little=True, most=100_000)
    with pytest.raises(ValueError, match=r"element|sequence|item"):
        list(walker.elements(0))


def test_values_are_numbers_where_they_are_to_be():
    d = Dataset()
    d.ImagePositionPatient, d.Rows, d.DiffusionBValue = [1.5, -2, 3], 7, 0.25
    walker = Walker(written(d, implicit=True, little=True), implicit=True, little=True)
    position = pydicom.tag.Tag("ImagePositionPatient")
    assert first_values(walker, 0, None, {int(position): "DS", 0x00280010: "US", 0x00189087: "FD"}) == {
        int(position): 1.5,
        0x00280010: 7.0,
        0x00189087: 0.25,
    }
    for raw, vr in ((b"1\\two", "DS"), (b"\0\0\0", "FD"), (b"", "IS")):
        walker = Walker(io.BytesIO(raw), implicit=True, little=True)
        assert values(walker, Element(0, "", 0, len(raw)), vr) == ()
    assert values(walker, Element(0, "", 0, UNDEFINED), "DS") == ()
