"""From the bytes of a file to the elements asked for, bounded: long values and sequences are located, not read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pydicom.dataset import FileMetaDataset
from pydicom.filereader import data_element_generator, read_dataset, read_partial
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from medseg.io.dicom.header.lengths import META, META_GROUP, PixelElement, inflated, measure, says_deflated
from medseg.io.dicom.header.walk import UNDEFINED, Element, Walker

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydicom.dataset import Dataset

LONGEST = 2**16  # bytes of one value that is read with the header
_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_FIRST_PIXEL_TAG = min(_PIXELS)
_MOST_ELEMENTS = 2**20  # at the top level of a header


@dataclass(frozen=True, slots=True)
class Parsed:
    """A header as read.

    Attributes
    ----------
    dataset : Dataset
        The elements asked for, with `file_meta`.
    located : dict of int to Element
        Where those stand that were not read: sequences, and what is long or of undefined length.
    pixels : PixelElement or None
    walker : Walker
        To read what is located.
    """

    dataset: Dataset
    located: dict[int, Element]
    pixels: PixelElement | None
    walker: Walker


class _Stop:
    """Tells pydicom where to stop: at pixel data, at what has no length or is long, and at what is only located."""

    def __init__(self, wanted: Collection[int], located: Collection[int], longest: int) -> None:
        self.at: tuple[int, str | None, int] | None = None
        self._wanted, self._located, self._longest = frozenset(wanted), frozenset(located), longest
        self._left = _MOST_ELEMENTS

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        self._left -= 1
        if self._left < 0:
            raise ValueError("more elements than any header has")
        tag = int(tag)
        if (
            tag >= _FIRST_PIXEL_TAG
            or length == UNDEFINED
            or tag in self._located
            or (length > self._longest and tag in self._wanted)
        ):
            self.at = (tag, vr, length)
            return True
        return False


def parse(
    stream: BinaryIO, wanted: Collection[int], located: Collection[int] = (), *, longest: int = LONGEST
) -> Parsed:
    """Read the header of a DICOM file, up to its pixels.

    Call it inside `medseg.io.dicom.quiet.quiet`.

    Parameters
    ----------
    stream : binary file
        Can be sought in.
    wanted : collection of tags
        Elements to read.
    located : collection of tags
        Elements, sequences most of all, to find only.
    longest : int
        Bytes of a wanted value beyond which it is located instead.

    Raises
    ------
    ValueError
        Where the file is damaged; pydicom's parsers raise other exceptions, too.
    """
    meta, body = _opened(stream)
    tags: list[Any] = list(wanted)
    stop = _Stop(wanted, located, longest)
    dataset = read_partial(body, stop_when=stop, force=True, specific_tags=tags)
    if meta is not None:
        dataset.file_meta = FileMetaDataset(meta)
    implicit, little = bool(dataset.original_encoding[0]), bool(dataset.original_encoding[1])
    if stop.at is not None:
        implicit = stop.at[1] is None  # as it is, whatever the transfer syntax says
    after = body.tell()
    walker = Walker(body, implicit=implicit, little=little)
    places: dict[int, Element] = {}
    pixels = None
    while stop.at is not None:
        tag, vr, length = stop.at
        value_at = after + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
        if tag >= _FIRST_PIXEL_TAG:
            body.seek(value_at)
            keyword = _PIXELS.get(tag)
            pixels = measure(body, keyword, length) if keyword else None
            break
        element = Element(tag, vr or "", value_at, length)
        places[tag] = element
        body.seek(walker.end_of(element))
        stop.at = None
        for more in data_element_generator(body, implicit, little, stop, specific_tags=tags):
            dataset[more.tag] = more
        after = body.tell()
    return Parsed(dataset, places, pixels, walker)


def _opened(stream: BinaryIO) -> tuple[Dataset | None, BinaryIO]:
    """Return the stream of the data set; of a deflated one (PS3.5 section A.5), what it inflates to, and its meta."""
    if not says_deflated(stream):
        stream.seek(0)
        return None, stream
    stream.seek(META)
    meta = read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: int(tag) >> 16 != META_GROUP,
    )
    return meta, io.BytesIO(inflated(stream))
