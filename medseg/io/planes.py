"""A mask as planes in the patient, and how far two of them are apart: what the check of written files compares.

Slices that a DICOM file holds need not be evenly spaced, so that a `Geometry` cannot say where they lie. Planes can,
and regular grids are planes too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Geometry

_ON_MIDDLE_MM = 0.01  # closer to the middle of the scan than this, a centroid is on no side


class Moments(NamedTuple):
    """Voxels of each label in each plane, and the sums of their row and column numbers: (planes, labels) each."""

    voxels: NDArray[np.int64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Apart:
    """How far two masks are apart.

    Attributes
    ----------
    grid_mm : float
        The largest distance between corresponding corners of corresponding planes.
    voxels_differing : int
    centroid_mm : float
        The largest distance between the centroids of a label.
    laterality : bool
        Whether every label's centroid is on the same side of the middle of the scan, left or right.
    """

    grid_mm: float
    voxels_differing: int
    centroid_mm: float
    laterality: bool


@dataclass(frozen=True, eq=False)
class Planes:
    """A mask as parallel planes.

    Parameters
    ----------
    array : (n, Y, X) unsigned integer
        Label ids.
    origins_lps : (n, 3) float64, mm
        Centre of the first voxel of each plane.
    steps_lps : (2, 3) float64, mm
        From a voxel to the next row, and to the next column.
    ids : tuple of int
        The labels, rising.
    """

    array: NDArray[Any]
    origins_lps: NDArray[np.float64]
    steps_lps: NDArray[np.float64]
    ids: tuple[int, ...]

    @classmethod
    def on_grid(cls, array_zyx: NDArray[Any], geometry: Geometry, ids: tuple[int, ...]) -> Self:
        """Return the planes of a regular grid."""
        z = np.arange(geometry.shape[0], dtype=np.float64)
        return cls(
            array_zyx, geometry.to_lps(np.stack([z, 0 * z, 0 * z], axis=1)), geometry.affine[:3, 1:3].T.copy(), ids
        )

    @property
    def corners_lps(self) -> NDArray[np.float64]:
        """The centres of the four corner voxels of every plane, (n, 4, 3)."""
        rows, columns = (n - 1 for n in self.array.shape[1:])
        within = np.array([(0, 0), (0, columns), (rows, 0), (rows, columns)]) @ self.steps_lps
        corners: NDArray[np.float64] = self.origins_lps[:, None, :] + within
        return corners

    @cached_property
    def moments(self) -> Moments:
        """What centroids are made of."""
        place = np.zeros(max((*self.ids, int(self.array.max(initial=0)))) + 1, np.intp)  # what is no label counts at 0
        place[list(self.ids)] = np.arange(1, len(self.ids) + 1)
        shape = (len(self.array), len(self.ids) + 1)
        voxels, rows, columns = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
        for n, plane_yx in enumerate(self.array):
            inside = np.flatnonzero(plane_yx)
            if not inside.size:
                continue
            y, x = np.divmod(inside, plane_yx.shape[1])
            label = place[plane_yx.ravel()[inside]]
            voxels[n] = np.bincount(label, minlength=shape[1])
            rows[n] = np.bincount(label, y, minlength=shape[1])
            columns[n] = np.bincount(label, x, minlength=shape[1])
        return Moments(voxels[:, 1:], rows[:, 1:], columns[:, 1:])

    def centroids_lps(self, moments: Moments) -> NDArray[np.float64]:
        """Return the centroid of every label, (labels, 3); NaN where there is none."""
        voxels = moments.voxels.sum(axis=0).astype(np.float64)
        across = np.stack([moments.rows.sum(axis=0), moments.columns.sum(axis=0)], axis=1) @ self.steps_lps
        with np.errstate(invalid="ignore"):
            centroids: NDArray[np.float64] = (moments.voxels.T @ self.origins_lps + across) / voxels[:, None]
        return centroids

    @property
    def middle_lps(self) -> NDArray[np.float64]:
        """The middle of the scan."""
        middle: NDArray[np.float64] = self.corners_lps[[0, -1]].reshape(-1, 3).mean(axis=0)
        return middle


def apart(found: Planes, wanted: Planes) -> Apart:
    """Return how far two masks of the same labels are apart.

    Raises
    ------
    InputError
        Where they have not the same number of voxels along every axis.

    Examples
    --------
    >>> mask = np.zeros((2, 3, 4), np.uint8)
    >>> mask[1, 2, 3] = 1
    >>> origins, steps = np.array([(0, 0, 0), (0, 0, 5)]), np.array([(0, 2, 0), (1, 0, 0)])
    >>> wanted = Planes(mask, origins, steps, (1,))
    >>> apart(Planes(mask, origins + [0, 0, 1], steps, (1,)), wanted)
    Apart(grid_mm=1.0, voxels_differing=0, centroid_mm=1.0, laterality=True)
    >>> apart(Planes(mask[:, :, ::-1], origins, steps, (1,)), wanted)
    Apart(grid_mm=0.0, voxels_differing=2, centroid_mm=3.0, laterality=False)
    """
    if found.array.shape != wanted.array.shape:
        raise InputError(f"the file holds {found.array.shape} voxels", expected=str(wanted.array.shape))
    differing = sum(int(np.count_nonzero(a != b)) for a, b in zip(found.array, wanted.array, strict=True))
    moments = found.moments if differing else wanted.moments  # of equal voxels they are equal
    theirs, ours = found.centroids_lps(moments), wanted.centroids_lps(wanted.moments)
    off_mm = np.linalg.norm(theirs - ours, axis=1)
    lost = np.isnan(theirs[:, 0]) != np.isnan(ours[:, 0])
    return Apart(
        grid_mm=float(np.linalg.norm(found.corners_lps - wanted.corners_lps, axis=2).max()),
        voxels_differing=differing,
        centroid_mm=float("inf") if lost.any() else float(np.nanmax(off_mm, initial=0.0)),
        laterality=not lost.any() and same_side(theirs - found.middle_lps, ours - wanted.middle_lps),
    )


def same_side(a_lps: NDArray[np.float64], b_lps: NDArray[np.float64], *, within_mm: float = _ON_MIDDLE_MM) -> bool:
    """Tell whether offsets from the middle go to the same side, left or right; those within `within_mm` go to none."""
    a, b = a_lps[:, 0], b_lps[:, 0]
    near = np.isnan(a) | np.isnan(b) | (np.abs(a) <= within_mm) | (np.abs(b) <= within_mm)
    return bool((near | (np.sign(a) == np.sign(b))).all())
