"""From stored to physical values: slope and intercept of each slice, in the smallest type that loses nothing.

Modality LUT transformation of PS3.3 section C.11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def rescaled(stored_zyx: NDArray[Any], slopes: Sequence[float], intercepts: Sequence[float]) -> NDArray[Any]:
    """Apply slope and intercept slice by slice.

    Parameters
    ----------
    stored_zyx : (Z, Y, X) integer
        Stored values; may be overwritten.
    slopes, intercepts : sequences of Z floats
        One pair per slice.

    Returns
    -------
    (Z, Y, X) integer or float32
        The stored type where slope is 1 and intercept 0 everywhere; int16 or int32 where all are whole numbers and
        the result fits; float32 otherwise.

    Examples
    --------
    >>> rescaled(np.array([[[0, 1024]]], dtype=np.uint16), [1.0], [-1024.0])
    array([[[-1024,     0]]], dtype=int16)
    """
    if stored_zyx.dtype.kind == "f":
        return _floats(stored_zyx, slopes, intercepts)
    if all(s == 1 for s in slopes) and not any(intercepts):
        return stored_zyx
    if not all(float(v).is_integer() for v in (*slopes, *intercepts)):
        return _floats(stored_zyx, slopes, intercepts)
    low, high = _range(stored_zyx, slopes, intercepts)
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return _integers(stored_zyx, slopes, intercepts, dtype)
    return _floats(stored_zyx, slopes, intercepts)


def _range(stored_zyx: NDArray[Any], slopes: Sequence[float], intercepts: Sequence[float]) -> tuple[float, float]:
    ends = [
        float(end) * slope + intercept
        for plane, slope, intercept in zip(stored_zyx, slopes, intercepts, strict=True)
        for end in (plane.min(), plane.max())
    ]
    return min(ends), max(ends)


def _integers(
    stored_zyx: NDArray[Any], slopes: Sequence[float], intercepts: Sequence[float], dtype: type[np.signedinteger[Any]]
) -> NDArray[Any]:
    # Where the sizes agree the result takes the place of the stored values: a CT is then held in memory once.
    fits = stored_zyx.dtype.itemsize == np.dtype(dtype).itemsize and stored_zyx.flags.writeable
    out = stored_zyx.view(dtype) if fits else np.empty(stored_zyx.shape, dtype)
    for z, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
        out[z] = stored_zyx[z].astype(np.int64) * int(slope) + int(intercept)
    return out


def _floats(stored_zyx: NDArray[Any], slopes: Sequence[float], intercepts: Sequence[float]) -> NDArray[np.float32]:
    out = np.empty(stored_zyx.shape, np.float32)
    for z, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
        out[z] = stored_zyx[z].astype(np.float64) * slope + intercept
    return out
