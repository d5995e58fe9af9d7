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

from medseg.resample.cells import labels_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.resample.cells import Places
    from medseg.resample.lattice import Lattice

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
    return labels_between(mask, lattice, lambda places: _heaviest(mask, places))


def _heaviest(mask: NDArray[Any], places: Places) -> NDArray[Any]:
    """Return the label with the largest summed weight at each place; ties go to the lower id."""
    positions = [places.at(p) for p in places.positions]
    first = [np.floor(p).astype(np.intp) for p in positions]
    fraction = [p - i for p, i in zip(positions, first, strict=True)]
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
