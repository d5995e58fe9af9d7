from __future__ import annotations

import math

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg.io.dicom.voxels.elements import (
    as_number,
    item_of,
    number_of,
    private_number,
    private_word,
    word_of,
    words_of,
)


@pytest.mark.parametrize(
    ("found", "number"),
    [(None, None), ("", None), ([], None), (b"", None), ("1.5", 1.5), (b" 1.5\0", 1.5), ([2, 3], 2.0), (7, 7.0)],
)
def test_numbers(found, number):
    assert as_number(found) == number


@pytest.mark.parametrize("found", ["x", b"\xff\xfe", [None], object(), [[]]])
def test_nonsense_is_not_absent(found):
    assert math.isnan(as_number(found))


def test_a_value_that_its_own_type_forbids_is_nonsense():
    broken = Dataset()
    broken.add_new("RescaleSlope", "DS", "1")
    broken["RescaleSlope"]._value = "one"
    assert math.isnan(number_of(broken, "RescaleSlope"))
    assert number_of(broken, "RescaleIntercept") is None


def test_words_and_items():
    header, item = Dataset(), Dataset()
    header.add_new("CorrectedImage", "LO", ["attn", "DECY "])
    header.add_new("Units", "LO", "bqml")
    header.ModalityLUTSequence = Sequence([item])
    assert words_of(header, "CorrectedImage") == ("ATTN", "DECY")
    assert (word_of(header, "Units"), word_of(header, "SUVType")) == ("BQML", "")
    assert item_of(header, "ModalityLUTSequence") is item
    assert item_of(header, "ModalityLUTSequence", 1) is None
    assert item_of(header, "ModalityLUTSequence", -1) is None
    assert item_of(header, "VOILUTSequence") is None
    assert item_of(header, "Units") is None


def test_private_elements_are_found_by_their_creator():
    header = Dataset()
    header.private_block(0x7053, "Someone Else", create=True).add_new(0x00, "DS", "5")
    assert private_number(header, 0x7053, "Philips PET Private Group", 0x00) is None
    block = header.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "UN", b"0.5 ")
    block.add_new(0x01, "UN", b"20140618\0")
    assert private_number(header, 0x7053, "Philips PET Private Group", 0x00) == 0.5
    assert private_word(header, 0x7053, "Philips PET Private Group", 0x01) == "20140618"
    assert private_word(header, 0x7053, "Philips PET Private Group", 0x02) == ""
