"""Images between voxels: linear and cubic B-spline interpolation, as float32.

Both ways compute what ``scipy.ndimage`` computes with ``mode="nearest"``; the first does it one axis at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.resample.lattice import Lattice, Step

_NEGLIGIBLE_WEIGHT = 1e-7  # of a cubic B-spline's endless tail: 0.0004 HU of a 4000 HU range
_ROWS = 32  # target voxels per matrix product: few zeros in the band, few calls
_FACE_TOLERANCE = 1e-3  # voxels: on the outer face is inside


def interpolated_along_axes(
    array_zyx: NDArray[Any], steps: Sequence[Step], *, order: int, fill: float | None
) -> NDArray[np.float32]:
    """Return the image at the steps' positions; axis after axis, the one that shrinks most first.

    Interpolation with a tensor-product kernel is one small matrix per axis; each is banded, so it is applied in blocks
    of rows against the columns they need.
    """
    source = array_zyx.transpose([step.source_axis for step in steps]).astype(np.float32, order="C")
    by_growth = sorted(range(3), key=lambda axis: steps[axis].count / source.shape[axis])
    inside = [_is_inside(step, n) for step, n in zip(steps, source.shape, strict=True)]
    for axis in by_growth:
        source = _along(source, axis, _operator(steps[axis].positions, source.shape[axis], order))
    if fill is not None:
        for axis, kept in enumerate(inside):
            source[(slice(None),) * axis + (~kept,)] = fill
    return source


def interpolated_obliquely(
    array_zyx: NDArray[Any], lattice: Lattice, *, order: int, fill: float | None
) -> NDArray[np.float32]:
    """Return the image at the lattice's positions, whatever their directions."""
    out = np.empty(lattice.shape, dtype=np.float32)
    ndimage.affine_transform(
        array_zyx.astype(np.float32), lattice.matrix, lattice.offset, output=out, order=order, mode="nearest"
    )
    if fill is None:
        return out
    for z in range(lattice.shape[0]):
        positions = lattice.slab_positions(z, z + 1)
        out[z : z + 1][~inside_faces(positions, array_zyx.shape)] = fill
    return out


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
