"""Written masks, opened again by another path than their writer's.

=========  ======================================  =================================================================
format     written by                              opened by
=========  ======================================  =================================================================
NIfTI      nibabel's header, our own voxels        SimpleITK; grids it refuses (sheared ones) by the bytes of the
                                                   header, as the standard lays them out
PNG        Pillow                                  SimpleITK; where pixels are indices, the bytes of the chunks
DICOM SEG  highdicom                               pydicom alone, frame by frame
RTSTRUCT   pydicom, outlines by scikit-image       pydicom, contours filled by their winding number
=========  ======================================  =================================================================
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import SimpleITK as sitk

from medseg.errors import InputError
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg.frames import Frame, frames_of, plane_of
from medseg.io.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_TYPES = {2: "u1", 512: "u2"}  # NIfTI's codes of the types that masks are written in
_PNG_MARK = b"\x89PNG\r\n\x1a\n"
_NIFTI1 = ("<i", 348)
_TIE = 1e-6  # voxels


def reopen_nifti(path: Path, ids: tuple[int, ...]) -> tuple[Planes, str]:
    """Return the mask in a NIfTI file, and what read it.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:  # a grid that ITK does not have, or a damaged file, which the other way will not read either
        return _by_bytes(path, ids), "the bytes of the header"
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    if array.ndim != 3:
        raise InputError(f"the file holds {array.ndim} axes", expected="3")
    steps = np.array(image.GetDirection()).reshape(3, 3).T * np.array(image.GetSpacing())[:, None]  # rows: x, y, z
    origins = np.array(image.GetOrigin()) + np.arange(len(array))[:, None] * steps[2]
    return Planes(array, origins, steps[1::-1], ids), "SimpleITK"


def reopen_picture(path: Path) -> tuple[int, int]:
    """Return the width and height of a PNG picture whose pixels could be read.

    Raises
    ------
    InputError
        Where they could not.
    """
    try:
        width, height = sitk.ReadImage(str(path)).GetSize()[:2]
    except RuntimeError as error:
        raise InputError("the file cannot be read back", where=path.name) from error
    return int(width), int(height)


def reopen_indexed(path: Path) -> tuple[NDArray[np.uint8], tuple[tuple[int, int, int], ...]]:
    """Return the indices (Y, X) and the palette of an indexed PNG of 8 bits, by the layout of the file.

    Chunks, filters and palette are those of the PNG specification, sections 5, 9 and 11; rows with another filter than
    none are refused, as our writer makes none.

    Raises
    ------
    InputError
        Where it cannot be read, or is no such file.
    """
    content, at = path.read_bytes(), len(_PNG_MARK)
    chunks: dict[bytes, bytes] = {}
    try:
        while at < len(content):
            length, kind = struct.unpack_from(">I4s", content, at)
            chunks[kind] = chunks.get(kind, b"") + content[at + 8 : at + 8 + length]
            at += length + 12  # with length, kind and checksum
        width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
        table = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3).tolist()
    except (struct.error, KeyError, ValueError, zlib.error) as error:
        raise InputError("the file cannot be read back", where=path.name) from error
    if not content.startswith(_PNG_MARK) or form != [8, 3, 0, 0, 0] or rows[:, 0].any():
        raise InputError("the file is no indexed PNG of 8 bits", where=path.name)
    return rows[:, 1:], tuple((r, g, b) for r, g, b in table)


def reopen_seg(path: Path, like: Planes, numbers: Mapping[str, int]) -> Planes:
    """Return the mask in a DICOM SEG.

    Parameters
    ----------
    path : Path
        The file.
    like : Planes
        The slices it should lie on; a slice without a frame is empty, and where `like` has it.
    numbers : mapping of str to int
        The label of each tracking UID.

    Raises
    ------
    InputError
        Where it cannot be read, or holds other segments.
    """
    with quiet():
        dataset = _dataset(path)
        try:
            labels = {
                int(s.SegmentNumber): numbers[str(s.TrackingUID)] for s in dataset.SegmentSequence if s.SegmentNumber
            }
            table = np.zeros(max(labels) + 1, np.uint16)
            table[list(labels)] = list(labels.values())
            array, origins = _put(frames_of(dataset), like, table)
            orientation, (row_mm, column_mm), _ = plane_of(dataset)
        except (KeyError, AttributeError, ValueError, TypeError) as error:
            raise InputError("the SEG cannot be read back", where=path.name) from error
    cosines = np.array(orientation).reshape(2, 3)
    return Planes(array, origins, cosines[::-1] * [[row_mm], [column_mm]], like.ids)


def reopen_rtstruct(path: Path, like: Planes) -> Planes:
    """Return the mask that the contours of an RTSTRUCT enclose; structures are numbered in the order of labels.

    A voxel is inside where the contours of a structure wind around its centre. Contours do not say where voxels lie,
    but each has to lie in a plane: `origins_lps` is where the contours of a plane place it.

    Parameters
    ----------
    path : Path
        The file.
    like : Planes
        The slices the contours should lie on.

    Raises
    ------
    InputError
        Where it cannot be read, holds other structures, or structures overlap.
    """
    with quiet():
        dataset = _dataset(path)
        array = np.zeros_like(like.array)
        origins = like.origins_lps.copy()
        try:
            drawn = {int(r.ReferencedROINumber): r.get("ContourSequence") or () for r in dataset.ROIContourSequence}
            if sorted(drawn) != list(range(1, len(like.ids) + 1)):
                raise InputError(f"the RTSTRUCT holds {len(drawn)} structures", expected=f"{len(like.ids)}")
            for number, id_ in enumerate(like.ids, start=1):
                loops = (_points(contour) for contour in drawn[number])
                _fill(array, origins, loops, like=like, id_=id_)
        except (KeyError, AttributeError, ValueError, TypeError) as error:
            raise InputError("the RTSTRUCT cannot be read back", where=path.name) from error
    return Planes(array, origins, like.steps_lps, like.ids)


def _dataset(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file cannot be read back", where=path.name) from error


# -- NIfTI --------------------------------------------------------------------------------------------------------


def _by_bytes(path: Path, ids: tuple[int, ...]) -> Planes:
    """Return the mask by the layout of NIfTI-1: dim at byte 40, datatype at 70, vox_offset at 108, srow at 280."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        (size,) = struct.unpack_from(_NIFTI1[0], content)
        dim = struct.unpack_from("<8h", content, 40)
        (datatype,) = struct.unpack_from("<h", content, 70)
        (offset,) = struct.unpack_from("<f", content, 108)
        (sform_code,) = struct.unpack_from("<h", content, 254)
        srow = np.array(struct.unpack_from("<12f", content, 280)).reshape(3, 4) * _RAS_TO_LPS[:, None]
        if size != _NIFTI1[1] or dim[0] != 3 or sform_code <= 0 or datatype not in _TYPES:
            raise InputError("the header is not that of a mask", where=path.name)
        x, y, z = dim[1:4]
        array = np.frombuffer(content, f"<{_TYPES[datatype]}", x * y * z, int(offset)).reshape(z, y, x)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise InputError("the file cannot be read back", where=path.name) from error
    origins = srow[:, 3] + np.arange(z)[:, None] * srow[:, 2]
    return Planes(array, origins, srow[:, 1::-1].T.copy(), ids)


# -- SEG ----------------------------------------------------------------------------------------------------------


def _put(frames: Iterable[Frame], like: Planes, table: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the frames on the nearest planes, in label ids, and where the frames place these planes."""
    array = np.zeros_like(like.array)
    origins = like.origins_lps.copy()
    for frame in frames:
        n = int(np.linalg.norm(like.origins_lps - frame.position_lps, axis=1).argmin())
        origins[n] = _farther(origins[n], frame.position_lps, like.origins_lps[n])
        if frame.segment is None:
            np.add(array[n], table[frame.pixels_yx], out=array[n], casting="unsafe")
            continue
        inside = frame.pixels_yx != 0
        array[n][inside] += table[frame.segment].astype(array.dtype)  # an overlap is another id, hence a difference
    return array, origins


def _farther(a: NDArray[np.float64], b: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    return b if np.linalg.norm(b - place) > np.linalg.norm(a - place) else a


# -- RTSTRUCT -----------------------------------------------------------------------------------------------------


def _points(contour: Dataset) -> NDArray[np.float64]:
    """Return the vertices of a contour; their text is parsed at once, as pydicom makes an object of every number."""
    text = contour.get_item("ContourData").value
    numbers = text.split(b"\\") if isinstance(text, bytes) else text
    return np.array(numbers, np.float64).reshape(-1, 3)


def _fill(
    array: NDArray[Any],
    origins: NDArray[np.float64],
    loops: Iterable[NDArray[np.float64]],
    *,
    like: Planes,
    id_: int,
) -> None:
    """Put a structure into an array, and into `origins` where its contours place the planes."""
    normal = np.cross(like.steps_lps[1], like.steps_lps[0])
    normal /= np.linalg.norm(normal)
    heights = like.origins_lps @ normal
    within = np.linalg.pinv(like.steps_lps)
    by_plane: dict[int, list[NDArray[np.float64]]] = {}
    for points in loops:
        along = points @ normal
        n = int(np.abs(heights - along[0]).argmin())
        off = along - heights[n]
        worst = float(off[np.abs(off).argmax()])
        origins[n] = _farther(origins[n], like.origins_lps[n] + worst * normal, like.origins_lps[n])
        by_plane.setdefault(n, []).append((points - worst * normal - like.origins_lps[n]) @ within)
    for n, polygons in by_plane.items():
        points = np.concatenate(polygons)
        low = np.maximum(np.floor(points.min(axis=0)), 0).astype(int)  # the rest of the slice is outside
        high = np.minimum(np.ceil(points.max(axis=0)) + 1, array.shape[1:]).astype(int)
        if (high <= low).any():
            raise InputError("a contour lies outside of the image")
        part = array[n][low[0] : high[0], low[1] : high[1]]
        inside = wound([polygon - low for polygon in polygons], (part.shape[0], part.shape[1]))
        if part[inside].any():
            raise InputError("structures overlap")
        part[inside] = id_


def wound(polygons_yx: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the voxels around whose centres polygons wind (the nonzero rule); vertices are (row, column).

    Every edge that crosses a row of centres counts, by its direction, for all centres to the right of it.

    Examples
    --------
    >>> ring = np.array([(-0.5, -0.5), (-0.5, 2.5), (2.5, 2.5), (2.5, -0.5)])
    >>> hole = np.array([(0.5, 0.5), (1.5, 0.5), (1.5, 1.5), (0.5, 1.5)])
    >>> wound([ring, hole], (3, 3)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    a = np.concatenate(polygons_yx)
    b = np.concatenate([np.roll(p, -1, axis=0) for p in polygons_yx])
    first, last = np.ceil(np.minimum(a[:, 0], b[:, 0]) - _TIE), np.ceil(np.maximum(a[:, 0], b[:, 0]) - _TIE)
    first, last = (np.clip(v, 0, shape[0]).astype(np.intp) for v in (first, last))  # rows first to last - 1
    times = last - first
    edge = np.repeat(np.arange(len(a)), times)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(times) - times, times) + first[edge]
    rise = b[edge, 0] - a[edge, 0]
    x = a[edge, 1] + (row - a[edge, 0]) / rise * (b[edge, 1] - a[edge, 1])
    column = np.clip(np.ceil(x - _TIE), 0, shape[1]).astype(np.intp)
    turns = np.bincount(row * (shape[1] + 1) + column, np.sign(rise), minlength=shape[0] * (shape[1] + 1))
    inside: NDArray[np.bool_] = turns.reshape(shape[0], -1)[:, :-1].cumsum(axis=1) != 0
    return inside
