from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.io.dicom.voxels.rescale import Line, integer_type, rescale_real, rescale_whole, room_for

TYPES = ["i1", "u1", "i2", "u2", "i4", "u4"]


@pytest.mark.parametrize(
    ("stored", "ends", "kind"),
    [
        ("u2", [-1024, 3071], "i2"),
        ("u2", [0, 65535], "u2"),
        ("u2", [-1024, 64511], "i4"),
        ("u1", [0, 255], "u1"),
        ("u1", [-10, 500], "i2"),
        ("i4", [-10, 500], "i2"),
        ("u4", [0, 2**32 - 1], "u4"),
        ("u2", [0, 2**40], None),
    ],
)
def test_the_smallest_type_that_holds_all(stored, ends, kind):
    assert integer_type(np.dtype(stored), ends) == (None if kind is None else np.dtype(kind))


@given(
    stored=st.sampled_from(TYPES),
    out=st.sampled_from(["u1", "i2", "u2", "i4"]),
    slope=st.integers(-(2**40), 2**40).filter(bool) | st.sampled_from([1, -1, 2]),
    intercept=st.integers(-(2**40), 2**40) | st.integers(-2000, 2000),
    seed=st.integers(0, 9),
)
def test_integers_are_exact_wherever_the_result_fits(stored, out, slope, intercept, seed):
    limits, goal = np.iinfo(stored), np.iinfo(out)
    plane = np.random.default_rng(seed).integers(limits.min, limits.max, (3, 4), dtype=stored, endpoint=True)
    exact = [int(v) * slope + intercept for v in plane.ravel()]
    written = np.empty(plane.shape, out)
    rescale_whole(plane, Line(float(slope), float(intercept)), written)
    for value, found in zip(exact, written.ravel().tolist(), strict=True):
        if goal.min <= value <= goal.max:
            assert found == value


@given(slope=st.floats(-1e6, 1e6), intercept=st.floats(-1e6, 1e6), stored=st.sampled_from([*TYPES, "f4", "f8"]))
def test_reals_are_rounded_once(slope, intercept, stored):
    plane = np.arange(12).reshape(3, 4).astype(stored)
    written = np.empty(plane.shape, np.float32)
    rescale_real(plane, Line(slope, intercept), written)
    np.testing.assert_array_equal(written, (plane.astype(np.float64) * slope + intercept).astype(np.float32))


def test_what_float32_does_not_hold_becomes_infinite_without_a_word():
    written = np.empty((1, 2), np.float32)
    rescale_real(np.array([[1e300, 1.0]]), Line(), written)
    assert written.tolist() == [[np.inf, 1.0]]


def test_memory_is_used_again_where_it_fits():
    stored = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    assert np.shares_memory(room_for(stored, np.int16), stored)
    assert not np.shares_memory(room_for(stored, np.float32), stored)
    stored.flags.writeable = False
    assert not np.shares_memory(room_for(stored, np.int16), stored)
