"""Maps of numbers on a scan's grid, such as probabilities: written and compared a part at a time.

A map may be larger than memory and lie in a file (`medseg.scratch`); nothing here holds all of it.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medseg import scratch
from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io import nifti
from medseg.io.atomic import atomic_path
from medseg.io.verify import corner_distance_mm

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from medseg.volume import Volume

_FLOAT32 = 16  # NIfTI's code
_AT_ONCE = 1 << 22  # numbers
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


class _Layout(NamedTuple):
    """Where a header has its fields: the struct format and the byte."""

    dim: tuple[str, int]
    datatype: int
    vox_offset: tuple[str, int]
    scaling: tuple[str, int]
    sform_code: tuple[str, int]
    srow: tuple[str, int]


_LAYOUTS = {  # by the header's size: nifti1.h and nifti2.h
    348: _Layout(("<8h", 40), 70, ("<f", 108), ("<2f", 112), ("<h", 254), ("<12f", 280)),
    540: _Layout(("<8q", 16), 12, ("<q", 168), ("<2d", 176), ("<i", 348), ("<12d", 400)),
}


class MapApart(NamedTuple):
    """How far a file is from a map: the largest distance of a corner, and numbers that are not the same bits."""

    grid_mm: float
    voxels_differing: int


def write_map(volume: Volume, path: Path) -> None:
    """Write a map as NIfTI, its channels along the fourth axis; see `medseg.io.nifti.write`.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    with atomic_path(path) as temporary:
        nifti.write(volume.array, volume.geometry, temporary)


def compare_map(path: Path, volume: Volume) -> MapApart:
    """Return how far a compressed NIfTI file is from the float32 map it should hold.

    It is read by the standard's layout and the standard library's gzip, which is not how it was written.

    Raises
    ------
    InputError
        Where it cannot be read, or is no map of that size.
    """
    try:
        with gzip.open(path, "rb") as file:
            geometry = _geometry(file, volume)
            differing = _differing(file, volume.array)
            if file.read(1):
                raise InputError("the file holds more voxels than the map")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise InputError("the file cannot be read back", where=path.name) from error
    return MapApart(corner_distance_mm(geometry, volume.geometry), differing)


def _geometry(file: BinaryIO | gzip.GzipFile, like: Volume) -> Geometry:
    """Return the grid by the header, and leave the file where the voxels begin."""
    head = file.read(4)
    (size,) = struct.unpack("<i", head)
    if size not in _LAYOUTS:
        raise InputError("the header is not NIfTI's")
    layout, block = _LAYOUTS[size], head + file.read(size - 4)
    rank, x, y, z, t = struct.unpack_from(*_at(layout.dim, block))[:5]
    (datatype,) = struct.unpack_from("<h", block, layout.datatype)
    (offset,) = struct.unpack_from(*_at(layout.vox_offset, block))
    scaling = struct.unpack_from(*_at(layout.scaling, block))
    (sform_code,) = struct.unpack_from(*_at(layout.sform_code, block))
    shape = (t if rank == 4 else 1, z, y, x)
    if datatype != _FLOAT32 or scaling != (1, 0) or sform_code <= 0 or shape != like.array.shape:
        raise InputError(f"the header is not that of a map of {like.array.shape} numbers")
    file.read(int(offset) - size)
    srow = np.array(struct.unpack_from(*_at(layout.srow, block))).reshape(3, 4) * _RAS_TO_LPS[:, None]
    return Geometry((z, y, x), np.vstack([srow[:, [2, 1, 0, 3]], (0, 0, 0, 1)]))


def _at(field: tuple[str, int], block: bytes) -> tuple[str, bytes, int]:
    return field[0], block, field[1]


def _differing(file: BinaryIO | gzip.GzipFile, array_czyx: NDArray[Any]) -> int:
    wanted, differing = array_czyx.reshape(-1).view(np.uint32), 0
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        found = np.frombuffer(file.read(part.nbytes), "<u4")
        if len(found) != len(part):
            raise InputError("the file ends within its voxels")
        differing += int(np.count_nonzero(found != part))
        scratch.let_go(wanted)
    return differing
