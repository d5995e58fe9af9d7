"""Values out of a header: right ones as they are, wrong ones as not said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from medseg.io.dicom.header.attributes import as_whole, b_value, cosines, number, numbers, text, texts, whole


def test_texts_lose_padding_and_empty_ends():
    d = Dataset()
    d.ImageType = ["ORIGINAL", "PRIMARY ", ""]
    d.Modality = ""
    assert texts(d, "ImageType") == ("ORIGINAL", "PRIMARY")
    assert (text(d, "Modality"), text(d, "StudyID")) == ("", "")


def test_numbers_of_the_wrong_form_are_not_said():
    d = Dataset()
    d.add_new("ImagePositionPatient", "DS", ["1", "2"])
    d.add_new("PixelSpacing", "LO", "one")
    d.add_new("EchoTime", "FD", math.inf)
    d.add_new("InstanceNumber", "IS", "")
    assert numbers(d, "ImagePositionPatient", 3) is None
    assert numbers(d, "ImagePositionPatient", 2) == (1.0, 2.0)
    assert numbers(d, "PixelSpacing", 2) is None
    assert (number(d, "EchoTime"), whole(d, "EchoTime"), whole(d, "InstanceNumber")) == (math.inf, None, None)
    assert (as_whole(1e300), as_whole(7.9)) == (None, 7)


@given(st.integers(0, 2**31), st.floats(-0.009, 0.009))
def test_directions_are_put_right_evenly(seed, skew):
    axes = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    column = axes[1] + skew * axes[0]
    column /= np.linalg.norm(column)
    found, error = cosines((*axes[0], *column))
    assert error == pytest.approx(abs(skew), abs=1e-6)
    row, col = np.array(found[:3]), np.array(found[3:])
    np.testing.assert_allclose([row @ row, col @ col, row @ col], [1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(row - axes[0]), np.linalg.norm(col - column), atol=1e-9)
    np.testing.assert_allclose(np.cross(row, col), axes[2], atol=1e-9)


def test_a_private_b_value_of_another_owner_is_none():
    d = Dataset()
    d.Manufacturer = "SIEMENS"
    d.private_block(0x43, "SOMEBODY ELSE", create=True).add_new(0x39, "IS", [700])
    assert b_value(d) is None
    d.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "700")
    assert b_value(d) == 700
    d.DiffusionBValue = 650.0
    assert b_value(d) == 650
    d.DiffusionBValue = -1.0
    assert b_value(d) is None
