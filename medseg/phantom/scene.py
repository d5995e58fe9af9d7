"""From solids to voxels: parts painted one over the other on any grid, with partial volume and exact truth.

A scene is defined in anatomical millimetres (x to the left, y to the back, z up). A `Placement` takes points of the
patient there: pose, size and a smooth random deformation, all analytic, so that two grids sample one anatomy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.geometry import Box
from medseg.phantom.shapes import Points, rotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.phantom.shapes import Distance, Field, Shape, Vector
    from medseg.volume import Segmentation, Volume

_SLAB_VOXELS = 1 << 20


@dataclass(frozen=True, eq=False, slots=True)
class Phantom:
    """An image and its truth, on one grid."""

    volume: Volume
    segmentation: Segmentation


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of paint.

    Attributes
    ----------
    shape : Shape
        Where it goes.
    value : float or callable
        Its intensity, or a function of the points that gives it.
    label : int or None
        Label id of its voxels; 0 takes labels away, ``None`` leaves them as they are.
    fixed : bool
        Whether the shape is given in patient millimetres (the table), not in anatomical ones.
    """

    shape: Shape
    value: float | Distance
    label: int | None = None
    fixed: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """The way from patient points (LPS mm) to anatomical mm: `matrix` and `offset`, then waves of displacement."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    waves: NDArray[np.float64]  # (n, 4): wave vector in rad/mm and phase
    amplitudes_mm: NDArray[np.float64]  # (n, 3)

    @classmethod
    def draw(
        cls, rng: np.random.Generator, *, degrees: Vector, scale: Vector, shift_mm: Vector, warp_mm: float
    ) -> Placement:
        """Return a placement with the given pose and a random deformation of `warp_mm` (root mean square)."""
        matrix = np.diag(1 / np.asarray(scale, np.float64)) @ rotation(degrees).T
        count = 8
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length_mm = rng.uniform(180.0, 360.0, (count, 1))
        waves = np.column_stack([direction * 2 * np.pi / length_mm, rng.uniform(0, 2 * np.pi, count)])
        amplitudes = rng.normal(size=(count, 3)) * warp_mm * np.sqrt(2 / count)
        return cls(matrix, -matrix @ np.asarray(shift_mm, np.float64), waves, amplitudes)

    def to_anatomy(self, points_lps: Sequence[Field]) -> list[Field]:
        """Map patient coordinates x, y, z to anatomical ones."""
        x, y, z = points_lps
        m, o = self.matrix.astype(np.float32), self.offset.astype(np.float32)
        out = [x * m[i, 0] + y * m[i, 1] + z * m[i, 2] + o[i] for i in range(3)]
        for (a, b, c, phase), amplitude in zip(
            self.waves.astype(np.float32), self.amplitudes_mm.astype(np.float32), strict=True
        ):
            wave = np.sin(x * a + y * b + z * c + phase)
            for axis in range(3):
                out[axis] += wave * amplitude[axis]
        return out

    def reach_mm(self) -> NDArray[np.float64]:
        """Return the largest displacement there can be along x, y, z."""
        reach: NDArray[np.float64] = np.abs(self.amplitudes_mm).sum(axis=0)
        return reach

    def to_patient(self, points: Vector) -> NDArray[np.float64]:
        """Map anatomical points (..., 3) back by the pose alone, without the deformation."""
        inverse = np.linalg.inv(self.matrix)
        back: NDArray[np.float64] = (np.asarray(points, np.float64) - self.offset) @ inverse.T
        return back


def render(
    parts: Sequence[Part], geometry: Geometry, placement: Placement, *, background: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Paint `parts` in order on `geometry`.

    A voxel takes the share of a part that its width covers (a linear ramp across the surface); its label is that of
    the last part that holds its centre.

    Returns
    -------
    image : (Z, Y, X) float32
    mask : (Z, Y, X) uint8
    """
    image = np.full(geometry.shape, background, dtype=np.float32)
    mask = np.zeros(geometry.shape, dtype=np.uint8)
    nz, ny, nx = geometry.shape
    step = max(1, _SLAB_VOXELS // (ny * nx))
    for first in range(0, nz, step):
        slab = Box((first, 0, 0), (min(first + step, nz), ny, nx))
        _Slab(geometry.crop(slab), placement, image[slab.slices], mask[slab.slices]).paint(parts)
    return image, mask


class _Slab:
    """A few slices: their coordinates, image and mask."""

    def __init__(
        self, geometry: Geometry, placement: Placement, image: NDArray[np.float32], mask: NDArray[np.uint8]
    ) -> None:
        self._geometry, self._placement = geometry, placement
        self._image, self._mask = image, mask
        patient = _coordinates(geometry)
        self._patient, self._anatomy = Points(*patient), Points(*placement.to_anatomy(patient))
        self._ramp = np.float32(1 / np.cbrt(geometry.voxel_ml * 1000.0))

    def paint(self, parts: Sequence[Part]) -> None:
        """Paint all parts, each only in the box it can reach."""
        for part in parts:
            box = self._box(part)
            if box is not None:
                self._paint(part, box)

    def _paint(self, part: Part, box: tuple[slice, slice, slice]) -> None:
        points = (self._patient if part.fixed else self._anatomy).part(box)
        distance = part.shape.distance_mm(points)
        share = np.clip(np.float32(0.5) - distance * self._ramp, 0, 1)
        value = part.value(points) if callable(part.value) else np.float32(part.value)
        image = self._image[box]
        image += share * (value - image)
        if part.label is not None:
            self._mask[box][distance < 0] = part.label

    def _box(self, part: Part) -> tuple[slice, slice, slice] | None:
        """Return the voxels that the part can reach, or None."""
        margin = np.full(3, 1 / float(self._ramp))
        low, high = np.array(part.shape.low), np.array(part.shape.high)
        if not part.fixed:
            margin = margin + self._placement.reach_mm()
        corners = np.array(list(itertools.product(*zip(low - margin, high + margin, strict=True))))
        index = self._geometry.to_index(corners if part.fixed else self._placement.to_patient(corners))
        first = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
        last = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, self._geometry.shape)
        if (last <= first).any():
            return None
        z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return z, y, x


def _coordinates(geometry: Geometry) -> list[Field]:
    """Return LPS x, y, z of all voxel centres, each (Z, Y, X) float32."""
    nz, ny, nx = geometry.shape
    k, j, i = np.ogrid[:nz, :ny, :nx]
    a = geometry.affine
    return [(a[axis, 0] * k + a[axis, 1] * j + a[axis, 2] * i + a[axis, 3]).astype(np.float32) for axis in range(3)]
