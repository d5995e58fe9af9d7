"""Where the frames of a DICOM SEG lie: on a grid that is given, or on the smallest one that holds them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io.dicom.inventory.positions import SAME_PLACE_MM, slice_normal
from medseg.io.dicom.seg.frames import plane_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from medseg.io.dicom.seg.frames import Frame

_OFF_GRID = 0.05  # of a voxel side
_OFF_GRID_MM = 0.01
_OFF_FAR = 0.2  # of a voxel side, at the far corner of a frame: rounding of spacings and cosines
_MAX_VOXELS = 2**29  # of a grid whose slices are mostly left out
_MOST_LEFT_OUT = 4  # slices for each frame, in a larger grid


class Placing:
    """How the frames of a SEG fall on a grid: along which of its axes rows and columns run, and in which direction.

    Parameters
    ----------
    dataset : Dataset
        The SEG; all its frames share one orientation and pixel spacing.
    grid : Geometry
        The grid; the frames' pixels must be voxels of it.

    Raises
    ------
    GeometryError
        Where the frames' pixels are no voxels of the grid.
    """

    def __init__(self, dataset: Dataset, grid: Geometry) -> None:
        self.grid = grid
        self._shape = (int(dataset.Rows), int(dataset.Columns))
        steps = np.linalg.inv(grid.affine[:3, :3]) @ np.column_stack(_steps_in_plane(dataset))
        whole = np.rint(steps)
        off = np.abs(steps - whole).max(axis=0) * np.array(self._shape)
        if (np.abs(whole).sum(axis=0) != 1).any() or (off > _OFF_FAR).any():
            raise GeometryError(
                "the frames of the segmentation are turned or spaced otherwise than the grid", expected=str(grid)
            )
        y, x = (int(np.flatnonzero(whole[:, n])[0]) for n in range(2))
        if x == y:
            raise GeometryError("the rows and columns of the segmentation run along one axis")
        self._axes = (3 - x - y, y, x)
        self._flips = (1, int(whole[y, 0]), int(whole[x, 1]))

    def window(self, frame: Frame, array_zyx: NDArray[Any]) -> NDArray[Any] | None:
        """Return the view (rows, columns) of an array on the grid that a frame covers.

        ``None`` for a frame outside the grid that holds nothing.

        Raises
        ------
        GeometryError
            Where the frame lies between the grid's voxels, or outside and holds something.
        """
        index = self.grid.to_index(frame.position_lps)
        nearest = np.rint(index)
        allowed = np.maximum(_OFF_GRID, _OFF_GRID_MM / np.array(self.grid.spacing_mm))
        view = array_zyx.transpose(self._axes)[:, :: self._flips[1], :: self._flips[2]]
        start = [
            int(nearest[axis]) if flip > 0 else size - 1 - int(nearest[axis])
            for axis, flip, size in zip(self._axes, self._flips, view.shape, strict=True)
        ]
        stop = [start[0] + 1, start[1] + self._shape[0], start[2] + self._shape[1]]
        outside = min(start) < 0 or any(a > b for a, b in zip(stop, view.shape, strict=True))
        if outside and not frame.pixels_yx.any():
            return None
        if outside or (np.abs(index - nearest) > allowed).any():
            raise GeometryError("a frame does not lie on a slice of the grid", expected=str(self.grid))
        found: NDArray[Any] = view[start[0], start[1] : stop[1], start[2] : stop[2]]
        return found


def smallest_grid(dataset: Dataset) -> Geometry:
    """Return the smallest regular grid that holds all frames.

    Raises
    ------
    GeometryError
        Where they span none, or one too large to be true.
    """
    down, across = _steps_in_plane(dataset)
    orientation, _, declared_mm = plane_of(dataset)
    normal = slice_normal(orientation)
    positions = _positions(dataset)
    points = np.unique(np.round(positions, 4), axis=0)
    points = points[np.argsort(points @ normal)]
    points = points[np.append(True, np.diff(points @ normal) > SAME_PLACE_MM)]  # frames of one slice, rounded apart
    count, step = _steps(points, normal, declared_mm)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if count * rows * columns > _MAX_VOXELS and count > _MOST_LEFT_OUT * len(positions):
        raise GeometryError("the frames span a grid too large to be true")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = step, down, across, points[0]
    return Geometry((count, rows, columns), affine, str(dataset.get("FrameOfReferenceUID") or "") or None)


def _positions(dataset: Dataset) -> NDArray[np.float64]:
    """Return the centre of the first pixel of every frame, (n, 3) in LPS mm."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    planes = [
        own.get("PlanePositionSequence") or shared.get("PlanePositionSequence")
        for own in dataset.get("PerFrameFunctionalGroupsSequence") or []
    ]
    if not planes or not all(planes):
        raise InputError("the segmentation does not say where its frames lie")
    return np.array([[float(v) for v in plane[0].ImagePositionPatient] for plane in planes])


def _steps_in_plane(dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the steps in mm from one row to the next and from one column to the next, which all frames share."""
    orientation, (row_mm, column_mm), _ = plane_of(dataset)
    for own in dataset.get("PerFrameFunctionalGroupsSequence") or []:
        for plane in own.get("PlaneOrientationSequence") or []:
            if not np.allclose([float(v) for v in plane.ImageOrientationPatient], orientation, atol=1e-4):
                raise GeometryError("the frames of the segmentation are turned against each other")
    return np.array(orientation[3:]) * row_mm, np.array(orientation[:3]) * column_mm


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
