"""Walking over the elements of a DICOM data set without reading what is not wanted: bounded, whatever a file claims.

pydicom reads a sequence of undefined length whole, however deep it nests and however many items it holds. Hostile or
damaged files are stepped over here instead: by lengths, without recursion, and only so many elements a file. Encoding
as in PS3.5 sections 7.1 and 7.5.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

if TYPE_CHECKING:
    from collections.abc import Iterator

UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_MOST_ELEMENTS = 2**22
_LONG = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_VRS = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)


class Element(NamedTuple):
    """Where the value of an element stands; `vr` is empty where the encoding does not tell it."""

    tag: int
    vr: str
    start: int
    length: int


class Walker:
    """Walks over one file's elements.

    Parameters
    ----------
    stream : binary file
        Can be sought in; the walker moves its position.
    implicit : bool
        Whether the data set is in implicit VR.
    little : bool
        Whether it is little endian.
    most : int
        Elements and items after which the file is given up.
    """

    def __init__(self, stream: BinaryIO, *, implicit: bool, little: bool, most: int = _MOST_ELEMENTS) -> None:
        self.stream = stream
        self.little = little
        self._implicit = implicit
        self._most = self._left = most
        order = "<" if little else ">"
        self._tag_length = struct.Struct(f"{order}HHL").unpack
        self._short = struct.Struct(f"{order}H").unpack_from
        self._long = struct.Struct(f"{order}L").unpack
        self._size = stream.seek(0, 2)
        self._ended = (-1, -1)  # start and end of what was walked through last, so that it is not walked twice

    @property
    def walked(self) -> int:
        """How many elements and items were walked over so far."""
        return self._most - self._left

    def elements(self, start: int, end: int | None = None) -> Iterator[Element]:
        """Yield the elements of a data set or item, which ends at `end` or with its delimiter.

        Afterwards the stream stands behind the last one. The stream may be moved between two elements.

        Raises
        ------
        ValueError
            Where an element reaches beyond the end of the file, or there are too many.
        """
        self.stream.seek(start)
        while end is None or self.stream.tell() < end:
            element = self._next()
            if element is None:
                return
            if element.tag == _ITEM_END:
                self._ended = (start, element.start)
                return
            yield element
            self._behind(element)

    def items(self, sequence: Element) -> Iterator[tuple[int, int | None]]:
        """Yield start and end of each item of a sequence; the end is ``None`` where only a delimiter tells it.

        Raises
        ------
        ValueError
            As `elements`; also where something else than an item stands there.
        """
        at = sequence.start
        end = None if sequence.length == UNDEFINED else sequence.start + sequence.length
        while end is None or at < end:
            tag, length = self._item(at)
            if tag == _SEQUENCE_END:
                self._ended = (sequence.start, at + 8)
                return
            if tag != _ITEM:
                raise ValueError("a sequence that holds something else than items")
            start = at + 8
            yield start, None if length == UNDEFINED else start + length
            at = self.end_of(Element(_ITEM, "", start, length))

    def value(self, element: Element) -> bytes:
        """Return the bytes of an element of defined length, which the caller has found short enough."""
        self.stream.seek(element.start)
        return self.stream.read(element.length)

    def end_of(self, element: Element) -> int:
        """Return where an element or item ends, with all that is nested in it.

        Raises
        ------
        ValueError
            Where that is beyond the end of the file, or too many elements are nested in it.
        """
        self._behind(element)
        return self.stream.tell()

    def _behind(self, element: Element) -> None:
        """Move the stream behind an element or item."""
        if element.length != UNDEFINED:
            self._leap(element.start + element.length)
            return
        start, end = self._ended
        if element.start == start:
            self.stream.seek(end)
            return
        self.stream.seek(element.start)
        open_items = [element.tag == _ITEM]  # what is not closed yet, innermost last: items (True) and sequences
        while open_items:
            if open_items[-1]:
                self._within_item(open_items)
            else:
                self._within_sequence(open_items)

    def _within_item(self, open_items: list[bool]) -> None:
        inner = self._next()
        if inner is None:
            raise ValueError("an item without its end")
        if inner.tag == _ITEM_END:
            open_items.pop()
        elif inner.length == UNDEFINED:
            open_items.append(False)
        else:
            self._leap(inner.start + inner.length)

    def _within_sequence(self, open_items: list[bool]) -> None:
        at = self.stream.tell()
        tag, length = self._item(at)
        if tag == _SEQUENCE_END:
            open_items.pop()
        elif tag != _ITEM:
            raise ValueError("a sequence that holds something else than items")
        elif length == UNDEFINED:
            open_items.append(True)
        else:
            self._leap(at + 8 + length)

    def _next(self) -> Element | None:
        """Read the head of the element at the stream's position; ``None`` at the end of the file."""
        self._count()
        head = self.stream.read(8)
        if len(head) < 8:
            return None
        group, number, length = self._tag_length(head)
        tag, vr = group << 16 | number, ""
        coded = head[4:6]
        if not self._implicit and tag not in {_ITEM_END, _SEQUENCE_END} and coded in _VRS:  # some nest implicit items
            vr = coded.decode("ascii")
            if coded in _LONG:
                more = self.stream.read(4)
                if len(more) < 4:
                    return None
                length = self._long(more)[0]
            else:
                length = self._short(head, 6)[0]
        return Element(tag, vr, self.stream.tell(), length)

    def _item(self, at: int) -> tuple[int, int]:
        self._count()
        self.stream.seek(at)
        head = self.stream.read(8)
        if len(head) < 8:
            raise ValueError("a sequence without its end")
        group, number, length = self._tag_length(head)
        return group << 16 | number, length

    def _leap(self, to: int) -> None:
        if to > self._size:
            raise ValueError("an element that reaches beyond the end of the file")
        self.stream.seek(to)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError("more elements than any image has")
