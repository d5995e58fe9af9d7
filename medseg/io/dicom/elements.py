"""Values of a header that may hold anything: a number, a word or an item of a sequence, or nothing, but no error."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

BAD_VALUE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError, struct.error)


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an element; ``None`` where it is absent, or breaks the rules of its own representation."""
    try:
        return dataset.get(keyword)
    except BAD_VALUE:
        return None


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return a number, its first where there are several; ``None`` where it is absent or empty, NaN where it is none.

    Examples
    --------
    >>> from pydicom.dataset import Dataset
    >>> header = Dataset()
    >>> header.RescaleSlope = "0.5"
    >>> number_of(header, "RescaleSlope"), number_of(header, "RescaleIntercept")
    (0.5, None)
    """
    try:
        return as_number(dataset.get(keyword))
    except BAD_VALUE:
        return math.nan


def as_number(value: Any) -> float | None:
    """Return a raw value as a number; ``None`` where it is empty, NaN where it is no number."""
    try:
        if value is None or (hasattr(value, "__len__") and len(value) == 0):
            return None
        several = hasattr(value, "__iter__") and not isinstance(value, str | bytes)
        return float(next(iter(value)) if several else value.strip(b"\0 ") if isinstance(value, bytes) else value)
    except BAD_VALUE:
        return math.nan


def word_of(dataset: Dataset, keyword: str) -> str:
    """Return a word in capitals; empty where there is none."""
    words = words_of(dataset, keyword)
    return words[0] if words else ""


def words_of(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the words of an element in capitals."""
    value = value_of(dataset, keyword)
    if value is None:
        return ()
    several = hasattr(value, "__iter__") and not isinstance(value, str | bytes)
    return tuple(str(v).strip().strip("\0").upper() for v in (value if several else [value]))


def item_of(dataset: Dataset, keyword: str, number: int = 0) -> Dataset | None:
    """Return an item of a sequence; ``None`` where it is absent."""
    value: Sequence[Dataset] | None = value_of(dataset, keyword)
    try:
        return value[number] if value is not None and number >= 0 else None
    except BAD_VALUE:
        return None


def private_number(dataset: Dataset, group: int, creator: str, element: int) -> float | None:
    """Return a number that a vendor keeps in an element of its own; ``None`` where it is absent."""
    try:
        return as_number(dataset.private_block(group, creator)[element].value)
    except BAD_VALUE:
        return None


def private_word(dataset: Dataset, group: int, creator: str, element: int) -> str:
    """Return a word that a vendor keeps in an element of its own; empty where it is absent."""
    try:
        value = dataset.private_block(group, creator)[element].value
        return (value.decode("ascii") if isinstance(value, bytes) else str(value)).strip().strip("\0")
    except BAD_VALUE:
        return ""
