from __future__ import annotations

import numpy as np
import pytest

from medseg.io.dicom.rescale import rescaled


@pytest.mark.parametrize(
    ("dtype", "values", "slope", "intercept", "read_as"),
    [
        (np.uint16, [0, 4095], 1.0, -1024.0, np.int16),
        (np.uint16, [0, 65535], 1.0, -1024.0, np.int32),
        (np.int16, [-2000, 3000], 1.0, -1024.0, np.int16),
        (np.int16, [-32768, 3000], 1.0, -1024.0, np.int32),
        (np.uint16, [0, 65535], 1.0, 0.0, np.uint16),
        (np.uint8, [0, 255], 2.0, -10.0, np.int16),
        (np.int32, [-5, 70000], 3.0, 1.0, np.int32),
        (np.uint16, [0, 60000], 1e6, 0.0, np.float32),
        (np.uint16, [0, 4095], 0.5, -1024.0, np.float32),
        (np.float32, [0.5, 1.5], 1.0, 0.0, np.float32),
    ],
)
def test_values_and_type(dtype, values, slope, intercept, read_as):
    stored = np.array([[values]], dtype)
    out = rescaled(stored.copy(), [slope], [intercept])
    assert out.dtype == read_as
    np.testing.assert_allclose(out[0, 0], np.array(values, np.float64) * slope + intercept, rtol=1e-6)


def test_each_slice_has_its_own_scale():
    stored = np.full((3, 1, 2), 10, np.int16)
    np.testing.assert_array_equal(rescaled(stored.copy(), [1, 2, 3], [0, 0, 5])[:, 0, 0], [10, 20, 35])
    np.testing.assert_allclose(rescaled(stored.copy(), [0.1, 0.2, 1], [0, 0, 0])[:, 0, 0], [1, 2, 10], rtol=1e-6)


def test_stored_values_are_reused_where_they_fit():
    stored = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    assert np.shares_memory(rescaled(stored, [1], [-1024]), stored)


def test_read_only_values_are_left_alone():
    stored = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    stored.flags.writeable = False
    np.testing.assert_array_equal(rescaled(stored, [1], [-1]), stored.astype(int) - 1)
