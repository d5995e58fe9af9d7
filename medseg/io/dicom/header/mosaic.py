"""Siemens mosaics: a whole volume in one file, its slices as the tiles of one large image.

How many tiles there are and which way they rise stands in the private header of the scanner (CSA, image part), how far
they are apart in its protocol (CSA, series part), where each slice has its centre. Nothing of it is guessed: where it
is absent, the mosaic is refused. The position in the standard elements is that of a single slice's image, were it as
large as the mosaic around the same centre; the corner of the first tile is found from that.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.io.dicom.header.attributes import Numbers, as_length, as_whole, finite, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset

    from medseg.io.dicom.header.parsing import Parsed
    from medseg.io.dicom.header.reading import Header

_BLOCKS = range(0x10, 0x18)  # where the private blocks of the scanner may lie
_CSA_OWNER = "SIEMENS CSA HEADER"
_MR_OWNER = "SIEMENS MR HEADER"
_IMAGE, _SERIES, _TILES = 0x10, 0x20, 0x0A
_SPACING_BETWEEN = 0x00180088
MOSAIC_TAGS = frozenset(
    {
        _SPACING_BETWEEN,
        *(0x00290000 | block for block in _BLOCKS),
        *(0x00190000 | block for block in _BLOCKS),
        *(0x00290000 | block << 8 | part for block in _BLOCKS for part in (_IMAGE, _SERIES)),
        *(0x00190000 | block << 8 | _TILES for block in _BLOCKS),
    }
)
_MOST_TILES = 2**10
_MOST_CSA_TAGS = 2**10
_MOST_CSA_ITEMS = 2**8
_CSA_TAG = struct.Struct("<64si4s3i")
_CSA_ITEM = struct.Struct("<4i")
_PARALLEL = 0.99  # cosine between the normal that the scanner names and that of the image's axes
_EVEN_MM = 0.01
_PLACE = re.compile(rb"sSliceArray\.asSlice\[(\d{1,4})\]\.sPosition\.d(Sag|Cor|Tra)[ \t]*=[ \t]*(-?\d[\d.eE+-]{0,30})")
_AXES = {b"Sag": 0, b"Cor": 1, b"Tra": 2}


@dataclass(frozen=True, slots=True)
class Mosaic:
    """What the scanner says of a mosaic's slices.

    Attributes
    ----------
    tiles : int
        How many there are; 0 where it does not say.
    normal : three floats or None
        From one tile to the next, as a unit vector.
    spacing_mm : float or None
        Between two slices.
    """

    tiles: int
    normal: Numbers | None
    spacing_mm: float | None


def read_mosaic(parsed: Parsed) -> Mosaic:
    """Return what the private header of a Siemens scanner says of a mosaic.

    Parameters
    ----------
    parsed : Parsed
        The file, read for `MOSAIC_TAGS`.
    """
    dataset = parsed.dataset
    image = dict(_csa(_private(dataset, 0x0029, _CSA_OWNER, _IMAGE)))
    tiles = as_whole((_floats(image.get("NumberOfImagesInMosaic", ())) or (None,))[0])
    if tiles is None:
        tiles = _public_count(dataset)
    normal = finite(_floats(image.get("SliceNormalVector", ())), 3)
    length = math.hypot(*normal) if normal else 0.0
    if normal is None or not math.isclose(length, 1.0, abs_tol=0.01):
        normal = None
    else:
        normal = tuple(v / length for v in normal)
    protocol = _protocol_spacing(_private(dataset, 0x0029, _CSA_OWNER, _SERIES), tiles or 0)
    return Mosaic(tiles or 0, normal, protocol or as_length(number(dataset, "SpacingBetweenSlices")))


def mosaic_gap(header: Header) -> str:
    """Return what is missing to take a mosaic apart, in words; empty where nothing is."""
    mosaic = header.mosaic
    if mosaic is None or not 1 <= mosaic.tiles <= _MOST_TILES:
        return "the scanner's private header does not say of how many slices"
    side = _side(mosaic.tiles)
    if not header.rows or header.rows % side or header.columns % side:
        return f"{mosaic.tiles} slices are no even tiles of {header.rows} x {header.columns} pixels"
    if mosaic.normal is None:
        return "the scanner's private header does not say which way the slices rise"
    if mosaic.tiles > 1 and mosaic.spacing_mm is None:
        return "the file does not say how far the slices are apart"
    if header.orientation is not None and abs(_along_normal(header.orientation, mosaic.normal)) < _PARALLEL:
        return "the private header and the standard elements disagree about the direction of the slices"
    return ""


def tiles_of(header: Header) -> tuple[Header, ...]:
    """Return one header for each tile of a mosaic; one that cannot be taken apart is returned as it is.

    Parameters
    ----------
    header : Header
        Of a file.
    """
    mosaic = header.mosaic
    if mosaic is None or mosaic_gap(header) or header.frames > 1:
        return (header,)
    if header.position is None or header.orientation is None or header.pixel_spacing is None or mosaic.normal is None:
        return (header,)
    side = _side(mosaic.tiles)
    rows, columns = header.rows // side, header.columns // side
    row_mm, column_mm = header.pixel_spacing
    along_row, along_column = header.orientation[:3], header.orientation[3:]
    right, down = (header.columns - columns) / 2 * column_mm, (header.rows - rows) / 2 * row_mm
    corner = [p + right * r + down * c for p, r, c in zip(header.position, along_row, along_column, strict=True)]
    rise = math.copysign(mosaic.spacing_mm or 0.0, _along_normal(header.orientation, mosaic.normal))
    normal = _cross(along_row, along_column)
    return tuple(
        replace(
            header,
            position=tuple(c + tile * rise * n for c, n in zip(corner, normal, strict=True)),
            rows=rows,
            columns=columns,
            tile=tile,
            mosaic=None,
            whole=header,
        )
        for tile in range(mosaic.tiles)
    )


def _side(tiles: int) -> int:
    """Return how many tiles a mosaic has in a row: the smallest square that holds them all."""
    return math.isqrt(tiles - 1) + 1


def _along_normal(orientation: Numbers, normal: Numbers) -> float:
    return sum(a * b for a, b in zip(_cross(orientation[:3], orientation[3:]), normal, strict=True))


def _cross(a: Numbers, b: Numbers) -> Numbers:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _private(dataset: Dataset, group: int, owner: str, part: int) -> bytes:
    """Return the bytes of a private element, wherever its owner's block lies; empty where it is not there."""
    for block in _BLOCKS:
        creator, tag = group << 16 | block, group << 16 | block << 8 | part
        if tag in dataset and creator in dataset and str(dataset[creator].value).strip() == owner:
            value = dataset[tag].value
            return value if isinstance(value, bytes) else b""
    return b""


def _public_count(dataset: Dataset) -> int | None:
    for block in _BLOCKS:
        creator, tag = 0x00190000 | block, 0x00190000 | block << 8 | _TILES
        if tag in dataset and creator in dataset and str(dataset[creator].value).strip() == _MR_OWNER:
            value = dataset[tag].value
            if isinstance(value, bytes) and len(value) == struct.calcsize("<H"):  # of unknown type: implicit VR
                return int(struct.unpack("<H", value)[0])
            return value if isinstance(value, int) else None
    return None


def _csa(raw: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield name and texts of each entry of a CSA header, of either version, until it ends or makes no sense.

    A head (``SV10`` and four bytes in version 2), the number of entries, four bytes; each entry a name, its number of
    values and of items, each item a length and its text, filled up to four bytes.
    """
    at = 8 if raw[:4] == b"SV10" else 0
    is_first = at == 0
    if len(raw) < at + 8:
        return
    count = struct.unpack_from("<I", raw, at)[0]
    at += 8
    base = 0
    for entry in range(min(count, _MOST_CSA_TAGS)):
        if at + _CSA_TAG.size > len(raw):
            return
        name, _, _, _, items, _ = _CSA_TAG.unpack_from(raw, at)
        at += _CSA_TAG.size
        if entry == 0:
            base = items  # the first version adds this to each length
        texts = []
        for _ in range(min(max(items, 0), _MOST_CSA_ITEMS)):
            if at + _CSA_ITEM.size > len(raw):
                return
            lengths = _CSA_ITEM.unpack_from(raw, at)
            at += _CSA_ITEM.size
            length = lengths[0] - base if is_first else lengths[1]
            if not 0 <= length <= len(raw) - at:
                return
            texts.append(_text(raw[at : at + length]))
            at += (length + 3) // 4 * 4
        yield _text(name), tuple(t for t in texts if t)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1").strip()


def _floats(texts: tuple[str, ...]) -> tuple[float, ...]:
    try:
        return tuple(float(t) for t in texts)
    except ValueError:
        return ()


def _protocol_spacing(raw: bytes, tiles: int) -> float | None:
    """Return how far the slices of the protocol are apart, where it names as many centres, evenly on a line."""
    places: dict[int, list[float]] = {}
    for match in _PLACE.finditer(raw):
        try:
            coordinate = float(match[3])
        except ValueError:
            return None
        places.setdefault(int(match[1]), [0.0, 0.0, 0.0])[_AXES[match[2]]] = coordinate  # a zero is not written
    if tiles < 2 or len(places) != tiles:
        return None
    centres = [places[number] for number in sorted(places)]
    spacing = math.dist(centres[0], centres[-1]) / (tiles - 1)
    even = all(abs(math.dist(centres[0], c) - n * spacing) <= _EVEN_MM for n, c in enumerate(centres))
    return spacing if even and math.isfinite(spacing) and spacing > _EVEN_MM else None
