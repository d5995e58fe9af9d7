"""Single values out of a header, with nothing taken on trust: what has the wrong form counts as not said."""

from __future__ import annotations

import math
import struct
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydicom.tag import BaseTag, Tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

Numbers = tuple[float, ...]
Pair = tuple[float, float]

BAD_VALUE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError, struct.error)
NOT_ORTHONORMAL = 1e-4  # off unit length or the right angle: above it a note; it shifts 0.03 mm over a large image
_NO_AXES = 0.01  # as before: above it the directions are refused
_EXACT = 1e-12
_MOST_WHOLE = 2**53  # beyond it a float is no exact whole number
_GE_B_OFFSET = 10**6  # GE adds a multiple of a thousand million to some b-values
_MOST_B = 1e5  # s/mm2


def value(dataset: Dataset, keyword: str | int) -> Any:
    """Return an element's value, or ``None`` where it is absent or its own representation forbids it."""
    tag = _tag(keyword)
    try:
        return dataset[tag].value if tag in dataset else None
    except BAD_VALUE:
        return None


@cache
def _tag(keyword: str | int) -> BaseTag:
    return Tag(keyword)


def texts(dataset: Dataset, keyword: str | int) -> tuple[str, ...]:
    """Return the texts of an element, without trailing empty ones."""
    found = value(dataset, keyword)
    if found is None:
        return ()
    values = [found] if isinstance(found, str | bytes) or not hasattr(found, "__iter__") else list(found)
    said = [str(v).strip().strip("\0") for v in values]
    while said and not said[-1]:
        said.pop()
    return tuple(said)


def text(dataset: Dataset, keyword: str | int) -> str:
    """Return the first text of an element; empty where there is none."""
    said = texts(dataset, keyword)
    return said[0] if said else ""


def numbers(dataset: Dataset, keyword: str, count: int) -> Numbers | None:
    """Return an element's `count` finite numbers, or ``None`` where it does not hold just these."""
    found = value(dataset, keyword)
    if found is None or isinstance(found, str):
        return None
    try:
        values = tuple(float(v) for v in found) if hasattr(found, "__iter__") else (float(found),)
    except BAD_VALUE:
        return None
    return finite(values, count)


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return an element's number, which may be none (NaN); ``None`` where it holds none, or several."""
    found = value(dataset, keyword)
    try:
        return None if found is None or found == "" else float(found)
    except BAD_VALUE:
        return None


def whole(dataset: Dataset, keyword: str) -> int | None:
    """Return an element's whole number."""
    return as_whole(number(dataset, keyword))


def as_whole(found: float | None) -> int | None:
    """Return a number cut to a whole one, or ``None`` where it is none or beyond counting."""
    return int(found) if found is not None and math.isfinite(found) and abs(found) <= _MOST_WHOLE else None


def finite(values: Sequence[float] | None, count: int) -> Numbers | None:
    """Return the numbers where they are `count` and finite."""
    return tuple(values) if values is not None and len(values) == count and all(map(math.isfinite, values)) else None


def as_length(found: float | None) -> float | None:
    """Return a length in mm; ``None`` for zero. Some write the spacing between slices negative."""
    return abs(found) if found and math.isfinite(found) else None


def as_lengths(found: Sequence[float] | None) -> Pair | None:
    """Return two positive lengths, or ``None``."""
    return (found[0], found[1]) if found and len(found) == 2 and min(found) > 0 else None


def cosines(six: Numbers | None) -> tuple[Numbers | None, float | None]:
    """Return row and column direction as unit vectors at right angles, and how far they were off.

    What is off by rounding, or by a little more, is put right by turning both directions by the same angle. ``None``
    where they are too far off to mean a place, or not there; the error is ``None`` where they are not there.

    Examples
    --------
    >>> cosines((1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 0.0)
    >>> cosines((1.0, 0.0, 0.0, 0.8, 0.6, 0.0))
    (None, 0.8)
    """
    if six is None:
        return None, None
    row, column = six[:3], six[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    dot = _dot(row, column)
    error = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(dot))
    if error > _NO_AXES:
        return None, error
    row, column = _scaled(row, lengths[0]), _scaled(column, lengths[1])
    if abs(dot) > _EXACT:
        between = _unit([a + b for a, b in zip(row, column, strict=True)])
        across = _unit([a - b for a, b in zip(row, column, strict=True)])
        row = _unit([a + b for a, b in zip(between, across, strict=True)])
        column = _unit([a - b for a, b in zip(between, across, strict=True)])
    return (*row, *column), error


def b_value(dataset: Dataset) -> float | None:
    """Return the b-value of a diffusion image in s/mm2: the standard's, else the vendor's own.

    (0018,9087) of PS3.3 section C.8.13.5.9; (0019,100C) of Siemens, (0043,1039) of GE, (2001,1003) of Philips,
    (0065,1009) of United Imaging, where the block's owner or, as anonymisers drop that, the maker is the right one.
    """
    found = number(dataset, "DiffusionBValue")
    if found is None:
        maker = text(dataset, "Manufacturer").upper()
        for tag, owner, name in _VENDORS:
            block = text(dataset, _OWNERS[tag])
            if tag in dataset and (block.startswith(owner) or (not block and maker.startswith(name))):
                found = _first(value(dataset, tag))
                if name == "GE" and found is not None and found > _GE_B_OFFSET:
                    found %= _GE_B_OFFSET
                break
    return found if found is not None and math.isfinite(found) and 0 <= found <= _MOST_B else None


_VENDORS = (
    (0x0019100C, "SIEMENS MR HEADER", "SIEMENS"),
    (0x00431039, "GEMS_PARM_01", "GE"),
    (0x20011003, "Philips Imaging DD 001", "PHILIPS"),
    (0x00651009, "Image Private Header", "UIH"),
)
_OWNERS = MappingProxyType({tag: (tag & 0xFFFF0000) | (tag >> 8 & 0xFF) for tag, _, _ in _VENDORS})
B_VALUE_TAGS = frozenset({*_OWNERS, *_OWNERS.values()})


def _first(found: Any) -> float | None:
    """Return the first number of a private element, whatever it was read as."""
    try:
        if isinstance(found, bytes):
            if len(found) in {4, 8} and not found.strip(b"\0 ").replace(b".", b"").isdigit():
                return float(struct.unpack("<f" if len(found) == 4 else "<d", found)[0])
            found = found.decode("latin-1").split("\\")[0].strip("\0 ")
        return float(found[0] if hasattr(found, "__iter__") and not isinstance(found, str) else found)
    except BAD_VALUE:
        return None


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _scaled(vector: Sequence[float], length: float) -> Numbers:
    return tuple(v / length for v in vector)


def _unit(vector: Sequence[float]) -> Numbers:
    return _scaled(vector, math.hypot(*vector))
