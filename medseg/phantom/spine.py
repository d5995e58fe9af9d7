"""The vertebral column of the torso: bodies, discs, arches and canal, repeated along the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.phantom.scene import Part
from medseg.phantom.shapes import Distance, Points, Shape, grown

if TYPE_CHECKING:
    from medseg.phantom.frame import Build
    from medseg.phantom.shapes import Field

_VERTEBRA_MM = 30.5
_DISC_HALF_MM = 3.2


@dataclass(frozen=True, slots=True)
class Spine:
    """The column of one patient; it follows the curve of the `build`."""

    build: Build

    def parts(self, label: int) -> list[Part]:
        """Return the layers of the spine, all of it `label`: the canal belongs to it."""
        marrow = self.build.marrow_hu
        cortex = 330 + 0.9 * marrow
        return [
            Part(self.column, 88.0, label),
            Part(self.arches, cortex, label),
            Part(grown(self.arches, -2.2), marrow + 60),
            Part(self.bodies, cortex),
            Part(grown(self.bodies, -1.8), marrow),
            Part(self.canal, 32.0, label),
        ]

    @property
    def column(self) -> Shape:
        """Bodies and discs as one rod."""
        return _upright(self._rod_mm, 30)

    @property
    def bodies(self) -> Shape:
        """Vertebral bodies without the discs."""
        return _upright(self._body_mm, 30)

    @property
    def arches(self) -> Shape:
        """Pedicles, laminae and processes."""
        return _upright(lambda p: np.maximum(self._arch_mm(p), self.build.body.distance_mm(p) + 8), 48)

    @property
    def canal(self) -> Shape:
        """The canal with the cord."""
        return _upright(self._canal_mm, 20)

    def _rod_mm(self, p: Points) -> Field:
        size = 1 - 0.10 * np.tanh((p.z - 20) / 80)
        y = p.y - p.kept(self.build.spine_y)
        rod: Field = (np.hypot(p.x / (22.5 * size), y / (17 * size)) - 1) * (17 * size)
        return rod

    def _body_mm(self, p: Points) -> Field:
        half = 0.5 * _height_mm(p) - _DISC_HALF_MM
        level = self._level_mm(p)
        waist = 2.2 * np.clip(1 - np.square(level / half), 0, 1)
        body: Field = np.maximum(self._rod_mm(p) + waist, np.abs(level) - half)
        return body

    def _canal_mm(self, p: Points) -> Field:
        y = p.y - p.kept(self.build.spine_y) - 24
        canal: Field = (np.hypot(p.x / 10.5, y / 8.5) - 1) * 8.5
        return canal

    def _arch_mm(self, p: Points) -> Field:
        side, y, level = np.abs(p.x), p.y - p.kept(self.build.spine_y), self._level_mm(p)
        ring = np.maximum((np.hypot(p.x / 17.5, (y - 24) / 15) - 1) * 15, np.abs(level - 2) - 11)
        down = level + (y - 38) * 0.35
        spinous = np.maximum(np.maximum(side - 3.4, np.abs(y - 47) - 12), np.abs(down + 3) - 9)
        transverse = np.hypot(np.maximum(side - 36, 0), np.hypot(y - 26 - 0.12 * side, (level - 3) * 0.75)) - 5.2
        facet = np.hypot(np.hypot(side - 17, y - 33), np.maximum(np.abs(level) - 13, 0)) - 6.5
        arch: Field = np.minimum(np.minimum(ring, spinous), np.minimum(transverse, facet))
        return arch

    def _level_mm(self, p: Points) -> Field:
        """Return the height above the middle of the vertebra at this level; vertebrae grow towards the loins."""
        phase = (p.z + np.float32(0.0005) * p.z * p.z) / _VERTEBRA_MM + self.build.vertebra_phase
        level: Field = (phase - np.floor(phase) - 0.5) * _height_mm(p)
        return level


def _height_mm(p: Points) -> Field:
    height: Field = _VERTEBRA_MM / (1 + np.float32(0.001) * p.z)
    return height


def _upright(distance: Distance, half_width_mm: float) -> Shape:
    return Shape(distance, (-half_width_mm, 0.0, -1e4), (half_width_mm, 150.0, 1e4))
