"""Solids of the phantoms: how far a point lies from a surface, in mm, negative inside.

Every solid is a `Shape`: a function of points and the box it stays in. Distances are close to true near the surface,
which is all that partial volume needs; further away only their sign and order matter. Solids are combined by minimum
and maximum (Ricci, A constructive geometry for computer graphics, The Computer Journal 16(2), 1973).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Field = NDArray[np.floating[Any]]
    Vector = Sequence[float] | NDArray[np.float64]
    Path = Sequence[Vector] | NDArray[np.float64]

Distance = Callable[["Points"], "Field"]
_TINY = 1e-6
UNBOUNDED: tuple[tuple[float, float, float], tuple[float, float, float]] = ((-1e4, -1e4, -1e4), (1e4, 1e4, 1e4))


class Points:
    """Coordinates x, y, z in mm of a block of voxels, each (Z, Y, X) float32, and fields kept for the whole block."""

    __slots__ = ("_box", "_kept", "_whole", "x", "y", "z")

    def __init__(self, x: Field, y: Field, z: Field) -> None:
        self.x, self.y, self.z = x, y, z
        self._whole: Points | None = None
        self._box: tuple[slice, slice, slice] | None = None
        self._kept: dict[Distance, Field] = {}

    def part(self, box: tuple[slice, slice, slice]) -> Points:
        """Return the points of a smaller block, which shares the kept fields."""
        points = Points(self.x[box], self.y[box], self.z[box])
        points._whole, points._box = self, box
        return points

    def kept(self, field: Distance) -> Field:
        """Return `field` at these points, worked out once for the whole block however often it is asked for."""
        if self._whole is not None and self._box is not None:
            return self._whole.kept(field)[self._box]
        if field not in self._kept:
            self._kept[field] = field(self)
        return self._kept[field]


@dataclass(frozen=True, slots=True)
class Shape:
    """A solid: its `distance_mm` from points, and the corners of a box that holds it."""

    distance_mm: Distance
    low: tuple[float, float, float] = UNBOUNDED[0]
    high: tuple[float, float, float] = UNBOUNDED[1]


def ball(centre: Vector, radii: Vector, *, degrees: Vector = (0.0, 0.0, 0.0)) -> Shape:
    """Return an ellipsoid about `centre`, its axes turned by `degrees` about x, then y, then z."""
    c, r = np.asarray(centre, np.float64), np.asarray(radii, np.float64)
    turn = rotation(degrees)
    reach = np.sqrt((turn**2) @ r**2)
    rows = (turn / r).T.astype(np.float32)  # into the ellipsoid's own unit axes
    own = r.astype(np.float32)

    def distance(p: Points) -> Field:
        dx, dy, dz = p.x - np.float32(c[0]), p.y - np.float32(c[1]), p.z - np.float32(c[2])
        unit, slope = np.full_like(dx, _TINY), np.full_like(dx, _TINY)
        for row, radius in zip(rows, own, strict=True):
            t = dx * row[0]
            t += dy * row[1]
            t += dz * row[2]
            t *= t
            unit += t
            t /= radius * radius
            slope += t
        np.sqrt(unit, out=unit)
        np.sqrt(slope, out=slope)
        unit *= (unit - np.float32(1.0)) / slope
        return unit

    return Shape(distance, _triple(c - reach), _triple(c + reach))


def tube(points: Path, radii: Vector) -> Shape:
    """Return a tube along the polyline `points`, its radius going from one of `radii` to the next."""
    p, r = np.asarray(points, np.float64), np.asarray(radii, np.float64)
    pieces = [_cone(p[i], p[i + 1], r[i], r[i + 1]) for i in range(len(p) - 1)]

    def distance(points: Points) -> Field:
        return reduce(np.minimum, (piece(points) for piece in pieces))

    widest = r[:, None]
    return Shape(distance, _triple((p - widest).min(axis=0)), _triple((p + widest).max(axis=0)))


def curve(points: Path, count: int) -> NDArray[np.float64]:
    """Return `count` points along a smooth curve through `points` (Catmull-Rom, ends repeated)."""
    p = np.asarray(points, np.float64)
    padded = np.concatenate([p[:1], p, p[-1:]])
    at = np.linspace(0.0, len(p) - 1.0, count)
    i = np.minimum(at.astype(int), len(p) - 2)
    t = (at - i)[:, None]
    a, b, c, d = padded[i], padded[i + 1], padded[i + 2], padded[i + 3]
    smooth: NDArray[np.float64] = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3
    )
    return smooth


def joined(*shapes: Shape, blend_mm: float = 0.0) -> Shape:
    """Return the union, its seams filleted over about `blend_mm`."""

    def distance(p: Points) -> Field:
        return reduce(lambda a, b: soft_minimum(a, b, blend_mm), (s.distance_mm(p) for s in shapes))

    low = np.min([s.low for s in shapes], axis=0) - blend_mm
    high = np.max([s.high for s in shapes], axis=0) + blend_mm
    return Shape(distance, _triple(low), _triple(high))


def common(*shapes: Shape) -> Shape:
    """Return the intersection."""

    def distance(p: Points) -> Field:
        return reduce(np.maximum, (s.distance_mm(p) for s in shapes))

    low, high = np.max([s.low for s in shapes], axis=0), np.min([s.high for s in shapes], axis=0)
    return Shape(distance, _triple(low), _triple(high))


def without(shape: Shape, *others: Shape) -> Shape:
    """Return `shape` less the `others`."""

    def distance(p: Points) -> Field:
        return reduce(np.maximum, (-o.distance_mm(p) for o in others), shape.distance_mm(p))

    return Shape(distance, shape.low, shape.high)


def grown(shape: Shape, mm: float) -> Shape:
    """Return the solid with its surface moved outwards by `mm` (inwards where negative)."""
    low, high = np.subtract(shape.low, max(mm, 0.0)), np.add(shape.high, max(mm, 0.0))
    return Shape(lambda p: shape.distance_mm(p) - np.float32(mm), _triple(low), _triple(high))


def wavy(shape: Shape, mm: float, wavelength_mm: float, rng: np.random.Generator) -> Shape:
    """Return the solid with a smooth random relief of about `mm` on its surface."""
    wave = rng.normal(size=(3, 3))
    wave *= (2 * np.pi / wavelength_mm) / np.linalg.norm(wave, axis=1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, 3)
    rows = np.column_stack([wave, phase]).astype(np.float32)
    height = np.float32(mm * np.sqrt(2 / len(rows)))

    def distance(p: Points) -> Field:
        relief = np.zeros_like(p.x)
        for a, b, c, d in rows:
            relief += np.sin(p.x * a + p.y * b + p.z * c + d)
        moved: Field = shape.distance_mm(p) + height * relief
        return moved

    margin = float(height) * len(rows)
    return Shape(distance, _triple(np.subtract(shape.low, margin)), _triple(np.add(shape.high, margin)))


def soft_minimum(a: Field, b: Field, blend_mm: float) -> Field:
    """Return the smaller of both, rounded off over `blend_mm` where they are close."""
    if blend_mm <= 0:
        return np.minimum(a, b)
    near = np.maximum(np.float32(blend_mm) - np.abs(a - b), 0)
    return np.minimum(a, b) - near * near * np.float32(0.25 / blend_mm)


def rotation(degrees: Vector) -> NDArray[np.float64]:
    """Return the matrix that turns by `degrees` about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(np.asarray(degrees, np.float64))):
        i, j = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = (-np.sin(angle), np.sin(angle)) if axis != 1 else (np.sin(angle), -np.sin(angle))
        matrix = step @ matrix
    return matrix


def _cone(start: NDArray[np.float64], end: NDArray[np.float64], r0: float, r1: float) -> Distance:
    axis = end - start
    length2 = np.float32(max(float(axis @ axis), _TINY))
    ax, ay, az = axis.astype(np.float32)
    sx, sy, sz = start.astype(np.float32)

    def distance(p: Points) -> Field:
        dx, dy, dz = p.x - sx, p.y - sy, p.z - sz
        along = np.clip((dx * ax + dy * ay + dz * az) / length2, 0, 1)
        dx -= along * ax
        dy -= along * ay
        dz -= along * az
        along *= np.float32(r1 - r0)
        along += np.float32(r0)
        gap: Field = np.sqrt(dx * dx + dy * dy + dz * dz) - along
        return gap

    return distance


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
