"""The values that are wanted from the items of a sequence, read by length and type without building data sets."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING

from medseg.io.dicom.header.walk import UNDEFINED, Element, Walker

if TYPE_CHECKING:
    from collections.abc import Mapping

Values = tuple[float | str, ...]

_LONGEST = 2**10  # bytes of one value
_BINARY: Mapping[str, str] = MappingProxyType(
    {"FD": "d", "FL": "f", "US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "OF": "f", "OD": "d"}
)
_TEXT_NUMBERS = frozenset({"DS", "IS"})


def values(walker: Walker, element: Element, usual_vr: str) -> Values:
    """Return the values of an element, numbers or texts; none where they cannot be read as what they should be.

    Parameters
    ----------
    walker : Walker
        Of the file.
    element : Element
        One of the walker's.
    usual_vr : str
        Its type in the standard, for files that do not say (or say unknown), and to tell what is to be a number.
    """
    if element.length == UNDEFINED or element.length > _LONGEST:
        return ()
    raw = walker.value(element)
    code = _BINARY.get(element.vr if element.vr not in {"", "UN"} else usual_vr)
    if code is not None:
        count = len(raw) // struct.calcsize(f"<{code}")
        found: Values = struct.unpack_from(f"{'<' if walker.little else '>'}{count}{code}", raw)
        return found
    said = tuple(part.strip(" \0") for part in raw.decode("latin-1").split("\\"))
    if usual_vr not in _TEXT_NUMBERS and usual_vr not in _BINARY:
        return said
    try:
        return tuple(float(part) for part in said)
    except ValueError:
        return ()


def first_values(walker: Walker, start: int, end: int | None, leaves: Mapping[int, str]) -> dict[int, float]:
    """Return the first number of each wanted element in an item.

    Parameters
    ----------
    walker : Walker
        Of the file.
    start, end : int
        Of the item, as `Walker.items` yields them.
    leaves : mapping of tag to VR
        What is wanted, all numbers.
    """
    found: dict[int, float] = {}
    for element in walker.elements(start, end):
        if element.tag in leaves:
            said = values(walker, element, leaves[element.tag])
            if said and not isinstance(said[0], str):
                found[element.tag] = float(said[0])
    return found
