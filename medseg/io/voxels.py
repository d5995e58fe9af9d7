"""Stored numbers become voxels: scale applied, types we carry, mask values checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError, OutputError
from medseg.labels import MAX_LABEL_ID
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PLAIN_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32")
"""The voxel types that every reader gives and every writer takes."""
COLOURS = ("red", "green", "blue")
"""The channels of a colour picture."""

_INTEGER_TYPES = tuple(np.dtype(name) for name in ("uint8", "int16", "uint16", "int32"))


def rescaled(array: NDArray[Any], *, slope: float, intercept: float) -> NDArray[Any]:
    """Return ``slope * array + intercept``: whole numbers where all three are whole, else float32.

    Whole results keep the array's type where they fit, else take the first of uint8, int16, uint16, int32 that
    holds them.

    Examples
    --------
    >>> rescaled(np.array([0, 1024], np.uint16), slope=1.0, intercept=-1024.0)
    array([-1024,     0], dtype=int16)
    >>> rescaled(np.array([1, 2], np.uint8), slope=0.5, intercept=0.0).dtype
    dtype('float32')
    """
    if slope == 1.0 and intercept == 0.0:
        return array
    is_whole = array.dtype.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer()
    target = _whole_type(array, int(slope), int(intercept)) if is_whole else None
    out = np.empty(array.shape, dtype=target or np.float32)
    for index in np.ndindex(*array.shape[:-2]):  # one slice at a time: float64 arithmetic without a float64 volume
        out[index] = array[index].astype(np.float64) * slope + intercept
    return out


def plain_type(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as one of `PLAIN_TYPES`: float32 for other floats, int32 for wider integers that fit.

    Raises
    ------
    InputError
        Where whole numbers are beyond 32 bits.
    """
    if array.dtype.name in PLAIN_TYPES:
        return array
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is found where numbers are checked
            return array.astype(np.float32)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise InputError(f"the voxels are of type {array.dtype}", expected="whole or floating-point numbers")
    limits = np.iinfo(np.int32)
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        raise InputError("the voxels hold whole numbers beyond 32 bits", expected=f"{limits.min} to {limits.max}")
    return array.astype(np.int32)


def refuse_other_types(dtype: np.dtype[Any]) -> None:
    """Refuse to write voxels of a type that would not come back the same.

    Raises
    ------
    OutputError
        Where the type is none of `PLAIN_TYPES`.
    """
    if dtype.name not in PLAIN_TYPES:
        raise OutputError(f"the voxels are of type {dtype}", expected=f"one of {', '.join(PLAIN_TYPES)}")


def mask_values(array_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return stored numbers as label ids, uint8 or uint16; float storage is fine where every number is whole.

    Raises
    ------
    InputError
        Where a number is negative, not whole, or above 65535.
    """
    if array_zyx.dtype in (np.uint8, np.uint16):
        return array_zyx
    return whole_numbers(array_zyx, highest=MAX_LABEL_ID, what="label ids", kinds=(np.uint8, np.uint16))


def whole_numbers(
    array: NDArray[Any], *, highest: int, what: str, kinds: Sequence[type[np.unsignedinteger[Any]]]
) -> NDArray[Any]:
    """Return stored numbers in the first of some unsigned types that holds them.

    Parameters
    ----------
    array : array
        Whole numbers, or floating-point ones that are whole.
    highest : int
        What they may be at most.
    what : str
        What they are, in the words of an error.
    kinds : sequence of type
        By rising size; the last holds `highest`.

    Raises
    ------
    InputError
        Where a number is not finite, not whole, negative, or too high.
    """
    low, high = array.min(), array.max()
    found = f"the mask holds numbers from {low:g} to {high:g}"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{found}, which are not finite", expected=what)
    if low < 0 or high > highest:
        raise InputError(found, expected=f"{what}, 0 to {highest}")
    numbers = array.astype(next(kind for kind in kinds if high <= np.iinfo(kind).max))
    if array.dtype.kind == "f" and not np.array_equal(numbers, array):
        raise InputError("the mask holds numbers that are not whole", expected=what, remedy="Is it a probability map?")
    return numbers


def channel_names(count: int) -> tuple[str, ...]:
    """Return names for channels nobody named: ``image``, or ``image_0``, ``image_1`` and so on."""
    return ("image",) if count == 1 else tuple(f"image_{i}" for i in range(count))


def as_colours(volume: Volume, names: Sequence[str]) -> Volume:
    """Return a picture with the channels a data set or model has, where that takes no guess; else as it is.

    A grey picture is a colour picture of three equal channels, and a colour picture of three equal channels is a grey
    one. Only channels called red, green and blue (or r, g, b) are colours: three other channels are never one. A
    picture has one slice: volumes come as they are.

    Parameters
    ----------
    volume : Volume
        What was read.
    names : sequence of str
        The channels there should be; none where nobody says.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> grey = Volume(np.full((1, 1, 1, 2), 7, np.uint8), Geometry((1, 1, 2), np.eye(4)))
    >>> colour = as_colours(grey, ["red", "green", "blue"])
    >>> colour.array.ravel().tolist(), as_colours(colour, ["EM"]).array.ravel().tolist()
    ([7, 7, 7, 7, 7, 7], [7, 7])
    >>> as_colours(grey, ["T1", "T2", "FLAIR"]) is grey
    True
    """
    count, array = len(volume.channels), volume.array
    if volume.geometry.shape[0] != 1:
        return volume
    if count == 1 and _are_colours(names):
        return Volume(np.repeat(array, len(COLOURS), axis=0), volume.geometry, COLOURS)
    is_grey = len(names) == 1 and _are_colours(volume.channels) and bool((array == array[:1]).all())
    return Volume(array[:1].copy(), volume.geometry, channel_names(1)) if is_grey else volume


def _are_colours(names: Sequence[str]) -> bool:
    return tuple(name.strip().lower()[:1] for name in names) == ("r", "g", "b") and all(
        name.strip().lower() in {*COLOURS, "r", "g", "b"} for name in names
    )


def _whole_type(array: NDArray[Any], slope: int, intercept: int) -> np.dtype[Any] | None:
    """Return the type whole results fit into; None where none of ours does."""
    ends = [int(array.min()) * slope + intercept, int(array.max()) * slope + intercept]
    for dtype in (array.dtype, *_INTEGER_TYPES):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return dtype
    return None
