"""The pixels of one file: where they stand and how they are laid out; nothing is believed that the file cannot hold."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.pixels.decoders.base import get_decoder
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from medseg.errors import InputError
from medseg.io.dicom.findings import RULES
from medseg.io.dicom.header.lengths import META, META_GROUP, inflated, says_deflated
from medseg.io.dicom.header.walk import UNDEFINED

if TYPE_CHECKING:
    from pathlib import Path

_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_MOST_COMPRESSED = (
    20_000  # decoded bytes for each byte of the file: an empty JPEG 2000 image of 512 x 512 comes to 3500
)
_ALWAYS_BELIEVED = 2**26  # decoded bytes: an empty image compresses the better the larger it is


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where the pixels of one file stand and how they are laid out.

    Attributes
    ----------
    path : Path
    syntax : UID
        Transfer syntax; where the file does not say, the one its header is written in.
    keyword, vr : str
        Of the element that holds the pixels.
    start, length : int
        Where its value begins, and how long it is declared to be; `walk.UNDEFINED` where it is encapsulated.
    rows, columns, frames : int
    bits_allocated, bits_stored : int
    signed : int
        PixelRepresentation.
    photometric : str
    offsets : pair of bytes or None
        Extended Offset Table and its lengths.
    content : bytes or None
        The inflated data set that `start` counts in, where the file is deflated.
    """

    path: Path
    syntax: uid.UID
    keyword: str
    vr: str
    start: int
    length: int
    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: int
    photometric: str
    offsets: tuple[bytes, bytes] | None = None
    content: bytes | None = None

    @property
    def encapsulated(self) -> bool:
        """Whether the frames are compressed."""
        return bool(self.syntax.is_encapsulated)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        if self.keyword in _FLOATS:
            return np.dtype(f"f{self.bits_allocated // 8}")
        return np.dtype(f"{'ui'[self.signed]}{max(1, self.bits_allocated // 8)}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, uncompressed."""
        return math.ceil(self.rows * self.columns * self.bits_allocated / 8)

    @property
    def options(self) -> dict[str, Any]:
        """What pydicom's decoders need to know."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            "samples_per_pixel": 1,
            "photometric_interpretation": self.photometric,
            "bits_allocated": self.bits_allocated,
            "bits_stored": self.bits_stored,
            "pixel_representation": self.signed,
            "pixel_keyword": self.keyword,
            "pixel_vr": self.vr,
        }


def has_decoder(transfer_syntax: str) -> bool:
    """Tell whether an installed library decodes this transfer syntax; a file without one is uncompressed.

    Examples
    --------
    >>> has_decoder("1.2.840.10008.1.2.1"), has_decoder("1.2.840.10008.1.2.4.100")
    (True, False)
    """
    if not transfer_syntax or transfer_syntax == uid.JPEGExtended12Bit:  # GDCM reads the latter
        return True
    try:
        return bool(get_decoder(uid.UID(transfer_syntax)).is_available)
    except (NotImplementedError, ValueError):
        return False


def open_pixels(path: Path) -> tuple[Pixels, Dataset]:
    """Read a file's header and find its pixels; check that the file can hold what the header promises.

    Call it inside `medseg.io.dicom.quiet.quiet`.

    Parameters
    ----------
    path : Path
        A DICOM file with a grey image.

    Returns
    -------
    pixels : Pixels
    dataset : Dataset
        The header, without pixel data.

    Raises
    ------
    InputError
        Where the file cannot be read, is too short, or holds no grey image.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            found = _parsed(stream)
        if found is None:
            raise refusal("there is no pixel data", path, "no-pixel-data")
        pixels = _described(path, found)
        _check(pixels, size)
    except InputError:
        raise
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file cannot be read", where=path.name, code="unreadable") from error
    return pixels, found.dataset


def refusal(words: str, path: Path, code: str) -> InputError:
    """Return the error that refuses a file by the finding `code`."""
    return InputError(words, where=path.name, remedy=RULES[code].remedy, code=code)


def undecodable(pixels: Pixels) -> InputError:
    """Return the error of pixels that no decoder reads, which names the transfer syntax."""
    return refusal(
        f"the pixel data cannot be decoded (transfer syntax {pixels.syntax.name})", pixels.path, "undecodable"
    )


class _Found(NamedTuple):
    """A header, and the pixel element that stands behind it."""

    dataset: Dataset
    keyword: str
    vr: str
    start: int
    length: int
    content: bytes | None


def _parsed(stream: BinaryIO) -> _Found | None:
    seen: list[tuple[int, str | None, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if int(tag) in _KEYWORDS:
            seen.append((int(tag), vr, length))
        return bool(seen)

    content: bytes | None = None
    if says_deflated(stream):
        stream.seek(META)
        meta = read_dataset(
            stream,
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, _vr, _length: int(tag) >> 16 != META_GROUP,
        )
        content = inflated(stream)
        stream = io.BytesIO(content)
        dataset = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=at_pixels)
        dataset.file_meta = FileMetaDataset(meta)
    else:
        stream.seek(0)
        dataset = read_partial(stream, stop_when=at_pixels, force=True)
    if not seen:
        return None
    tag, vr, length = seen[0]
    start = stream.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)  # past tag, VR and length
    return _Found(dataset, _KEYWORDS[tag], vr or "OW", start, length, content)


def _described(path: Path, found: _Found) -> Pixels:
    dataset, keyword = found.dataset, found.keyword
    samples = _whole(dataset, path, "SamplesPerPixel", usual=1)
    if samples != 1:
        raise refusal(f"{samples} samples a pixel: colour, not grey", path, "colour")
    bits = _FLOATS.get(keyword)
    return Pixels(
        path,
        _syntax(dataset),
        keyword,
        found.vr,
        found.start,
        found.length,
        rows=_whole(dataset, path, "Rows"),
        columns=_whole(dataset, path, "Columns"),
        frames=max(1, _whole(dataset, path, "NumberOfFrames", usual=1)),
        bits_allocated=bits or _whole(dataset, path, "BitsAllocated"),
        bits_stored=bits or _whole(dataset, path, "BitsStored"),
        signed=0 if bits else _whole(dataset, path, "PixelRepresentation"),
        photometric=str(dataset.get("PhotometricInterpretation") or "MONOCHROME2"),
        offsets=_offsets(dataset),
        content=found.content,
    )


def _whole(dataset: Dataset, path: Path, keyword: str, *, usual: int | None = None) -> int:
    value = dataset.get(keyword)
    if value is None or value == "":
        if usual is None:
            raise refusal(f"the header lacks {keyword}", path, "undecodable")
        return usual
    return int(value)


def _offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return (offsets, lengths) if offsets and lengths and len(offsets) == len(lengths) else None


def _syntax(dataset: Dataset) -> uid.UID:
    meta = getattr(dataset, "file_meta", None)
    said = meta.get("TransferSyntaxUID") if meta is not None else None
    if said:
        return uid.UID(str(said))
    implicit, little = dataset.original_encoding
    if not little:
        return uid.ExplicitVRBigEndian
    return uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian


def _check(pixels: Pixels, size: int) -> None:
    """Refuse what cannot be, before a byte is allocated for it."""
    bits = pixels.bits_allocated
    if not (bits == 1 or bits in {8, 16, 32, 64}) or not 1 <= pixels.bits_stored <= bits or pixels.signed not in {0, 1}:
        words = f"{pixels.bits_stored} of {bits} bits a pixel, sign {pixels.signed}: no layout of pixels"
        raise refusal(words, pixels.path, "undecodable")
    if pixels.rows < 1 or pixels.columns < 1:
        raise refusal(f"an image of {pixels.rows} x {pixels.columns} pixels", pixels.path, "undecodable")
    if not has_decoder(pixels.syntax):
        raise undecodable(pixels)
    promised = math.ceil(pixels.rows * pixels.columns * pixels.frames * bits / 8)
    if pixels.encapsulated:
        if pixels.length != UNDEFINED:
            raise refusal("compressed pixel data that are not in fragments", pixels.path, "undecodable")
        if promised > max(_ALWAYS_BELIEVED, _MOST_COMPRESSED * size):
            words = f"{promised} bytes of pixels in a file of {size} bytes: no compression does that"
            raise refusal(words, pixels.path, "undecodable")
        return
    size = size if pixels.content is None else len(pixels.content)
    length = size - pixels.start if pixels.length == UNDEFINED else pixels.length
    available = max(0, min(length, size - pixels.start))
    if promised > available:
        words = f"{promised - available} of {promised} bytes of pixel data are missing"
        raise refusal(words, pixels.path, "truncated")
