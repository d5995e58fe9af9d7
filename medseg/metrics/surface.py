"""Distances between the surfaces of two masks, every piece of surface weighted by its area.

The definitions are those of Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and
neck anatomy for radiotherapy" (2018, arXiv 1809.04430), and of the authors' package ``surface-distance``. Surface
elements sit on the corners between voxels: each block of 2 x 2 x 2 voxels that holds both inside and outside is one
element, and its area is that of the marching-cubes surface through the block. What lies beyond the array is outside.

The area of each of the 256 blocks is derived here from six shapes. Where at most half the corners of a block are inside
(otherwise in and out change places), those that touch along an edge of the block form one piece of surface, and there
are six such pieces: a corner, an edge, three corners of a face, a face, a corner with its neighbours, a chain of edges.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage, spatial

from medseg.errors import GeometryError
from medseg.metrics.overlap import require_same_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Corner = tuple[int, ...]

_TOLERANCE_SLACK = 1e-6  # relative: affines in float32 turn a distance of 1 mm into 1.00000006 mm
_NEAR_STEPS = 10.0  # look for the other surface within so many voxels first: nearly always enough, and quick
_DENSE = 6  # one voxel of a distance transform costs about a sixth of one search in a tree


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances from the surface elements of each mask to the other mask's surface, with the elements' areas.

    Attributes
    ----------
    to_reference_mm, to_prediction_mm : (N,) and (M,) float64
        From each element of the prediction's surface to the reference's surface, and the other way; rising.
    prediction_areas, reference_areas : (N,) and (M,) float64
        Area of these elements in mm2; for 2-D masks, length of the contour in mm.

    Examples
    --------
    >>> cube, moved = np.zeros((8, 8, 8), dtype=bool), np.zeros((8, 8, 8), dtype=bool)
    >>> cube[2:5, 2:5, 2:5] = moved[3:6, 2:5, 2:5] = True
    >>> distances = surface_distances(moved, cube, (2.0, 1.0, 1.0))
    >>> distances.hausdorff_mm(), distances.hausdorff_mm(95.0)
    (2.0, 2.0)
    """

    to_reference_mm: NDArray[np.float64]
    prediction_areas: NDArray[np.float64]
    to_prediction_mm: NDArray[np.float64]
    reference_areas: NDArray[np.float64]

    def hausdorff_mm(self, percentile: float = 100.0) -> float:
        """Return the larger of the two directed percentiles of the distance; 95 gives HD95."""
        forth = _weighted_percentile(self.to_reference_mm, self.prediction_areas, percentile)
        return max(forth, _weighted_percentile(self.to_prediction_mm, self.reference_areas, percentile))

    def assd_mm(self) -> float:
        """Return the average symmetric surface distance: the mean over the area of both surfaces together."""
        weighted = self.to_reference_mm @ self.prediction_areas + self.to_prediction_mm @ self.reference_areas
        return float(weighted / (self.prediction_areas.sum() + self.reference_areas.sum()))

    def nsd(self, tolerance_mm: float) -> float:
        """Return the normalised surface Dice: the share of both surfaces within `tolerance_mm` of the other, 0 to 1."""
        limit = tolerance_mm * (1.0 + _TOLERANCE_SLACK)
        near = (
            self.prediction_areas[self.to_reference_mm <= limit].sum()
            + self.reference_areas[self.to_prediction_mm <= limit].sum()
        )
        return float(near / (self.prediction_areas.sum() + self.reference_areas.sum()))


def surface_distances(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> SurfaceDistances | None:
    """Measure the distances between the surfaces of two binary masks.

    Parameters
    ----------
    prediction, reference : (Z, Y, X) or (Y, X) bool
        Masks on one right-angled grid. A volume of one slice is measured in the plane, by its contours.
    spacing_mm : sequence of float
        Spacing along each axis of the masks.

    Returns
    -------
    SurfaceDistances or None
        ``None`` where either mask is empty: there is no surface to measure to.

    Raises
    ------
    GeometryError
        Where the shapes differ, or the spacing does not fit them.

    Examples
    --------
    >>> ball = np.linalg.norm(np.indices((15, 15, 15)) - 7, axis=0) <= 5
    >>> surface_distances(ball, ball, (1.0, 1.0, 1.0)).assd_mm()
    0.0
    >>> surface_distances(ball, np.zeros_like(ball), (1.0, 1.0, 1.0)) is None
    True
    """
    require_same_shape(prediction, reference)
    _require_spacing(prediction, spacing_mm)
    prediction, reference, steps = _in_plane(prediction, reference, np.asarray(spacing_mm, dtype=np.float64))
    boxes = [_bounding_box(mask) for mask in (prediction, reference)]
    if None in boxes:
        return None
    joint = tuple(
        slice(min(s.start for s in pair), max(s.stop for s in pair))
        for pair in zip(*(b for b in boxes if b), strict=True)
    )
    table = contour_lengths_mm(steps) if len(steps) == 2 else surface_areas_mm2(steps)
    predicted, predicted_areas = _elements(prediction[joint], table)
    true, true_areas = _elements(reference[joint], table)
    shape = tuple(s.stop - s.start + 1 for s in joint)
    forth = _distances_mm(predicted, true, shape, steps_mm=steps)
    back = _distances_mm(true, predicted, shape, steps_mm=steps)
    return SurfaceDistances(*_rising(forth, predicted_areas), *_rising(back, true_areas))


def surface_areas_mm2(spacing_mm: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area of the surface through each block of 2 x 2 x 2 voxels, by code.

    Parameters
    ----------
    spacing_mm : three floats
        Distance of voxel centres along (Z, Y, X).

    Returns
    -------
    (256,) float64
        Area in mm2. Bit ``7 - (4 z + 2 y + x)`` of the code says whether voxel (z, y, x) of the block is inside.

    Examples
    --------
    >>> table = surface_areas_mm2((3.0, 2.0, 1.0))
    >>> table[[0b11110000, 0b11001100, 0b11111111]].tolist()  # planes across z and y; no surface
    [2.0, 3.0, 0.0]
    """
    z, y, x = (float(s) for s in spacing_mm)
    across = np.array([y * x, z * x, z * y])  # a unit square across each axis, in mm2
    return np.array([sum(float(np.linalg.norm(v * across)) for v in vectors) for vectors in _area_vectors()])


def contour_lengths_mm(spacing_mm: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the length of the contour through each block of 2 x 2 pixels, by code.

    Parameters
    ----------
    spacing_mm : two floats
        Distance of pixel centres along (Y, X).

    Returns
    -------
    (16,) float64
        Length in mm. Bit ``3 - (2 y + x)`` of the code says whether pixel (y, x) of the block is inside.

    Examples
    --------
    >>> contour_lengths_mm((3.0, 4.0))[[0b0001, 0b0011, 0b0101, 0b0110]].tolist()
    [2.5, 4.0, 3.0, 5.0]
    """
    y, x = (float(s) for s in spacing_mm)
    cut_corner = 0.5 * float(np.hypot(y, x))
    table = np.full(16, cut_corner)  # one pixel in or out
    table[[0b0000, 0b1111]] = 0.0
    table[[0b0011, 0b1100]] = x
    table[[0b0101, 0b1010]] = y
    table[[0b0110, 0b1001]] = 2 * cut_corner
    return table


# -- the area table -------------------------------------------------------------------------------------------------
@cache
def _area_vectors() -> tuple[tuple[NDArray[np.float64], ...], ...]:
    """Return, for every code, the area vectors of its surface's flat parts for a cube of side 1."""
    cube = list(itertools.product((0, 1), repeat=3))
    table = []
    for code in range(256):
        inside = {corner for bit, corner in enumerate(cube) if code >> (7 - bit) & 1}
        fewer = inside if len(inside) <= 4 else set(cube) - inside  # in and out may change places: the surface stays
        table.append(tuple(vector for piece in _pieces(fewer) for vector in _piece_vectors(piece)))
    return tuple(table)


def _pieces(corners: set[Corner]) -> Iterator[list[Corner]]:
    """Split corners of a cube into groups that hang together along its edges."""
    left = set(corners)
    while left:
        piece = [left.pop()]
        for corner in piece:  # grows while it is walked
            near = _neighbours(corner, left)
            piece += near
            left -= set(near)
        yield piece


def _neighbours(corner: Corner, others: set[Corner] | list[Corner]) -> list[Corner]:
    return [o for o in others if sum(a != b for a, b in zip(corner, o, strict=True)) == 1]


def _piece_vectors(piece: list[Corner]) -> list[NDArray[np.float64]]:
    """Return the area vectors (across z, y, x) of the marching-cubes polygon around one piece, part by flat part.

    Signs do not matter for the area, so every piece is turned into the first octant.
    """
    varies = np.ptp(np.array(piece), axis=0).astype(np.float64)
    flat = 1.0 - varies  # 1 along the axes on which all corners agree
    everywhere = np.ones(3)
    if len(piece) == 1:  # a triangle cuts the corner off
        return [everywhere / 8]
    if len(piece) == 2:  # a slanted rectangle along the edge
        return [flat / 2]
    if len(piece) == 3:  # a trapezoid and a triangle
        return [everywhere * 3 / 8, flat / 2]
    if flat.any():  # a whole face
        return [flat]
    degrees = [len(_neighbours(corner, piece)) for corner in piece]
    if max(degrees) == 3:  # a corner and all its neighbours: a plane hexagon
        return [everywhere * 3 / 4]
    inner = np.array([corner for corner, degree in zip(piece, degrees, strict=True) if degree == 2])
    middle = np.ptp(inner, axis=0).astype(np.float64)  # a chain of three edges: the axis of the one in the middle
    ends = np.eye(3)[middle == 0]
    return [everywhere / 2, *((middle + end) / 4 for end in ends)]


# -- elements and distances -----------------------------------------------------------------------------------------
def _elements(mask: NDArray[np.bool_], table: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return where a mask's surface elements are, (N, D) in corners of voxels, and their areas, (N,)."""
    padded = np.pad(mask, 1).view(np.uint8)
    shape = tuple(n - 1 for n in padded.shape)
    codes = np.zeros(shape, dtype=np.uint8)
    last = len(table).bit_length() - 2
    for bit, offset in enumerate(itertools.product((0, 1), repeat=mask.ndim)):
        block = padded[tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))]
        codes |= block << np.uint8(last - bit)
    flat = codes.ravel()
    where = np.flatnonzero((flat != 0) & (flat != len(table) - 1))
    return np.stack(np.unravel_index(where, shape), axis=1), table[flat[where]]


def _distances_mm(
    points: NDArray[np.intp], targets: NDArray[np.intp], shape: tuple[int, ...], *, steps_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance from each point to the nearest target, all on one lattice of the given shape.

    Thin surfaces are searched with a tree as far as they are near each other; crowded lattices and far points take the
    distance transform of the lattice, whose cost does not depend on how far the surfaces are apart.
    """
    if _DENSE * (len(points) + len(targets)) > 2 * np.prod(shape):
        return _transform_mm(points, targets, shape, steps_mm=steps_mm)
    tree = spatial.KDTree(targets * steps_mm, compact_nodes=False, balanced_tree=False)
    _, nearest = tree.query(points * steps_mm, distance_upper_bound=_NEAR_STEPS * steps_mm.max())
    found = nearest < len(targets)
    distances = np.empty(len(points))
    # from whole steps, not from the tree's millimetres: 3 * 0.1 - 2 * 0.1 is not 0.1, and a tolerance may be 0.1
    distances[found] = _length_mm(points[found] - targets[nearest[found]], steps_mm)
    if not found.all():
        distances[~found] = _transform_mm(points[~found], targets, shape, steps_mm=steps_mm)
    return distances


def _transform_mm(
    points: NDArray[np.intp], targets: NDArray[np.intp], shape: tuple[int, ...], *, steps_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    free = np.ones(shape, dtype=bool)
    free[tuple(targets.T)] = False
    distances = ndimage.distance_transform_edt(free, sampling=steps_mm)
    found: NDArray[np.float64] = distances[tuple(points.T)]
    return found


def _length_mm(steps: NDArray[np.intp], steps_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(np.square(steps * steps_mm).sum(axis=1))
    return lengths


def _rising(
    distances: NDArray[np.float64], areas: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order: NDArray[np.intp] = np.lexsort((areas, distances))
    return distances[order], areas[order]


def _weighted_percentile(distances: NDArray[np.float64], areas: NDArray[np.float64], percentile: float) -> float:
    """Return the smallest distance below which lies `percentile` of the area; `distances` rise."""
    share = np.cumsum(areas) / np.sum(areas)
    first = int(np.searchsorted(share, percentile / 100.0))
    return float(distances[min(first, len(distances) - 1)])


def _in_plane(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], steps_mm: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Drop the axis of a volume of one slice, so that it is measured by its contours."""
    if prediction.ndim == 3 and 1 in prediction.shape:
        axis = prediction.shape.index(1)
        return prediction.squeeze(axis), reference.squeeze(axis), np.delete(steps_mm, axis)
    return prediction, reference, steps_mm


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(used):
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def _require_spacing(mask: NDArray[Any], spacing_mm: Sequence[float]) -> None:
    if mask.ndim not in (2, 3) or len(spacing_mm) != mask.ndim:
        raise GeometryError(
            f"a mask with {mask.ndim} axes came with {len(spacing_mm)} spacings", expected="2 or 3 of both"
        )
    if not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise GeometryError(f"{tuple(spacing_mm)} is no spacing", expected="positive lengths in mm")
