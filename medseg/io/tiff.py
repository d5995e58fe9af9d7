"""TIFF: stacks of slices with the voxel size where the file tells it in metric units.

The voxel size is read from ImageJ's fields (``unit``, ``spacing`` and the resolution per unit), or from a resolution
per centimetre; dots per inch are print density, no such fact. Where nothing is told a voxel is 1 mm. Values are the
stored numbers: a colour table is how a viewer shows them. A stack has no place in the patient: slices go to superior,
rows to posterior, columns to left, from origin 0.
"""

from __future__ import annotations

import logging
import lzma
import struct
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image, ImageSequence

from medseg.errors import GeometryError, InputError, OutputError
from medseg.io.description import Description
from medseg.io.images import picture_grid
from medseg.io.verify import CORNER_TOLERANCE_MM, corner_distance_mm
from medseg.io.voxels import COLOURS, channel_names, plain_type
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Geometry

_MM_PER_UNIT = {"m": 1e3, "cm": 10.0, "mm": 1.0, "micron": 1e-3, "um": 1e-3, "µm": 1e-3, "\\u00b5m": 1e-3, "nm": 1e-6}
_CENTIMETRE = 3  # TIFF 6.0, ResolutionUnit
_MAX_RATIO = (
    1400  # LZW: 4096 bytes in a code of 12 bits is 2731 at the very end of a table's life, half on the way there
)
_STACK_AXES, _CHANNEL_AXES = "ZQITR", "CS"
_OUR_CODECS = ("NONE", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA")
_TYPES = ("uint8", "uint16", "float32")  # what ImageJ's TIFF can hold
_BAD_NUMBERS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, NotImplementedError)
_FAULTS = (*_BAD_NUMBERS, OSError, struct.error, zlib.error, lzma.LZMAError)


def describe(path: Path) -> Description:
    """Return what the header says.

    Raises
    ------
    InputError
        Where the file is no TIFF, or not one stack.
    """
    with _opened(path) as file:
        series = _series(file, path)
        shape = _czyx(series)
        return Description(_grid(file, shape[1:]), shape[0], np.dtype(series.dtype).name, is_placed=False)


def check_length(path: Path) -> None:
    """Refuse a file that does not hold what its header promises, by decoding it.

    Raises
    ------
    InputError
        Where data is missing.
    """
    read(path)


def read(path: Path, *, volume: int | None = None) -> Volume:
    """Return the stack; samples and channels become channels, of a colour picture red, green and blue.

    Raises
    ------
    InputError
        Where the file is not one complete stack, or white is its zero.
    """
    with _opened(path) as file:
        series = _series(file, path)
        array = _pixels(series, path)
        is_colour = file.pages.first.photometric == tifffile.PHOTOMETRIC.RGB and len(array) == len(COLOURS)
        names = COLOURS if is_colour else channel_names(len(array))
        geometry = _grid(file, array.shape[1:])
    if volume is not None:
        if not 0 <= volume < len(array):
            raise InputError(f"there is no volume {volume}", expected=f"0 to {len(array) - 1}", where=str(path))
        array, names = array[volume : volume + 1], names[volume : volume + 1]
    try:
        return Volume(plain_type(array), geometry, names)
    except InputError as error:
        raise error.at(str(path)) from error


def write(array_czyx: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write a stack with its voxel size, readable by ImageJ.

    Raises
    ------
    OutputError
        Where a TIFF cannot hold the voxels or the grid.
    """
    if array_czyx.dtype.name not in _TYPES:
        raise OutputError(f"a TIFF cannot hold {array_czyx.dtype}", expected="uint8, uint16 or float32")
    if corner_distance_mm(geometry, picture_grid(geometry.shape, geometry.spacing_mm)) > CORNER_TOLERANCE_MM:
        raise OutputError(
            f"a TIFF cannot hold the grid {geometry}",
            expected="one at origin 0 with slices to superior, rows to posterior, columns to left",
            remedy="Write NIfTI",
        )
    z, y, x = geometry.spacing_mm
    stack = np.moveaxis(array_czyx, 0, 1) if len(array_czyx) > 1 else array_czyx[0]
    axes = "ZCYX" if len(array_czyx) > 1 else "ZYX"
    with _quiet():
        tifffile.imwrite(
            path,
            np.ascontiguousarray(stack),
            imagej=True,
            resolution=(1.0 / x, 1.0 / y),
            metadata={"spacing": z, "unit": "mm", "axes": axes},
        )


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF; whatever its parser stumbles over becomes an `InputError` that names the file."""
    try:
        with _quiet(), tifffile.TiffFile(path) as file:
            yield file
    except (InputError, GeometryError) as error:
        raise InputError(error.found, expected=error.expected, where=str(path), remedy=error.remedy) from error
    except _FAULTS as error:  # tifffile lets a broken file's numbers run into these
        raise InputError("the file is not a whole TIFF", where=str(path), remedy="Export it again") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's log off the terminal; what matters comes as an error. The setting is put back."""
    log = logging.getLogger("tifffile")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def _series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    if len(file.series) != 1:
        raise InputError(f"the file holds {len(file.series)} image series", expected="one stack")
    series = file.series[0]
    size = path.stat().st_size
    n_bytes = int(np.prod(series.shape, dtype=object)) * np.dtype(series.dtype).itemsize
    if n_bytes > size * _MAX_RATIO:
        raise InputError(f"the header promises {n_bytes} bytes, more than {size} can hold")
    if file.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise InputError("white is this file's zero", expected="black as zero", remedy="Invert and save it again")
    _axes(series)
    return series


def _axes(series: tifffile.TiffPageSeries) -> str:
    """Return one letter per axis: C, Z, Y, X."""
    axes = "".join("Z" if a in _STACK_AXES else "C" if a in _CHANNEL_AXES else a for a in series.axes)
    if len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes) <= set("CZYX"):
        raise InputError(f"the axes are {series.axes}", expected="one stack of slices, with channels or without")
    return axes


def _czyx(series: tifffile.TiffPageSeries) -> tuple[int, int, int, int]:
    sizes = dict(zip(_axes(series), series.shape, strict=True))
    return sizes.get("C", 1), sizes.get("Z", 1), sizes["Y"], sizes["X"]


def _pixels(series: tifffile.TiffPageSeries, path: Path) -> NDArray[Any]:
    """Return (C, Z, Y, X)."""
    stored = series.asarray() if _codec(series) in _OUR_CODECS else _frames(series, path)
    axes = _axes(series)
    order = [axes.index(a) for a in "CZYX" if a in axes]
    array: NDArray[Any] = np.ascontiguousarray(stored.transpose(order).reshape(_czyx(series)))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _codec(series: tifffile.TiffPageSeries) -> str:
    return tifffile.COMPRESSION(series.keyframe.compression).name


def _frames(series: tifffile.TiffPageSeries, path: Path) -> NDArray[Any]:
    """Decode by Pillow what tifffile has no decoder for (LZW, JPEG)."""
    with Image.open(path, formats=("TIFF",)) as image:
        stack = np.stack([np.array(frame) for frame in ImageSequence.Iterator(image)])
    if stack.dtype != series.dtype or stack.size != np.prod(series.shape):
        raise InputError(f"the compression {_codec(series)} is not read", remedy="Save without it")
    return stack.reshape(series.shape)


def _grid(file: tifffile.TiffFile, shape_zyx: tuple[int, ...]) -> Geometry:
    page, fields = file.pages.first, file.imagej_metadata or {}
    tags = {name: page.tags.valueof(name) for name in ("XResolution", "YResolution", "ResolutionUnit")}
    unit_mm = _MM_PER_UNIT.get(str(fields.get("unit", "")).lower())
    if unit_mm is None and not fields and tags["ResolutionUnit"] == _CENTIMETRE:
        unit_mm = 10.0
    if unit_mm is None or not tags["XResolution"] or not tags["YResolution"]:
        return picture_grid(shape_zyx)
    y, x = (unit_mm * tags[name][1] / tags[name][0] for name in ("YResolution", "XResolution"))
    return picture_grid(shape_zyx, (float(fields.get("spacing", 1.0 / unit_mm)) * unit_mm, y, x))
