"""DICOM SEG in: a mask on its own grid, empty slices that were left out included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom

from medseg.errors import GeometryError, InputError, MedsegError
from medseg.geometry import Geometry
from medseg.io.dicom.positions import slice_normal
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_frames import Frame, frames_of, plane_of
from medseg.labels import Code, Label, LabelSet, distinct_color
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_OFF_GRID = 0.05  # of a slice spacing
_OFF_GRID_MM = 0.01
_MAX_VOXELS = 2**31


def read_seg(path: Path, *, onto: Geometry | None = None) -> Segmentation:
    """Read a DICOM SEG of type BINARY or LABELMAP.

    Parameters
    ----------
    path : Path
        The file.
    onto : Geometry, optional
        The grid to put the mask on, normally that of the series it was made from; its voxels must be the SEG's. By
        default the smallest grid that holds all frames; slices between them that were left out are empty.

    Returns
    -------
    Segmentation
        Label ids are segment numbers, names are segment labels.

    Raises
    ------
    InputError
        Where the file is no such SEG, or segments overlap.
    GeometryError
        Where the frames do not lie on one grid, or not on `onto`.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True)
            return _segmentation(dataset, onto)
    except MedsegError as error:
        raise error.at(path.name) from error
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file is no DICOM SEG that can be read", where=path.name, code="unreadable") from error


def _segmentation(dataset: Dataset, onto: Geometry | None) -> Segmentation:
    frames = list(frames_of(dataset))
    if not frames:
        raise InputError("the segmentation holds no frame")
    grid = _grid(dataset, frames) if onto is None else onto
    labels = _labels(dataset)
    array = np.zeros(grid.shape, np.uint8 if max(labels.ids, default=0) <= np.iinfo(np.uint8).max else np.uint16)
    for frame in frames:
        _place(array[_slice_of(frame, grid)], frame, labels)
    return Segmentation(array, grid, labels)


def _place(plane_yx: NDArray[Any], frame: Frame, labels: LabelSet) -> None:
    if frame.pixels_yx.shape != plane_yx.shape:
        raise GeometryError(f"a frame has {frame.pixels_yx.shape} pixels", expected=str(plane_yx.shape))
    inside = frame.pixels_yx != 0
    taken = plane_yx[inside]
    if taken.any():
        other = labels[int(taken[taken != 0][0])].name
        mine = labels[frame.segment or int(frame.pixels_yx[inside][taken != 0][0])].name
        raise InputError(f"the segments {other!r} and {mine!r} overlap", expected="one segment per voxel")
    plane_yx[inside] = frame.pixels_yx[inside] if frame.segment is None else frame.segment


def _slice_of(frame: Frame, grid: Geometry) -> int:
    index = grid.to_index(frame.position_lps)
    z = int(np.rint(index[0]))
    off_mm = np.linalg.norm(grid.to_lps([z, 0, 0]) - frame.position_lps)
    if off_mm > max(_OFF_GRID_MM, _OFF_GRID * grid.spacing_mm[0]) or not 0 <= z < grid.shape[0]:
        raise GeometryError("a frame does not lie on a slice of the grid", expected=str(grid))
    return z


def _grid(dataset: Dataset, frames: list[Frame]) -> Geometry:
    """Return the smallest regular grid that holds all frames."""
    orientation, (row_mm, column_mm), declared_mm = plane_of(dataset)
    normal = slice_normal(orientation)
    points = np.unique(np.round([f.position_lps for f in frames], 4), axis=0)
    points = points[np.argsort(points @ normal)]
    count, step = _steps(points, normal, declared_mm)
    rows, columns = (int(n) for n in frames[0].pixels_yx.shape)
    if count * rows * columns > _MAX_VOXELS:
        raise GeometryError("the frames span a grid too large to be true")
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.array(orientation[3:]) * row_mm
    affine[:3, 2] = np.array(orientation[:3]) * column_mm
    affine[:3, 3] = points[0]
    return Geometry((count, rows, columns), affine, str(dataset.get("FrameOfReferenceUID") or "") or None)


def _steps(
    points: NDArray[np.float64], normal: NDArray[np.float64], declared_mm: float | None
) -> tuple[int, NDArray[np.float64]]:
    """Return the number of slices between the first and last point, and the step from one to the next."""
    if len(points) == 1:
        return 1, normal * (declared_mm or 1.0)
    gaps = np.diff(points @ normal)
    span = points[-1] - points[0]
    smallest = float(gaps.min())
    usual = declared_mm if declared_mm and declared_mm <= smallest * (1 + _OFF_GRID) else smallest
    if not np.allclose(gaps / usual, np.rint(gaps / usual), atol=_OFF_GRID):
        usual = smallest
    count = int(np.rint(float(span @ normal) / usual))
    return count + 1, span / count


def _labels(dataset: Dataset) -> LabelSet:
    """Return what the segments are; a label map's background (0) is none."""
    segments = [s for s in dataset.SegmentSequence if int(s.SegmentNumber) > 0]
    names = [str(s.get("SegmentLabel") or f"segment {s.SegmentNumber}") for s in segments]
    return LabelSet(
        tuple(
            Label(
                int(segment.SegmentNumber),
                name if names.count(name) == 1 else f"{name} ({segment.SegmentNumber})",
                _color(segment),
                _code(segment),
            )
            for segment, name in zip(segments, names, strict=True)
        )
    )


def _color(segment: Dataset) -> tuple[int, int, int]:
    from highdicom.color import CIELabColor

    value = segment.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return distinct_color(int(segment.SegmentNumber) - 1)
    r, g, b = CIELabColor.from_dicom_value(tuple(int(v) for v in value)).to_rgb()
    return int(r), int(g), int(b)


def _code(segment: Dataset) -> Code | None:
    types = segment.get("SegmentedPropertyTypeCodeSequence")
    if not types:
        return None
    value, scheme, meaning = (
        str(types[0].get(k) or "") for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    )
    return Code(scheme, value, meaning[:64]) if value and scheme and meaning and len(value) <= 16 else None
