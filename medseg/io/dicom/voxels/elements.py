"""Values that turn stored numbers into physical ones: a number may be absent or nonsense, which is not the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydicom.sequence import Sequence

from medseg.io.dicom.header.attributes import BAD_VALUE, text, texts, value

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


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


def as_number(found: Any) -> float | None:
    """Return a raw value as a number; ``None`` where it is empty, NaN where it is no number."""
    try:
        if found is None or (hasattr(found, "__len__") and len(found) == 0):
            return None
        if isinstance(found, str | bytes) or not hasattr(found, "__iter__"):
            return float(found.strip(b"\0 ") if isinstance(found, bytes) else found)
        return float(next(iter(found)))
    except BAD_VALUE:
        return math.nan


def word_of(dataset: Dataset, keyword: str) -> str:
    """Return the first word of an element in capitals; empty where there is none."""
    return text(dataset, keyword).upper()


def words_of(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the words of an element in capitals."""
    return tuple(word.upper() for word in texts(dataset, keyword))


def item_of(dataset: Dataset, keyword: str, number: int = 0) -> Dataset | None:
    """Return an item of a sequence; ``None`` where it is absent."""
    items = value(dataset, keyword)
    return items[number] if isinstance(items, Sequence) and 0 <= number < len(items) else None


def private_number(dataset: Dataset, group: int, creator: str, element: int) -> float | None:
    """Return a number that a vendor keeps in an element of its own; ``None`` where it is absent."""
    try:
        return as_number(dataset.private_block(group, creator)[element].value)
    except BAD_VALUE:
        return None


def private_word(dataset: Dataset, group: int, creator: str, element: int) -> str:
    """Return a word that a vendor keeps in an element of its own; empty where it is absent."""
    try:
        found = dataset.private_block(group, creator)[element].value
        return (found.decode("ascii") if isinstance(found, bytes) else str(found)).strip().strip("\0")
    except BAD_VALUE:
        return ""
