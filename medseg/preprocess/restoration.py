"""Back to the scan: from scores on the working grid to labels, or probabilities, at the scan's own voxels."""

from __future__ import annotations

import itertools
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from medseg.errors import ModelError
from medseg.resample.cells import Cells, LabelsBetween, Places
from medseg.resample.lattice import Lattice
from medseg.volume import Segmentation, id_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.geometry import Geometry
    from medseg.labels import LabelSet
    from medseg.volume import Volume

_GATHERED = 4_000_000  # scores taken from memory at once


class Slabs:
    """Slabs of scores as blocks of whole cells: each slab itself, and before it the cells on the border to the last."""

    def __init__(self, working: Geometry) -> None:
        self.depth = working.shape[0]
        self._next = 0
        self._carried: Tensor | None = None  # (1, Y, X, K): the slice below the next one

    def blocks(self, logits_kzyx: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the first slice and the scores (n, Y, X, K) of blocks."""
        rows = logits_kzyx.permute(1, 2, 3, 0).contiguous()
        first, self._next = self._next, self._next + len(rows)
        if self._carried is not None:
            yield first - 1, torch.cat([self._carried, rows[:1]])
        self._carried = None if self._next == self.depth else rows[-1:].clone()
        yield first, rows


class Restoration:
    """The mask on the scan's grid that scores on the working grid stand for, from slabs of them in rising order.

    At every voxel of the scan the scores are interpolated linearly and the class with the largest wins; ties go to the
    lower class. Where the eight scores around it agree on the winner, it wins there too, as interpolation only mixes
    them with weights that sum to one; so only cells that disagree are computed, and the scores of all classes at full
    resolution never exist. Where the grids coincide, voxels are copied. Outside the working grid is background.

    Parameters
    ----------
    working : Geometry
        The grid of the scores.
    onto : Geometry
        Any grid: the scan's.
    labels : LabelSet
        What the classes mean.
    out : (Z, Y, X) unsigned integer, optional
        Zeros on `onto` to write label ids into, such as a part of a larger mask; a new array by default.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.labels import LabelSet
    >>> grid, scan = Geometry((2, 1, 1), np.diag([2.0, 1, 1, 1])), Geometry((4, 1, 1), np.eye(4))
    >>> restoration = Restoration(grid, scan, LabelSet.from_names({7: "liver"}))
    >>> for score in (3.0, -1.0):
    ...     _ = restoration.add(torch.tensor([0.0, score]).reshape(2, 1, 1, 1))
    >>> restoration.mask.ravel().tolist()
    [7, 7, 0, 0]
    """

    def __init__(self, working: Geometry, onto: Geometry, labels: LabelSet, *, out: NDArray[Any] | None = None) -> None:
        self._ids = np.array([0, *labels.ids], dtype=id_type(labels))
        self.mask = np.zeros(onto.shape, dtype=self._ids.dtype) if out is None else out
        self._slabs = Slabs(working)
        self._between = LabelsBetween(Lattice.between(working, onto), working.shape, self.mask)

    def add(self, logits_kzyx: Tensor) -> NDArray[Any]:
        """Take the next slices' scores, background first, then the labels by rising id; return the labels that win.

        Parameters
        ----------
        logits_kzyx : (classes, n, Y, X) float
            Scores of slices of the working grid.

        Returns
        -------
        array
            (n, Y, X), label ids on the working grid.

        Raises
        ------
        ModelError
            Where there is not one score a class.
        """
        if len(logits_kzyx) != len(self._ids):
            raise ModelError(
                f"the network gave {len(logits_kzyx)} scores a voxel", expected=f"{len(self._ids)}, one a class"
            )
        return [self._settled(first, rows) for first, rows in self._slabs.blocks(logits_kzyx)][-1]

    def _settled(self, first: int, rows: Tensor) -> NDArray[Any]:
        """Settle what lies in a block's cells, and return the labels that win on the working grid."""
        winners = self._ids[_winners(rows)]
        self._between.add(winners, first, lambda places: self._ids[_strongest(rows, places)])
        return winners


class Probabilities:
    """Each class's probability at each voxel of the scan, from slabs of scores in rising order.

    Scores are interpolated linearly onto the scan's grid, beyond the working grid as at its edge, and the softmax is
    taken there, so probabilities sum to one.

    Parameters
    ----------
    working, onto : Geometry
        As `Restoration`.
    out : (K, Z, Y, X) float32
        Written into; may be a memory map.
    is_cropped : bool
        Whether what lies beyond the working grid was left out as background, which it then is for certain.
    """

    def __init__(
        self, working: Geometry, onto: Geometry, out: NDArray[np.float32], *, is_cropped: bool = False
    ) -> None:
        self._out = out
        self._is_cropped = is_cropped
        self._slabs = Slabs(working)
        self._cells = Cells(Lattice.between(working, onto), working.shape)

    def add(self, logits_kzyx: Tensor) -> None:
        """Take the next slices' scores."""
        for first, rows in self._slabs.blocks(logits_kzyx):
            stop = first + len(rows)
            for box, positions, is_here in self._cells.chunks(first, stop - (stop < self._slabs.depth)):
                positions[0] = positions[0] - first
                here = np.ones(box.shape, dtype=bool) if is_here is None else is_here
                places = Places(positions, box.shape, np.flatnonzero(here))
                scores = torch.cat([found.softmax(dim=1) for found in interpolated(rows, places)])
                part = self._out[(slice(None), *box.slices)]
                part[:, here] = scores.t().numpy()
                is_inside = self._cells.inside(box) if self._is_cropped else None
                if is_inside is not None:
                    part[:, ~is_inside] = 0.0
                    part[0, ~is_inside] = 1.0


def restore(logits: Volume, onto: Geometry, labels: LabelSet) -> Segmentation:
    """Return the mask on the scan's grid that scores on the working grid stand for; see `Restoration`.

    Parameters
    ----------
    logits : Volume
        Float (classes, Z, Y, X), background first, then the labels by rising id.
    onto : Geometry
        Any grid: the scan's.
    labels : LabelSet
        What the classes mean.

    Returns
    -------
    Segmentation
        On `onto`, with label ids as uint8, or uint16 where an id is above 255.

    Raises
    ------
    ModelError
        Where there is not one score a class.
    """
    restoration = Restoration(logits.geometry, onto, labels)
    restoration.add(torch.from_numpy(logits.array))
    return Segmentation(restoration.mask, onto, labels)


def _winners(scores_zyxk: Tensor) -> NDArray[np.int64]:
    """Return the class with the largest score at each voxel, the lowest of equals."""
    return scores_zyxk.max(dim=-1).indices.numpy()


def _strongest(scores_zyxk: Tensor, places: Places) -> NDArray[np.int64]:
    """Return the class with the largest interpolated score at places inside the slab."""
    return np.concatenate([scores.argmax(dim=1).numpy() for scores in interpolated(scores_zyxk, places)])


def interpolated(scores_zyxk: Tensor, places: Places) -> Iterator[Tensor]:
    """Yield the scores (m, K) at places, some at a time.

    The scores of a voxel lie side by side, so that a corner of a cell is one place in memory, whatever the number of
    classes. Where all places lie between the same two slices and are many, these are mixed first, which halves the
    corners.

    Parameters
    ----------
    scores_zyxk : (Z, Y, X, K) float32
        Scores of all classes.
    places : Places
        Where.
    """
    *shape, classes = scores_zyxk.shape
    axes: tuple[int, ...] = (0, 1, 2)
    if places.positions[0].size == 1 and len(places) > shape[1] * shape[2] // 4:
        scores_zyxk, axes = _level(scores_zyxk, places.positions[0].item()), (1, 2)
    table = scores_zyxk.reshape(-1, classes)
    chunk = max(1, _GATHERED // classes)
    for start in range(0, len(places), chunk):
        corners, weights = _corners(places.part(start, start + chunk), shape, axes)
        yield F.embedding_bag(corners, table, per_sample_weights=weights, mode="sum")


def _level(scores_zyxk: Tensor, z: float) -> Tensor:
    """Return the scores (Y, X, K) between two slices."""
    lower, share = _cell(np.array(z), len(scores_zyxk))
    upper = min(int(lower) + 1, len(scores_zyxk) - 1)
    return torch.lerp(scores_zyxk[int(lower)], scores_zyxk[upper], float(share))


def _corners(places: Places, shape: Sequence[int], axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return for each of M places the flat index of the voxels around it along `axes`, and their weights.

    Returns
    -------
    tuple of Tensor
        int64 and float32 (M, 4) where `axes` are the last two, (M, 8) where they are all.
    """
    strides = (shape[1] * shape[2], shape[2], 1)
    lowest = np.zeros(len(places), dtype=np.int64)
    steps: list[tuple[int, int]] = []
    shares: list[tuple[Tensor, Tensor]] = []
    for axis in axes:
        lower, fraction = _cells(places, axis, shape[axis])
        lowest += lower * strides[axis]
        steps.append((0, strides[axis] if shape[axis] > 1 else 0))
        upper = torch.from_numpy(fraction)
        shares.append((1 - upper, upper))
    offsets = torch.tensor([sum(step) for step in itertools.product(*steps)])
    weights = torch.stack([reduce(torch.mul, sides) for sides in itertools.product(*shares)], dim=1)
    return torch.from_numpy(lowest)[:, None] + offsets, weights


def _cells(places: Places, axis: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return each place's cell along an axis, and how far in it lies; worked out where that is less work."""
    positions = places.positions[axis]
    if positions.size > len(places):
        return _cell(places.at(positions), count)
    lower, fraction = _cell(positions, count)
    return places.at(lower), places.at(fraction)


def _cell(positions: NDArray[np.float64], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the lower voxel of the cell that holds each position, and how far in it lies, 0 to 1."""
    last = max(count - 2, 0)  # the last voxel is the upper end of the last cell
    lower = np.minimum(positions.astype(np.int64), last)
    return lower, (positions - lower).astype(np.float32)
