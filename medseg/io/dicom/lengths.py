"""Whether a file holds all the pixel data its header promises: lengths only, no decoding."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from medseg.io.dicom.headers import Header

UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_END = 0xFFFEE0DD
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MAX_INFLATED = 2**30
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixel data stand in a file.

    Attributes
    ----------
    keyword : str
        ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``.
    declared : int
        Length in the header; `UNDEFINED` where the data are encapsulated.
    available : int
        Bytes that are there. Of encapsulated data, those in whole fragments.
    complete : bool
        For encapsulated data, whether every fragment is whole; else whether the declared length is there.
    """

    keyword: str
    declared: int
    available: int
    complete: bool

    @property
    def encapsulated(self) -> bool:
        """Whether the pixel data are wrapped in fragments, as compressed ones are."""
        return self.declared == UNDEFINED


def measure(stream: BinaryIO, keyword: str, declared: int) -> PixelElement:
    """Measure the pixel data whose value starts at the stream's position.

    Parameters
    ----------
    stream : binary file
        Can be sought in; its position is changed.
    keyword : str
        Name of the element.
    declared : int
        Its length as declared.
    """
    start = stream.tell()
    size = stream.seek(0, 2)
    if declared != UNDEFINED:
        available = max(0, min(declared, size - start))
        return PixelElement(keyword, declared, available, available == declared)
    stream.seek(start)
    available, whole = _fragments(stream, size)
    return PixelElement(keyword, declared, available, whole)


def is_deflated(stream: BinaryIO) -> bool:
    """Tell whether the data set behind the file meta information is deflated, leaving the stream at its start.

    Raises
    ------
    ValueError
        Where it would inflate to more than a gigabyte.
    """
    stream.seek(0)
    head = stream.read(4096)
    stream.seek(0)
    if head[128:132] != b"DICM" or _DEFLATED not in head:
        return False
    if head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ValueError("a deflated file without the length of its file meta information")
    stream.seek(144 + struct.unpack("<L", head[140:144])[0])
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while chunk := stream.read(_CHUNK):
        while chunk:
            total += len(inflater.decompress(chunk, _CHUNK))
            if total > _MAX_INFLATED:
                raise ValueError("a deflated file that inflates beyond all bounds")
            chunk = inflater.unconsumed_tail
    stream.seek(0)
    return True


def missing_bytes(header: Header) -> int:
    """Return how many bytes of uncompressed pixel data are not there; 0 where all are, or for compressed data.

    A compressed file whose fragments end early counts as one byte missing: how many more is not known.
    """
    pixels = header.pixels
    if pixels is None:
        return 0
    if pixels.encapsulated:
        return 0 if pixels.complete and pixels.available else 1
    if header.is_compressed:
        return 0 if pixels.complete else pixels.declared - pixels.available
    return max(0, header.raw_bytes - pixels.available)


def _fragments(stream: BinaryIO, size: int) -> tuple[int, bool]:
    """Walk over the fragments (PS3.5 section A.4); return bytes in whole ones, and whether the end is clean."""
    available, first = 0, True
    while True:
        head = stream.read(8)
        if len(head) < 8:
            return available, not head and available > 0  # the closing delimiter alone is missing: still decodable
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        if tag == _END:
            return available, True
        if tag != _ITEM or length == UNDEFINED or stream.tell() + length > size:
            return available, False
        if not first:  # the first item is the table of offsets
            available += length
        first = False
        stream.seek(length, 1)
