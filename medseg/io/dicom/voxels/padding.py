"""Padding: stored values that stand for no measurement, such as the corners around a round CT image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.io.dicom.voxels.elements import number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_KEYWORDS = (
    ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
)
_AIR = {"CT": -1000.0, "MR": 0.0, "PT": 0.0, "NM": 0.0}
_TISSUE_HU = (-900.0, 3072.0)  # between air and the end of the usual scale of 12 bits


@dataclass(frozen=True, slots=True)
class Padding:
    """The stored values that are padding, both ends included.

    Attributes
    ----------
    low, high : float
        Equal where one value is padding; NaN where no-numbers are.
    """

    low: float
    high: float

    def within(self, plane_yx: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of the stored values are padding.

        Examples
        --------
        >>> Padding(-2000, -2000).within(np.array([[-2000, 7]], np.int16))
        array([[ True, False]])
        """
        mask: NDArray[np.bool_]
        if math.isnan(self.low):
            mask = np.isnan(plane_yx)
            return mask
        low, high = _plain(self.low), _plain(self.high)
        mask = plane_yx == low if low == high else (plane_yx >= low) & (plane_yx <= high)
        return mask


def air_of(modality: str) -> float | None:
    """Return the physical value of nothing: -1000 HU in CT, 0 in MR, PT and NM.

    ``None`` where the modality has none: the least value that is no padding stands for it then, which is the darkest
    one, as X-ray images are inverted where a low value is shown bright.
    """
    return _AIR.get(modality)


def padding_of(dataset: Dataset) -> Padding | None:
    """Read which stored values are padding (PS3.3 section C.7.5.1.1.2): one, or a range with both ends.

    The elements have the type of the pixels, signed or unsigned, but writers get it wrong either way (-2000 comes as
    63536): what counts are their 16 bits, read as the pixels are. An unsigned value that needs more than BitsStored is
    never met, as the bits above are not pixel data.

    Parameters
    ----------
    dataset : Dataset
        A header.
    """
    for keyword, limit in _KEYWORDS:
        value = number_of(dataset, keyword)
        if value is None:
            continue
        other = number_of(dataset, limit)
        ends = [value] if other is None or math.isnan(other) else [value, other]
        return _integers(dataset, ends) if keyword == "PixelPaddingValue" else _floats(ends)
    return None


def is_tissue(ends: Sequence[float], modality: str) -> bool:
    """Tell whether what a header calls padding is an intensity that tissue has, so that it cannot be meant.

    By the standard no measured pixel has the padding value. Some writers leave 0 there in CT all the same, which is
    water.

    Parameters
    ----------
    ends : sequence of float
        The physical values of both ends.
    modality : str
        Only for CT the values are known.

    Examples
    --------
    >>> is_tissue([0.0, 0.0], "CT"), is_tissue([-3024.0, -3024.0], "CT"), is_tissue([0.0, 0.0], "MR")
    (True, False, False)
    """
    low, high = _TISSUE_HU
    return modality == "CT" and min(ends) < high and max(ends) > low


def _integers(dataset: Dataset, ends: Sequence[float]) -> Padding | None:
    if not all(map(math.isfinite, ends)):
        return None
    is_signed = number_of(dataset, "PixelRepresentation") == 1
    bits = _bits(dataset)
    stored = sorted(_signed(int(v) & 0xFFFF, bits) if is_signed else int(v) & 0xFFFF for v in ends)
    return Padding(float(stored[0]), float(stored[-1]))


def _plain(end: float) -> float:
    """Return an end as an integer where it is one, so that integers need no copy as floats to be compared."""
    return int(end) if float(end).is_integer() else end


def _signed(word: int, bits: int) -> int:
    """Return 16 bits as a signed number; where a writer left out the sign bits above BitsStored, they are set."""
    if word >= 1 << 15:
        return word - (1 << 16)
    return word - (1 << bits) if 1 << (bits - 1) <= word < 1 << bits else word


def _bits(dataset: Dataset) -> int:
    bits = number_of(dataset, "BitsStored")
    return int(bits) if bits is not None and 1 <= bits <= 16 else 16


def _floats(ends: Sequence[float]) -> Padding:
    return Padding(min(ends), max(ends)) if not math.isnan(ends[0]) else Padding(math.nan, math.nan)


def padding_words(padding: Padding, modality: str) -> str:
    """Return what becomes of padding, for people."""
    which = f"the value {padding.low:g}" if padding.low == padding.high else f"{padding.low:g} to {padding.high:g}"
    air = air_of(modality)
    to = "the darkest value" if air is None else f"{air:g}{' HU' if modality == 'CT' else ''}"
    return f"stored voxels of {which} are padding: they are set to {to}"
