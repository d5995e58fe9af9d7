"""Where a grid is shown: from the array's index to napari's world, upright, along the grid's own axes.

napari's world is ours with its axes reversed: (z, y, x) in millimetres, LPS. A layer's axes must run along the world's,
as napari drops rotation and shear from slices. So voxels are shown as a view that runs towards S, P, L (flips and
transpositions move none), and a grid that is oblique to the patient is turned upright about the origin of LPS:
grids of equal directions then still coincide, their distances are true, and the note says what was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from medseg.geometry import Box, Geometry

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

UPRIGHT = "SPL"
_ALONG = 1e-6  # sine of an angle that is rounding: 1e-4 mm over 100 mm
_NEVER_SAID_MM = 0.1


@dataclass(frozen=True, eq=False)
class Display:
    """How a grid is shown.

    Parameters
    ----------
    geometry : Geometry
        The grid of the array.

    Examples
    --------
    >>> sagittal = Geometry((2, 4, 5), np.array([[3.0, 0, 0, 1], [0, 0, 1, 2], [0, -1, 0, 3], [0, 0, 0, 1]]))
    >>> shown = Display(sagittal)
    >>> sagittal.axis_codes, shown.view(np.zeros((2, 4, 5))).shape, shown.affine[:3, 3].tolist()
    ('LIP', (4, 5, 2), [0.0, 2.0, 1.0])
    """

    geometry: Geometry

    @classmethod
    def of(cls, geometry: Geometry) -> Self:
        """Return how a grid is shown."""
        return cls(geometry)

    @property
    def turn(self) -> NDArray[np.float64]:
        """The rotation (3, 3) from the directions shown to LPS; columns x, y, z as shown."""
        directions = self.geometry.reoriented(UPRIGHT).directions_lps
        x = directions[:, 2]
        y = directions[:, 1] - x * (x @ directions[:, 1])
        y = y / np.linalg.norm(y)
        turn = np.stack([x, y, np.cross(x, y)], axis=1)
        return np.eye(3) if np.abs(turn - np.eye(3)).max() < _ALONG else turn

    @property
    def affine(self) -> NDArray[np.float64]:
        """The layer's affine (4, 4), without rotation: from the index of the view to napari's world (z, y, x) in mm."""
        upright = self.geometry.reoriented(UPRIGHT)
        steps = self.turn.T @ upright.affine[:3, :3]
        origin = self.turn.T @ upright.affine[:3, 3]
        affine = np.diag([steps[2, 0], steps[1, 1], steps[0, 2], 1.0])
        affine[:3, 3] = origin[::-1]
        return affine

    @property
    def off_mm(self) -> float:
        """How far the farthest corner is shown from its place in the patient."""
        shown = self.to_world(self.geometry.to_index(self.geometry.corners_lps))[:, ::-1]
        return float(np.linalg.norm(shown - self.geometry.corners_lps, axis=1).max())

    @property
    def note(self) -> str:
        """What a person must be told; empty where the scan is shown in its place."""
        if self.off_mm < _NEVER_SAID_MM:
            return ""
        cosine = (np.trace(self.turn) - 1) / 2
        degrees = float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
        what = f"turned upright by {degrees:.1f} degrees" if degrees > 0.05 else "with its slices straightened"  # noqa: PLR2004 - what rounds to 0.1
        return f"shown along its own slices, {what}; masks stay on the scan's own grid"

    def view(self, array_zyx: NDArray[Any]) -> NDArray[Any]:
        """Return an array on the grid as it is shown: a view, no voxel is copied."""
        axes, flips = self._moves()
        index = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        return array_zyx.transpose(axes)[index]

    def unview(self, shown_zyx: NDArray[Any]) -> NDArray[Any]:
        """Return what is shown on the grid again: the inverse of `view`, a view too."""
        axes, flips = self._moves()
        index = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        return shown_zyx[index].transpose(np.argsort(axes))

    def to_world(self, points_index: ArrayLike) -> NDArray[np.float64]:
        """Map indices of the grid, (..., 3), to napari's world (z, y, x) in mm."""
        points = self._shown_index(np.asarray(points_index, dtype=np.float64))
        world: NDArray[np.float64] = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        return world

    def to_index(self, points_world: ArrayLike) -> NDArray[np.float64]:
        """Map points of napari's world (z, y, x), (..., 3), to fractional indices of the grid."""
        affine = self.affine
        points = (np.asarray(points_world, dtype=np.float64) - affine[:3, 3]) / np.diag(affine)[:3]
        axes, flips = self._moves()
        shape = np.array(self.geometry.shape)[list(axes)]
        points = np.where(flips, shape - 1 - points, points)
        index: NDArray[np.float64] = points[..., np.argsort(axes)]
        return index

    def to_lps(self, points_world: ArrayLike) -> NDArray[np.float64]:
        """Map points of napari's world (z, y, x), (..., 3), to where they are in the patient: LPS (x, y, z) in mm."""
        return self.geometry.to_lps(self.to_index(points_world))

    def box(self, low_world: ArrayLike, high_world: ArrayLike) -> Box | None:
        """Return the voxels of the grid whose centres lie between two corners in napari's world; None without any."""
        ends = np.sort(np.stack([self.to_index(low_world), self.to_index(high_world)]), axis=0)
        start = np.maximum(np.ceil(ends[0] - 1e-6), 0).astype(int)
        stop = np.minimum(np.floor(ends[1] + 1e-6) + 1, self.geometry.shape).astype(int)
        if (stop <= start).any():
            return None
        return Box(tuple(start.tolist()), tuple(stop.tolist()))

    def _moves(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Return which axis of the array each shown axis is, and whether it is flipped."""
        codes = self.geometry.axis_codes
        pairs = ("SI", "PA", "LR")  # towards which a shown axis runs, and its opposite
        axes = tuple(next(i for i, code in enumerate(codes) if code in pair) for pair in pairs)
        return axes, tuple(codes[axis] == pair[1] for axis, pair in zip(axes, pairs, strict=True))

    def _shown_index(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        axes, flips = self._moves()
        shape = np.array(self.geometry.shape)[list(axes)]
        points = points[..., list(axes)]
        return np.where(flips, shape - 1 - points, points)
