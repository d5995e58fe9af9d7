"""Label maps between voxels: a cell of eight voxels with one label has that label; only the others need arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.resample.images import inside_faces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from medseg.resample.lattice import Lattice

_SLAB_VOXELS = 2_000_000


def labels_between(
    labels_zyx: NDArray[Any], lattice: Lattice, decide: Callable[[Sequence[NDArray[np.float64]]], NDArray[Any]]
) -> NDArray[Any]:
    """Return the label at each of the lattice's positions; outside the source it is 0.

    Parameters
    ----------
    labels_zyx : (Z, Y, X) unsigned integer
        The label of every voxel.
    lattice : Lattice
        Where to sample.
    decide : callable
        Given the index along z, y and x (three arrays (M,)) of positions in cells whose labels differ, returns their
        labels (M,).

    Returns
    -------
    array
        (Z, Y, X) of the lattice, in the type of the labels.
    """
    is_mixed = _mixed_cells(labels_zyx)
    out = np.empty(lattice.shape, dtype=labels_zyx.dtype)
    depth = max(1, _SLAB_VOXELS // (lattice.shape[1] * lattice.shape[2]))
    for start in range(0, lattice.shape[0], depth):
        slab = out[start : start + depth]
        positions = lattice.slab_positions(start, start + len(slab))
        clipped = [np.clip(p, 0, n - 1) for p, n in zip(positions, labels_zyx.shape, strict=True)]
        z, y, x = (np.floor(p).astype(np.intp) for p in clipped)
        slab[...] = labels_zyx[z, y, x]
        mixed = np.nonzero(np.broadcast_to(is_mixed[z, y, x], slab.shape))
        if mixed[0].size:
            slab[mixed] = decide([np.broadcast_to(p, slab.shape)[mixed] for p in clipped])
        slab[~np.broadcast_to(inside_faces(positions, labels_zyx.shape), slab.shape)] = 0
    return out


def _mixed_cells(labels_zyx: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for every voxel whether labels differ among it and its seven neighbours towards higher index."""
    low, high = labels_zyx, labels_zyx
    for axis, count in enumerate(labels_zyx.shape):
        neighbour = np.minimum(np.arange(count) + 1, count - 1)  # the last voxel is its own
        low = np.minimum(low, low.take(neighbour, axis=axis))
        high = np.maximum(high, high.take(neighbour, axis=axis))
    return np.asarray(low != high)
