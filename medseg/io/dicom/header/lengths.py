"""Whether a file holds all the pixel data its header promises: lengths only, no decoding."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from medseg.io.dicom.header.walk import UNDEFINED, Walker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.io.dicom.header.reading import Header

_ITEM = 0xFFFEE000
_END = 0xFFFEE0DD
__all__ = [
    "META",
    "META_GROUP",
    "UNDEFINED",
    "PixelElement",
    "inflated",
    "measure",
    "missing_bytes",
    "says_deflated",
]

META = 132  # where the file meta information starts, behind preamble and mark
META_GROUP = 0x0002
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_TRANSFER_SYNTAX = 0x00020010
_LONGEST_UID = 64
_MOST_META = 2**10
_MAX_INFLATED = 2**28
_CHUNK = 2**20
_MOST_FRAGMENTS = 2**22
_VIDEO = "1.2.840.10008.1.2.4.10"  # MPEG-2, MPEG-4, HEVC: all frames in one stream


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
    fragments : int
        Of encapsulated data: how many there are, the table of offsets not counted.
    start : int
        Where the value begins in the file, or in what a deflated one inflates to.
    """

    keyword: str
    declared: int
    available: int
    complete: bool
    fragments: int = 0
    start: int = 0

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
        return PixelElement(keyword, declared, available, available == declared, start=start)
    stream.seek(start)
    available, count, whole = _fragments(stream, size)
    return PixelElement(keyword, declared, available, whole, count, start)


def says_deflated(stream: BinaryIO) -> bool:
    """Tell whether a file says that its data set is deflated (PS3.5 section A.5); the stream is left anywhere."""
    stream.seek(128)
    if stream.read(4) != b"DICM":
        return False
    walker = Walker(stream, implicit=False, little=True, most=_MOST_META)
    for element in walker.elements(META):
        if element.tag >> 16 != META_GROUP:
            return False
        if element.tag == _TRANSFER_SYNTAX:
            return element.length <= _LONGEST_UID and walker.value(element).rstrip(b"\0 ") == _DEFLATED
    return False


def inflated(stream: BinaryIO) -> bytes:
    """Return what the rest of a stream inflates to.

    Raises
    ------
    ValueError
        Where that is more than a quarter of a gigabyte, or ends early.
    """
    return b"".join(_chunks(stream))


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        while not inflater.eof and (chunk := stream.read(_CHUNK)):
            while chunk and not inflater.eof:  # what is behind the end is padding, and would be given back for ever
                part = inflater.decompress(chunk, _CHUNK)
                total += len(part)
                if total > _MAX_INFLATED:
                    raise ValueError("a deflated file that inflates beyond all bounds")
                yield part
                chunk = inflater.unconsumed_tail
    except zlib.error as error:
        raise ValueError("a deflated file that is damaged") from error
    if not inflater.eof:
        raise ValueError("a deflated file that ends early")


def missing_bytes(header: Header) -> int:
    """Return how many bytes of uncompressed pixel data are not there; 0 where all are, or for compressed data.

    A compressed file whose fragments end early, or are fewer than its frames, counts as one byte missing: how many more
    is not known.
    """
    pixels = header.pixels
    if pixels is None:
        return 0
    if pixels.encapsulated:
        enough = pixels.fragments >= header.frames or header.transfer_syntax.startswith(_VIDEO)
        return 0 if pixels.complete and pixels.available and enough else 1
    if header.is_compressed:
        return 0 if pixels.complete else pixels.declared - pixels.available
    return max(0, header.raw_bytes - pixels.available)


def _fragments(stream: BinaryIO, size: int) -> tuple[int, int, bool]:
    """Walk over the fragments (PS3.5 section A.4); return bytes in whole ones, their number, whether it ends well."""
    available, count = 0, -1  # the first item is the table of offsets
    while count < _MOST_FRAGMENTS:
        head = stream.read(8)
        if len(head) < 8:
            return available, count, not head and available > 0  # the closing delimiter alone is missing: decodable
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        if tag == _END:
            return available, count, True
        if tag != _ITEM or length == UNDEFINED or stream.tell() + length > size:
            return available, count, False
        count += 1
        if count:
            available += length
        stream.seek(length, 1)
    return available, count, False
