"""Pictures (PNG, JPEG, BMP): volumes of one slice, stored rows towards posterior and columns towards left.

Pictures do not say how large a pixel is: it counts as 1 mm, at origin 0. The print density some carry is no such fact
and is passed over, and so is the turn that EXIF suggests for display: a mask drawn on the stored pixels has to fit.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medseg.errors import InputError, OutputError
from medseg.geometry import Geometry
from medseg.io.atomic import atomic_path
from medseg.io.description import Description
from medseg.io.verify import CORNER_TOLERANCE_MM, corner_distance_mm
from medseg.io.voxels import COLOURS, channel_names
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_FORMATS = ("PNG", "JPEG", "BMP")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_GREY_TYPES = {"1": "uint8", "L": "uint8", "LA": "uint8", "La": "uint8", "I": "int32", "F": "float32"}
_OPAQUE = 255
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # bytes of the IHDR chunk, which comes first (PNG specification, 11.2.2)


def picture_grid(shape: Sequence[int], spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Geometry:
    """Return the grid of a picture or stack: origin 0, columns towards left, rows to posterior, slices to superior.

    Examples
    --------
    >>> picture_grid((1, 480, 640)).axis_codes
    'SPL'
    """
    affine = np.eye(4)
    affine[:3, :3] = np.diag(np.asarray(spacing_mm, dtype=np.float64)[::-1])[:, ::-1]
    z, y, x = shape
    return Geometry((z, y, x), affine)


def describe(path: Path) -> Description:
    """Return what the header says; a palette counts as its colours.

    Raises
    ------
    InputError
        Where the file is no such picture.
    """
    with _opened(path) as image:
        kind = _mode(image)
        is_grey = kind in _GREY_TYPES or kind.startswith("I;16")
        dtype = _GREY_TYPES.get(kind, "uint16" if is_grey else "uint8")
        return Description(picture_grid((1, image.height, image.width)), 1 if is_grey else 3, dtype, is_placed=False)


def check_length(path: Path) -> None:
    """Refuse a picture that is not complete, by decoding it.

    Raises
    ------
    InputError
        Where data is missing.
    """
    with _opened(path) as image:
        image.load()


def read(path: Path, *, volume: int | None = None) -> Volume:
    """Return a grey picture as one channel, a colour picture as red, green and blue; an opaque alpha is left out.

    Raises
    ------
    InputError
        Where the picture cannot be read, is see-through, or has 16 bits per colour, which are not read.
    """
    with _opened(path) as image:
        _refuse_deep_colour(path)
        array = _pixels(image)
    return _as_volume(array, volume, path)


def read_mask(path: Path) -> Volume:
    """Return the stored numbers of a mask: of a palette picture the indices, of a colour picture one of equal channels.

    Raises
    ------
    InputError
        Where colours differ, so that a pixel is not one number.
    """
    with _opened(path) as image:
        if image.mode == "P":
            return _as_volume(np.array(image)[np.newaxis], None, path)
        _refuse_deep_colour(path)
        array = _pixels(image)
    if any(not np.array_equal(array[0], other) for other in array[1:]):
        raise InputError("the mask is a colour picture", expected="one number per pixel, or a palette", where=str(path))
    return _as_volume(array[:1], None, path)


def colour_table(path: Path) -> tuple[tuple[int, int, int], ...] | None:
    """Return the colours of a picture whose pixels are indices into a palette; ``None`` for every other file.

    A palette in which each index is the grey of its own number is no palette of classes: ``None`` for it, too.

    Raises
    ------
    InputError
        Where the file is no such picture.
    """
    if path.suffix.lower() not in _SUFFIXES:
        return None
    with _opened(path) as image:
        table = image.getpalette("RGB") if image.mode == "P" else None
    if table is None:
        return None
    colours = tuple((r, g, b) for r, g, b in np.reshape(table, (-1, 3)).tolist())
    return None if all(colour == (n, n, n) for n, colour in enumerate(colours)) else colours


def write_indexed(ids_yx: NDArray[np.uint8], colours: Sequence[tuple[int, int, int]], path: Path) -> None:
    """Write a mask as an indexed PNG: pixels are label ids, and the palette says how they look.

    Parameters
    ----------
    ids_yx : (Y, X) uint8
        Label ids.
    colours : sequence of (int, int, int)
        One a possible id, 256 in all.
    path : Path
        The file; it appears as a whole or not at all.
    """
    with atomic_path(path, suffix=".png") as temporary, Image.fromarray(np.ascontiguousarray(ids_yx)) as image:
        image.putpalette(np.asarray(colours, dtype=np.uint8).tobytes())
        image.save(temporary, format="PNG", bits=8)


def write(array_czyx: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write one slice as PNG: 8 or 16 bit grey, or 8 bit colour for three channels.

    Raises
    ------
    OutputError
        Where a PNG cannot hold the voxels or the grid.
    """
    if geometry.shape[0] != 1:
        raise OutputError(f"the image has {geometry.shape[0]} slices", expected="one, in a PNG", remedy="Write NIfTI")
    if corner_distance_mm(geometry, picture_grid(geometry.shape)) > CORNER_TOLERANCE_MM:
        raise OutputError(
            f"a PNG cannot hold the grid {geometry}",
            expected="1 mm pixels at origin 0, rows to posterior, columns to left",
            remedy="Write NIfTI",
        )
    channels, dtype = len(array_czyx), array_czyx.dtype
    if (channels, dtype.name) not in ((1, "uint8"), (1, "uint16"), (3, "uint8")):
        raise OutputError(
            f"a PNG cannot hold {channels} channels of {dtype}", expected="uint8 or uint16 grey, or uint8 colour"
        )
    pixels = array_czyx[0, 0] if channels == 1 else np.moveaxis(array_czyx[:, 0], 0, -1)
    with Image.fromarray(np.ascontiguousarray(pixels)) as image:
        image.save(path, format="PNG")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; Pillow's faults become an `InputError` that names the file."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise InputError("the picture promises more pixels than are safe to unpack", where=str(path)) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # SyntaxError is Pillow's word for a broken PNG
        raise InputError(
            "the file is not a whole PNG, JPEG or BMP picture", where=str(path), remedy="Export it again"
        ) from error


def _mode(image: Image.Image) -> str:
    return str(image.mode)


def _pixels(image: Image.Image) -> NDArray[Any]:
    """Return (channels, Y, X)."""
    mode = _mode(image)
    if mode == "1":
        return np.array(image, dtype=np.uint8)[np.newaxis]
    if mode in ("L", "I", "F") or mode.startswith("I;16"):
        grey = np.array(image)
        return grey.astype(grey.dtype.newbyteorder("="), copy=False)[np.newaxis]
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        if (rgba[..., 3] != _OPAQUE).any():
            raise InputError("the picture is see-through in places", expected="opaque pixels", remedy="Flatten it")
        return np.moveaxis(rgba[..., : 1 if mode in ("LA", "La") else 3], -1, 0)
    return np.moveaxis(np.array(image.convert("RGB")), -1, 0)


def _as_volume(array_cyx: NDArray[Any], volume: int | None, path: Path) -> Volume:
    names = COLOURS if len(array_cyx) == len(COLOURS) else channel_names(len(array_cyx))
    if volume is not None:
        if not 0 <= volume < len(array_cyx):
            raise InputError(f"there is no volume {volume}", expected=f"0 to {len(array_cyx) - 1}", where=str(path))
        array_cyx, names = array_cyx[volume : volume + 1], names[volume : volume + 1]
    array = np.ascontiguousarray(array_cyx[:, np.newaxis])
    return Volume(array, picture_grid(array.shape[1:]), tuple(names))


def _refuse_deep_colour(path: Path) -> None:
    """Refuse 16-bit colour PNG, which Pillow would cut to 8 bits without a word."""
    with path.open("rb") as file:
        head = file.read(_PNG_COLOUR + 1)
    if head.startswith(b"\x89PNG") and len(head) > _PNG_COLOUR and head[_PNG_DEPTH] == 16 and head[_PNG_COLOUR] != 0:
        raise InputError("the picture has 16 bits per colour", expected="8 bits, or 16-bit grey", where=str(path))
