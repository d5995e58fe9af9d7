"""What a compressed frame says of itself: its size, before anything is decoded.

A damaged or hostile frame may promise another size than the header, and a decoder would allocate what it promises.
Frame headers follow ISO/IEC 10918-1 section B.2.2 (JPEG), 14495-1 section C.2.2 (JPEG-LS) and 15444-1 section A.5.1
(JPEG 2000, and 15444-15 for HTJ2K).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_START_OF_IMAGE = b"\xff\xd8"
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC and SIZ, which always follow one another
_LONGEST_BOXES = 2**16  # JP2 boxes before the codestream, which DICOM does not allow but some write
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SCAN = frozenset({0xD9, 0xDA})


class FrameSize(NamedTuple):
    """Size of a compressed frame, in pixels, samples a pixel and bits a sample."""

    rows: int
    columns: int
    samples: int
    bits: int


def frame_size(frame: bytes) -> FrameSize | None:
    """Return what a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame says of its size; ``None`` where it does not say.

    Parameters
    ----------
    frame : bytes
        The compressed frame.

    Examples
    --------
    >>> frame_size(bytes.fromhex("ffd8 fff7 000b 0c 0010 0020 01 01 11 00"))
    FrameSize(rows=16, columns=32, samples=1, bits=12)
    >>> frame_size(b"no image") is None
    True
    """
    if frame[:2] == _START_OF_IMAGE:
        return _jpeg(frame)
    at = frame.find(_START_OF_CODESTREAM, 0, _LONGEST_BOXES)
    return None if at < 0 else _jpeg2000(frame[at + 4 : at + 43])


def _jpeg(frame: bytes) -> FrameSize | None:
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _SCAN:
            return None
        elif marker in _FRAME_MARKERS:
            return _start_of_frame(frame[at + 4 : at + 10])
        else:
            at += 2 + max(2, struct.unpack(">H", frame[at + 2 : at + 4])[0])
    return None


def _start_of_frame(segment: bytes) -> FrameSize | None:
    if len(segment) < 6:
        return None
    bits, rows, columns, samples = struct.unpack(">BHHB", segment)
    return FrameSize(rows, columns, samples, bits)


def _jpeg2000(segment: bytes) -> FrameSize | None:
    if len(segment) < 39:
        return None
    _, _, right, bottom, left, top, *_, samples, bits = struct.unpack(">HH8LHB", segment)
    return FrameSize(bottom - top, right - left, samples, (bits & 0x7F) + 1)
