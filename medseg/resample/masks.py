"""Masks between voxels: the label with the largest linearly interpolated weight.

A target voxel lies in a cell of eight source voxels, and the interpolated indicators of all labels are sums of the same
eight weights. Where the eight labels are one, that is the answer; only the other cells, those on boundaries, are
weighed. The result is the same as interpolating every label's indicator and taking the largest; the cost does not grow
with the number of labels.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.resample.images import inside_faces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.resample.lattice import Lattice

_SLAB_VOXELS = 2_000_000
_TIE = 1e-9  # weights closer than this are equal
_CORNERS = tuple(itertools.product((0, 1), repeat=3))


def interpolated_labels(mask_zyx: NDArray[Any], lattice: Lattice) -> NDArray[Any]:
    """Return the mask at the lattice's positions; outside the source is background.

    Parameters
    ----------
    mask_zyx : (Z, Y, X) unsigned integer
        The source.
    lattice : Lattice
        Where to sample it.

    Returns
    -------
    array
        (Z, Y, X) of the lattice, in the mask's type.
    """
    mask = np.ascontiguousarray(mask_zyx)
    is_uniform = _uniform_cells(mask)
    out = np.empty(lattice.shape, dtype=mask.dtype)
    depth = max(1, _SLAB_VOXELS // (lattice.shape[1] * lattice.shape[2]))
    for start in range(0, lattice.shape[0], depth):
        stop = min(start + depth, lattice.shape[0])
        positions = lattice.slab_positions(start, stop)
        out[start:stop] = _slab(mask, is_uniform, positions, shape=out[start:stop].shape)
    return out


def _uniform_cells(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for every voxel whether it and its seven neighbours towards higher index have one label."""
    low, high = mask, mask
    for axis, count in enumerate(mask.shape):
        neighbour = np.minimum(np.arange(count) + 1, count - 1)  # the last voxel is its own
        low = np.minimum(low, low.take(neighbour, axis=axis))
        high = np.maximum(high, high.take(neighbour, axis=axis))
    return np.asarray(low == high)


def _slab(
    mask: NDArray[Any],
    is_uniform: NDArray[np.bool_],
    positions: Sequence[NDArray[np.float64]],
    *,
    shape: tuple[int, ...],
) -> NDArray[Any]:
    clipped = [np.clip(p, 0, n - 1) for p, n in zip(positions, mask.shape, strict=True)]
    lower = [np.floor(p).astype(np.intp) for p in clipped]
    labels: NDArray[Any] = np.array(np.broadcast_to(mask[lower[0], lower[1], lower[2]], shape))
    mixed = np.nonzero(np.broadcast_to(~is_uniform[lower[0], lower[1], lower[2]], shape))
    if mixed[0].size:
        first = [np.broadcast_to(i, shape)[mixed] for i in lower]
        fraction = [np.broadcast_to(p, shape)[mixed] - i for p, i in zip(clipped, first, strict=True)]
        labels[mixed] = _heaviest(mask, first, fraction)
    labels[~np.broadcast_to(inside_faces(positions, mask.shape), shape)] = 0
    return labels


def _heaviest(
    mask: NDArray[Any], first: Sequence[NDArray[np.intp]], fraction: Sequence[NDArray[np.float64]]
) -> NDArray[Any]:
    """Return the label with the largest summed weight of each cell; ties go to the lower id."""
    labels, weights = [], []
    for corner in _CORNERS:
        index = [np.minimum(i + c, n - 1) for i, c, n in zip(first, corner, mask.shape, strict=True)]
        labels.append(mask[index[0], index[1], index[2]])
        z, y, x = (f if c else 1.0 - f for f, c in zip(fraction, corner, strict=True))
        weights.append(z * y * x)
    label, weight = np.stack(labels), np.stack(weights)
    total = np.stack([(weight * (label == one)).sum(axis=0) for one in label])
    in_front = total >= total.max(axis=0) - _TIE
    nothing = np.iinfo(mask.dtype).max
    winner: NDArray[Any] = np.where(in_front, label, nothing).min(axis=0)
    return winner
