"""Slope and intercept applied slice by slice: in place and by integers where nothing is lost, else in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray


class Line(NamedTuple):
    """Physical is stored times slope plus intercept."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.slope == 1 and self.intercept == 0

    @property
    def is_whole(self) -> bool:
        """Whether integers stay integers."""
        return float(self.slope).is_integer() and float(self.intercept).is_integer()

    def of(self, stored: float) -> float:
        """Return the physical value of a stored one."""
        return stored * self.slope + self.intercept


IDENTITY = Line()


def integer_type(stored: np.dtype[Any], ends: Sequence[float]) -> np.dtype[Any] | None:
    """Return the smallest of the stored type, int16 and int32 that holds all of `ends`, or ``None``.

    Examples
    --------
    >>> integer_type(np.dtype(np.uint16), [-1024, 3071])
    dtype('int16')
    """
    for kind in sorted((stored, np.dtype(np.int16), np.dtype(np.int32)), key=lambda kind: kind.itemsize):
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return kind
    return None


def room_for(stored_zyx: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array for the result: the stored values' own memory where the sizes agree and it may be written."""
    if stored_zyx.dtype.itemsize == np.dtype(dtype).itemsize and stored_zyx.flags.writeable:
        return stored_zyx.view(dtype)
    return np.empty(stored_zyx.shape, dtype)


def rescale_whole(plane_yx: NDArray[Any], line: Line, out_yx: NDArray[Any]) -> None:
    """Write the physical values of one slice, by integers alone.

    The sums are those of unsigned integers as wide as the result, which wrap round: exact whenever the result fits,
    whatever comes between (two's complement). So nothing wider is ever made.

    Parameters
    ----------
    plane_yx : (Y, X) integer
        Stored values.
    line : Line
        Whole numbers.
    out_yx : (Y, X) integer
        Written; may be `plane_yx` itself, seen as another type of its size.
    """
    word = np.dtype(f"u{out_yx.dtype.itemsize}")
    slope, intercept = (np.array(int(v) % 2 ** (8 * word.itemsize), word) for v in line)
    same = plane_yx.dtype.itemsize == word.itemsize
    plane, out = plane_yx.view(word) if same else plane_yx, out_yx.view(word)
    if line.slope == 1:
        np.add(plane, intercept, out=out, dtype=word, casting="unsafe")
    elif line.slope == -1:
        np.subtract(intercept, plane, out=out, dtype=word, casting="unsafe")
    else:
        np.multiply(plane, slope, out=out, dtype=word, casting="unsafe")
        np.add(out, intercept, out=out)


def rescale_real(plane_yx: NDArray[Any], line: Line, out_yx: NDArray[np.float32]) -> None:
    """Write the physical values of one slice, reckoned in float64 and rounded once.

    Parameters
    ----------
    plane_yx : (Y, X) integer or float
        Stored values.
    line : Line
        Any numbers.
    out_yx : (Y, X) float32
        Written.
    """
    if line.is_identity:
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite, which is found later
            out_yx[...] = plane_yx
        return
    values = np.multiply(plane_yx, line.slope, dtype=np.float64)
    np.add(values, line.intercept, out=values)
    with np.errstate(over="ignore"):
        out_yx[...] = values
