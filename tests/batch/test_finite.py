from __future__ import annotations

import numpy as np
import pytest

from medseg.batch.finite import finite
from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.volume import Volume


def volume(array: np.ndarray) -> Volume:
    return Volume(array, Geometry(array.shape[1:], np.eye(4)), ("image",) * len(array))


def noisy() -> np.ndarray:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5) - 7
    array[0, 1, 2, 3], array[0, 0, 0, 0], array[1, 2, 0, 0] = np.nan, -np.inf, np.inf
    return array


def test_numbers_are_left_as_they_are() -> None:
    for dtype in (np.int16, np.float32):
        whole = volume(np.ones((1, 2, 2, 2), dtype))
        assert finite(whole, fill=True) == (whole, ())


def test_what_is_no_number_takes_its_channels_lowest_value() -> None:
    array = noisy()
    known = np.isfinite(array)
    mended, (found,) = finite(volume(array), fill=True)
    np.testing.assert_array_equal(mended.array[known], array[known])
    assert mended.array[0][~known[0]].tolist() == [-6.0, -6.0]
    assert mended.array[1][~known[1]].tolist() == [53.0]
    assert (found.code, found.effect, found.severity) == ("non-finite", "ok", "warning")
    assert found.message.startswith("3 voxels")
    assert not np.isfinite(array).all()


def test_without_leave_it_is_refused_naming_the_flag() -> None:
    with pytest.raises(InputError, match=r"3 voxels .*--on-nonfinite fill") as caught:
        finite(volume(noisy()), fill=False)
    assert caught.value.code == "non-finite"


def test_a_channel_without_a_number_cannot_be_filled() -> None:
    array = noisy()
    array[1] = np.nan
    with pytest.raises(InputError, match="no voxel of the scan is a number"):
        finite(volume(array), fill=True)
