"""How the voxels of one grid lie among the voxels of another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Box, Geometry

TOLERANCE_VOXELS = 1e-3
"""Positions closer than this, in source voxels, are the same position."""


@dataclass(frozen=True, slots=True)
class Step:
    """One axis of the target: its `count` voxels lie at ``offset + stride * i`` along `source_axis`."""

    source_axis: int
    offset: float
    stride: float
    count: int

    @property
    def positions(self) -> NDArray[np.float64]:
        """Return the fractional source index of every voxel."""
        return self.offset + self.stride * np.arange(self.count, dtype=np.float64)

    def part(self, start: int, stop: int) -> Step:
        """Return the voxels `start` to `stop` of it."""
        return Step(self.source_axis, self.offset + self.stride * start, self.stride, stop - start)


@dataclass(frozen=True, eq=False, slots=True)
class Lattice:
    """The affine map from target index (z, y, x) to source index: ``matrix @ index + offset``."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    shape: tuple[int, int, int]

    @classmethod
    def between(cls, source: Geometry, target: Geometry) -> Self:
        """Return the map that leads from `target` into `source`."""
        combined = np.linalg.solve(source.affine, target.affine).astype(np.float64)
        matrix = combined[:3, :3].copy()
        matrix[:, [n == 1 for n in target.shape]] = 0.0  # an axis of one voxel has no direction
        return cls(matrix, combined[:3, 3], target.shape)

    def steps(self) -> tuple[Step, Step, Step] | None:
        """Return one step per target axis where each runs along an axis of the source, else None."""
        axes = self._axes()
        if axes is None:
            return None
        kept = np.zeros((3, 3))
        for target_axis, source_axis in enumerate(axes):
            kept[source_axis, target_axis] = self.matrix[source_axis, target_axis]
        if self._distance(kept, self.offset) > TOLERANCE_VOXELS:
            return None
        z, y, x = (
            Step(axis, float(self.offset[axis]), float(kept[axis, i]), self.shape[i]) for i, axis in enumerate(axes)
        )
        return z, y, x

    def whole_steps(self) -> tuple[Step, Step, Step] | None:
        """Return `steps` in whole numbers where all target voxels coincide with source positions, else None."""
        steps = self.steps()
        if steps is None or self._distance(np.rint(self.matrix), np.rint(self.offset)) > TOLERANCE_VOXELS:
            return None
        z, y, x = (Step(s.source_axis, round(s.offset), round(s.stride), s.count) for s in steps)
        return z, y, x

    def straightened(self) -> Self:
        """Return the map with nothing but its `steps` where it has such; rounding leaves traces beside them."""
        steps = self.steps()
        if steps is None:
            return self
        matrix = np.zeros((3, 3))
        for target_axis, step in enumerate(steps):
            matrix[step.source_axis, target_axis] = step.stride
        return type(self)(matrix, self.offset, self.shape)

    def cropped(self, box: Box) -> Self:
        """Return the map of a part of the target."""
        return type(self)(self.matrix, self.offset + self.matrix @ np.array(box.start, dtype=np.float64), box.shape)

    def extent(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and the highest source index along z, y and x of all target voxels."""
        far = self.matrix * (np.array(self.shape) - 1)
        return self.offset + np.minimum(far, 0).sum(axis=1), self.offset + np.maximum(far, 0).sum(axis=1)

    def slab_positions(self, start: int, stop: int) -> tuple[NDArray[np.float64], ...]:
        """Return the source index along z, y and x of target slices `start` to `stop`; the three broadcast together."""
        slab = np.arange(start, stop), np.arange(self.shape[1]), np.arange(self.shape[2])
        grids = np.meshgrid(*slab, indexing="ij", sparse=True)
        positions = []
        for row, offset in zip(self.matrix, self.offset, strict=True):
            total = np.full((1, 1, 1), offset)
            for factor, grid in zip(row, grids, strict=True):
                if factor != 0.0:
                    total = total + factor * grid
            positions.append(total)
        return tuple(positions)

    def _axes(self) -> tuple[int, ...] | None:
        """Return for each target axis the source axis it mostly runs along; None where two share one."""
        wide = [i for i, n in enumerate(self.shape) if n > 1]
        axes = {i: int(np.abs(self.matrix[:, i]).argmax()) for i in wide}
        if len(set(axes.values())) < len(wide):
            return None
        free = iter(sorted({0, 1, 2} - set(axes.values())))
        return tuple(axes[i] if i in axes else next(free) for i in range(3))

    def _distance(self, matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> float:
        """Return how far another map ever is from this one on the target, in source voxels."""
        corners = np.array(list(itertools.product(*((0, n - 1) for n in self.shape))), dtype=np.float64)
        return float(np.abs(corners @ (matrix - self.matrix).T + (offset - self.offset)).max())
