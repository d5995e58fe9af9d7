"""NIfTI-1 and NIfTI-2 single files: the only place where RAS meets LPS.

A NIfTI affine maps (i, j, k) to Right, Anterior, Superior; ours maps (z, y, x) to Left, Posterior, Superior. The file's
order of voxels, i fastest, is exactly a C-ordered (volume, z, y, x) array, so no voxel is ever moved.

Rules, by the standard (nifti1.h, https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h):

* The sform is used where its code is above 0, else the qform where its code is above 0 (methods 3 and 2). Where both
  are 0, voxel sizes alone count (method 1); such a file names no direction, and i, j, k are taken as L, P, S from
  origin 0, as ITK does; `describe` says that it is not placed.
* Lengths in metres and micrometres become millimetres; files that name no unit are in millimetres.
* ``scl_slope`` and ``scl_inter`` are applied; whole numbers stay whole where both are whole, else float32 results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medseg import scratch
from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io import stream
from medseg.io.description import Description
from medseg.io.verify import CORNER_TOLERANCE_MM, corner_distance_mm
from medseg.io.voxels import channel_names, plain_type, refuse_other_types, rescaled
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_XYZ_TO_ZYX = np.eye(4)[:, [2, 1, 0, 3]]
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: unknown, metre, millimetre, micrometre
_NIFTI1_SIZE, _NIFTI2_SIZE = 348, 540
_NIFTI1_MAX_SIDE = 32767  # dim is of type short
_MAX_DIMENSIONS = 7
_DATA_MAGIC = (b"n+1", b"n+2")
_PAIR_MAGIC = (b"ni1", b"ni2")
_WRITTEN_AT_ONCE = 1 << 24
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT

NiftiHeader = nibabel.Nifti1Header  # Nifti2Header is a kind of it


@dataclass(frozen=True)
class _Layout:
    """Where the voxels lie in the file, and in the patient."""

    geometry: Geometry
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    is_placed: bool

    @property
    def volume_bytes(self) -> int:
        z, y, x = self.geometry.shape
        return z * y * x * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        return self.offset + self.volumes * self.volume_bytes


def describe(path: Path) -> Description:
    """Return what the header says.

    Raises
    ------
    InputError
        Where the file is not a NIfTI single file whose header makes sense.
    """
    with stream.opened(path) as file:
        layout = _read_layout(file, path)
    return Description(layout.geometry, layout.volumes, layout.dtype.name, layout.is_placed)


def check_length(path: Path) -> None:
    """Refuse a file that is shorter or longer than its header says, without keeping its voxels.

    Raises
    ------
    InputError
        Where header and length disagree.
    """
    with stream.opened(path) as file:
        layout = _read_layout(file, path)
    stream.check_unpacked_length(path, layout.file_bytes)


def read(path: Path, *, volume: int | None = None, mapped: bool = False) -> Volume:
    """Return the voxels of all volumes as channels, or of one `volume`, with the scale of the header applied.

    With `mapped`, they are a read-only view of the file where it holds them as they are: uncompressed, in this
    machine's byte order, without a scale, and of a type we carry.

    Raises
    ------
    InputError
        Where the header makes no sense, the voxels are no plain numbers, or the file is not complete.
    """
    with stream.opened(path) as file:
        layout = _read_layout(file, path)
        stream.check_capacity(path, layout.file_bytes)
        first, count = (0, layout.volumes) if volume is None else (volume, 1)
        if not 0 <= first < layout.volumes:
            raise InputError(f"there is no volume {first}", expected=f"0 to {layout.volumes - 1}", where=str(path))
    raw = _mapped(path, layout, first, count) if mapped else None
    if raw is None:
        raw = _unpacked(path, layout, first, count)
    stored = raw.view(layout.dtype).reshape(count, *layout.geometry.shape)
    stored = stored.astype(layout.dtype.newbyteorder("="), copy=False)
    try:
        array = plain_type(rescaled(stored, slope=layout.slope, intercept=layout.intercept))
    except InputError as error:
        raise error.at(str(path)) from error
    return Volume(array, layout.geometry, channel_names(count))


def write(array_czyx: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write voxels and grid; compressed where the name ends in ``.gz``.

    The grid is written as sform (code 1) and, where that can hold it, as the equal qform. A qform cannot hold a sheared
    grid, and its rounded quaternion is off by hundredths of a degree near half turns: there it is marked unused.

    Raises
    ------
    OutputError
        Where the format has no such voxel type.
    """
    data = np.ascontiguousarray(array_czyx)
    header = _header_for(data, geometry)
    header_bytes: bytes = header.binaryblock + b"\0\0\0\0"  # no extensions
    native = data.astype(data.dtype.newbyteorder("<"), copy=False)
    is_compressed = path.name.lower().endswith(".gz")
    flat = native.reshape(-1).view(np.uint8)
    with stream.compressed_writer(path) if is_compressed else path.open("wb") as file:
        file.write(header_bytes)
        for start in range(0, len(flat), _WRITTEN_AT_ONCE):
            file.write(flat[start : start + _WRITTEN_AT_ONCE].data)
            scratch.let_go(flat)  # of an array in a file, which need not be in memory as a whole


# -- reading -------------------------------------------------------------------------------------------------------


def _mapped(path: Path, layout: _Layout, first: int, count: int) -> NDArray[np.uint8] | None:
    """Return the bytes of some volumes as a view of the file; None where they have to be read."""
    offset = layout.offset + first * layout.volume_bytes
    if offset % layout.dtype.itemsize or stream.is_gzip(path):
        return None
    stream.check_unpacked_length(path, layout.file_bytes)
    return stream.mapped(path, count * layout.volume_bytes, offset=offset)


def _unpacked(path: Path, layout: _Layout, first: int, count: int) -> NDArray[np.uint8]:
    """Return the bytes of some volumes."""
    with stream.opened(path) as file:
        stream.skip(file, layout.offset + first * layout.volume_bytes, path=path)
        raw = stream.read_array(file, count * layout.volume_bytes, path=path)
        stream.skip(file, (layout.volumes - first - count) * layout.volume_bytes, path=path)
        stream.finish(file, path=path)
    return raw


def _read_layout(file: BinaryIO, path: Path) -> _Layout:
    try:
        header = _parse(file.read(_NIFTI2_SIZE))
        return _layout(header)
    except (InputError, GeometryError) as error:
        raise InputError(
            error.found, expected=error.expected, where=str(path), remedy=error.remedy or "Export the file again"
        ) from error


def _parse(block: bytes) -> NiftiHeader:
    sizes = {int.from_bytes(block[:4], "little"): "<", int.from_bytes(block[:4], "big"): ">"}
    if _NIFTI1_SIZE in sizes and len(block) >= _NIFTI1_SIZE:
        header = nibabel.Nifti1Header(block[:_NIFTI1_SIZE], endianness=sizes[_NIFTI1_SIZE], check=False)
    elif _NIFTI2_SIZE in sizes and len(block) >= _NIFTI2_SIZE:
        header = nibabel.Nifti2Header(block[:_NIFTI2_SIZE], endianness=sizes[_NIFTI2_SIZE], check=False)
    else:
        raise InputError("the file is not NIfTI: it does not begin with a NIfTI header")
    magic = bytes(header["magic"].item())[:3]
    if magic in _PAIR_MAGIC:
        raise InputError("the header belongs to a pair of .hdr and .img", remedy="Convert the pair to .nii.gz")
    if magic not in _DATA_MAGIC:
        raise InputError("the file is Analyze 7.5, which names no left and right", expected="NIfTI")
    return header


def _layout(header: NiftiHeader) -> _Layout:
    shape, volumes = _shape(header)
    affine, is_placed = _affine_lps(header)
    slope, intercept = _scaling(header)
    smallest = int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"]) or smallest
    if not smallest <= offset < 2**31 or offset != int(offset):
        raise InputError(f"the voxels are said to begin at byte {offset:g}", expected=f"{smallest} or later")
    return _Layout(Geometry(shape, affine), volumes, _dtype(header), int(offset), slope, intercept, is_placed)


def _shape(header: NiftiHeader) -> tuple[tuple[int, int, int], int]:
    """Return the shape (z, y, x) and the number of volumes; every dimension above the third counts volumes."""
    dimensions = int(header["dim"][0])
    if not 2 <= dimensions <= _MAX_DIMENSIONS:
        raise InputError(f"the header has {dimensions} dimensions", expected="2 to 7")
    sides = [int(n) for n in header["dim"][1 : dimensions + 1]] + [1] * (3 - dimensions)
    if min(sides) < 1:
        raise InputError(f"the header's sizes are {sides}", expected="positive numbers")
    volumes = 1
    for side in sides[3:]:
        volumes *= side
    return (sides[2], sides[1], sides[0]), volumes


def _dtype(header: NiftiHeader) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise InputError(f"the voxel type code {int(header['datatype'])} is not known") from error
    if dtype.kind not in "iuf" or dtype.itemsize > np.dtype(np.float64).itemsize:
        kind = {"c": "complex numbers", "V": "colours"}.get(dtype.kind, str(dtype))
        raise InputError(f"the voxels are {kind}", expected="one whole or floating-point number each")
    return dtype


def _scaling(header: NiftiHeader) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if not np.isfinite(intercept):
        raise InputError(f"the header's scl_inter is {intercept}", expected="a finite number")
    return slope, intercept


def _affine_lps(header: NiftiHeader) -> tuple[NDArray[np.float64], bool]:
    units = int(header["xyzt_units"]) & 7
    if units not in _MM_PER_UNIT:
        raise InputError(f"the header's unit of length has code {units}", expected="metre, millimetre or micrometre")
    to_mm = np.array([[_MM_PER_UNIT[units]]] * 3 + [[1.0]])
    if int(header["sform_code"]) > 0:
        return _lps(to_mm * header.get_sform()), True
    if int(header["qform_code"]) > 0:
        return _lps(to_mm * _qform(header)), True
    spacing_xyz = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    return (to_mm * np.diag([*spacing_xyz, 1.0]))[:, [2, 1, 0, 3]], False


def _qform(header: NiftiHeader) -> NDArray[np.float64]:
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are refused by Geometry
            affine: NDArray[np.float64] = header.get_qform()
    except (ValueError, HeaderDataError) as error:
        raise InputError("the header's qform is not a rotation") from error
    return affine


def _lps(affine_ras_xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map index (z, y, x) to LPS from a matrix that maps (i, j, k) to RAS; its own inverse, but for the index order."""
    with np.errstate(invalid="ignore"):  # numbers that are not finite are refused by Geometry
        affine: NDArray[np.float64] = _RAS_TO_LPS @ np.asarray(affine_ras_xyz, dtype=np.float64) @ _XYZ_TO_ZYX
    return affine


# -- writing -------------------------------------------------------------------------------------------------------


def _header_for(data: NDArray[Any], geometry: Geometry) -> NiftiHeader:
    volumes, z, y, x = data.shape
    sides = (x, y, z) if volumes == 1 else (x, y, z, volumes)
    header: NiftiHeader = nibabel.Nifti1Header() if max(sides) <= _NIFTI1_MAX_SIDE else nibabel.Nifti2Header()
    refuse_other_types(data.dtype)
    header.set_data_dtype(data.dtype)
    header.set_data_shape(sides)
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    header["magic"] = b"n+1" if header["sizeof_hdr"] == _NIFTI1_SIZE else b"n+2"
    header["scl_slope"], header["scl_inter"] = 1, 0
    header.set_xyzt_units("mm", "unknown")
    _place(header, geometry)
    return header


def _place(header: NiftiHeader, geometry: Geometry) -> None:
    affine_ras = _RAS_TO_LPS @ geometry.affine @ _XYZ_TO_ZYX
    z, y, x = geometry.spacing_mm
    header.set_zooms((x, y, z, 1.0)[: len(header.get_data_shape())])
    header.set_sform(affine_ras, code=_SCANNER)
    if geometry.is_sheared:
        return
    header.set_qform(affine_ras, code=_SCANNER)
    rigid = Geometry(geometry.shape, _lps(header.get_qform()))
    if corner_distance_mm(rigid, geometry) > CORNER_TOLERANCE_MM:
        header["qform_code"] = 0
