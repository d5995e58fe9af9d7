"""Images between voxels: linear and cubic B-spline interpolation, as float32.

Both ways compute what ``scipy.ndimage`` computes with ``mode="nearest"``; the first does it one axis at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from medseg.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.resample.lattice import Lattice, Step

_NEGLIGIBLE_WEIGHT = 1e-7  # of a cubic B-spline's endless tail: 0.0004 HU of a 4000 HU range
_ROWS = 32  # target voxels per matrix product: few zeros in the band, few calls
_SPLINE_REACH = 16  # voxels after which what a cubic B-spline's prefilter carries along has sunk below 1e-9
_BLOCK_VOXELS = 8_000_000  # of the source, looked at together; scipy takes 8 bytes for each
_SMALLEST_BLOCK = 32  # target voxels a side that are not halved any more
_FACE_TOLERANCE = 1e-3  # voxels: on the outer face is inside


class AlongAxes:
    """Interpolation onto a grid whose axes run along those of the source: one small matrix per axis.

    A tensor-product kernel allows it. Each matrix is banded, so it is applied in blocks of rows against the columns
    they need, and slices of the target need only some slices of the source. Weights below 1e-7 of a cubic B-spline's
    endless tail are left out: 0.0004 HU of a range of 4000.
    """

    def __init__(self, steps: Sequence[Step], shape_zyx: Sequence[int], *, order: int, fill: float | None) -> None:
        self._axes = [step.source_axis for step in steps]
        source = [shape_zyx[axis] for axis in self._axes]
        self._operators = [_operator(step.positions, n, order) for step, n in zip(steps, source, strict=True)]
        self._outside = [~_is_inside(step, n) for step, n in zip(steps, source, strict=True)]
        self._by_growth = sorted(range(3), key=lambda axis: steps[axis].count / source[axis])
        self._fill = fill

    def slices(self, array_zyx: NDArray[Any], start: int, stop: int) -> NDArray[np.float32]:
        """Return target slices; axis after axis, the one that shrinks most first."""
        along_z = self._operators[0][start:stop]
        used = np.flatnonzero(along_z.any(axis=0))
        first, last = int(used[0]), int(used[-1]) + 1
        image = array_zyx.transpose(self._axes)[first:last].astype(np.float32, order="C")
        operators = [along_z[:, first:last], *self._operators[1:]]
        for axis in self._by_growth:
            image = _along(image, axis, operators[axis])
        if self._fill is not None:
            for axis, outside in enumerate([self._outside[0][start:stop], *self._outside[1:]]):
                image[(slice(None),) * axis + (outside,)] = self._fill
        return image


class Obliquely:
    """Interpolation onto a grid of any directions, by ``scipy.ndimage``, which sees the source around a block only."""

    def __init__(self, lattice: Lattice, *, order: int, fill: float | None) -> None:
        self._lattice, self._order, self._fill = lattice, order, fill

    def slices(self, array_zyx: NDArray[Any], start: int, stop: int) -> NDArray[np.float32]:
        """Return target slices."""
        _, y, x = self._lattice.shape
        out = np.empty((stop - start, y, x), dtype=np.float32)
        self._into(out, array_zyx, Box((start, 0, 0), (stop, y, x)))
        if self._fill is not None:
            for z, plane in enumerate(out, start=start):
                positions = self._lattice.slab_positions(z, z + 1)
                plane[~inside_faces(positions, array_zyx.shape)[0]] = self._fill
        return out

    def _into(self, out: NDArray[np.float32], array_zyx: NDArray[Any], box: Box) -> None:
        """Fill one block of the target; in halves where it looks at too much of the source."""
        part = self._lattice.cropped(box)
        low, high = part.extent()
        margin = _SPLINE_REACH if self._order > 1 else 1
        spans = [
            (int(np.clip(np.floor(a) - margin, 0, n - 1)), int(np.clip(np.ceil(b) + margin, 0, n - 1)) + 1)
            for a, b, n in zip(low, high, array_zyx.shape, strict=True)
        ]
        if math.prod(b - a for a, b in spans) > _BLOCK_VOXELS and max(box.shape) > _SMALLEST_BLOCK:
            for half in _halves(box):
                inner = tuple(slice(a - o, b - o) for a, b, o in zip(half.start, half.stop, box.start, strict=True))
                self._into(out[inner], array_zyx, half)
            return
        source = array_zyx[tuple(slice(*span) for span in spans)].astype(np.float32)
        offset = part.offset - [a for a, _ in spans]
        out[...] = ndimage.affine_transform(
            source, part.matrix, offset, output_shape=part.shape, output=np.float32, order=self._order, mode="nearest"
        )


def _halves(box: Box) -> tuple[Box, Box]:
    """Return the two halves of a box along its longest axis."""
    axis = int(np.argmax(box.shape))
    middle = (box.start[axis] + box.stop[axis]) // 2
    stop, start = list(box.stop), list(box.start)
    stop[axis] = start[axis] = middle
    return Box(box.start, (stop[0], stop[1], stop[2])), Box((start[0], start[1], start[2]), box.stop)


def interpolated_between_faces(
    array_zyx: NDArray[Any], shape: Sequence[int], *, order: int, apart: int | None, across: int
) -> NDArray[np.float32]:
    """Return an image with other voxels between the same outer faces, within the values it had.

    What ``skimage.transform.resize(mode="edge")`` computes, which keeps a cubic spline within the range of what it was
    given; nnU-Net resamples by it (Isensee 2021).

    Parameters
    ----------
    array_zyx : (Z, Y, X)
        The image.
    shape : (Z, Y, X)
        Voxels of the result.
    order : 1 or 3
        Linear or cubic.
    apart : int or None
        The axis across which slices are taken by the order `across`, after each was interpolated and kept within its
        own values.
    across : 0, 1 or 3
        0 is the nearest slice.
    """
    source = array_zyx.astype(np.float32)
    if tuple(shape) == source.shape:
        return source
    in_plane = [axis for axis in range(3) if axis != apart]
    low, high = (end(source, axis=tuple(in_plane), keepdims=True) for end in (np.min, np.max))
    for axis in sorted(in_plane, key=lambda axis: shape[axis] / source.shape[axis]):
        source = _between_faces(source, axis, shape[axis], order)
    np.clip(source, low, high, out=source)
    return source if apart is None else _between_faces(source, apart, shape[apart], across)


def positions_between_faces(n_source: int, count: int) -> NDArray[np.float64]:
    """Return the fractional source index of `count` voxels that share the outer faces of `n_source`."""
    positions: NDArray[np.float64] = n_source / count * (np.arange(count, dtype=np.float64) + 0.5) - 0.5
    return positions


def nearest(positions: NDArray[np.float64], n_source: int) -> NDArray[np.intp]:
    """Return the voxel nearest to each position, the later of two, as ``scipy.ndimage`` has it for order 0."""
    return np.clip(np.floor(positions + 0.5), 0, n_source - 1).astype(np.intp)


def _between_faces(array: NDArray[np.float32], axis: int, count: int, order: int) -> NDArray[np.float32]:
    n_source = array.shape[axis]
    if count == n_source:
        return array
    positions = positions_between_faces(n_source, count)
    if order == 0:
        return array.take(nearest(positions, n_source), axis=axis)
    return _along(array, axis, _operator(positions, n_source, order))


def inside_faces(positions: Sequence[NDArray[np.float64]], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Tell which positions, one array per source axis, lie within the outer faces of the source's voxels."""
    inside = [
        (p >= -0.5 - _FACE_TOLERANCE) & (p <= n - 0.5 + _FACE_TOLERANCE) for p, n in zip(positions, shape, strict=True)
    ]
    return np.asarray(np.broadcast_arrays(inside[0] & inside[1] & inside[2])[0])


def _is_inside(step: Step, n_source: int) -> NDArray[np.bool_]:
    return (step.positions >= -0.5 - _FACE_TOLERANCE) & (step.positions <= n_source - 0.5 + _FACE_TOLERANCE)


def _operator(positions: NDArray[np.float64], n_source: int, order: int) -> NDArray[np.float32]:
    """Return the matrix (target voxels, source voxels) that interpolates along one axis."""
    units = np.eye(n_source)
    columns = [ndimage.map_coordinates(unit, [positions], order=order, mode="nearest") for unit in units]
    matrix = np.stack(columns, axis=1).astype(np.float32)
    matrix[np.abs(matrix) < _NEGLIGIBLE_WEIGHT] = 0.0
    return matrix


def _along(array: NDArray[np.float32], axis: int, operator: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply a banded matrix along one axis."""
    shape = list(array.shape)
    shape[axis] = len(operator)
    out = np.empty(shape, dtype=np.float32)
    for start in range(0, len(operator), _ROWS):
        rows = operator[start : start + _ROWS]
        used = np.flatnonzero(rows.any(axis=0))
        first, last = int(used[0]), int(used[-1]) + 1
        band = rows[:, first:last]
        block = slice(start, start + len(rows))
        if axis == 0:
            flat = array[first:last].reshape(last - first, -1)
            out[block] = (band @ flat).reshape(len(rows), *shape[1:])
        elif axis == 1:
            np.matmul(band, array[:, first:last], out=out[:, block])
        else:
            flat = array.reshape(-1, array.shape[2])[:, first:last]
            out[:, :, block] = (flat @ band.T).reshape(shape[0], shape[1], len(rows))
    return out
