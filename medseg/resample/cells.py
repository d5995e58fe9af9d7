"""Label maps between voxels: a cell of eight voxels with one label has that label; only the others need arithmetic.

The source comes in slabs of slices, in rising order: a target voxel is settled when the slab comes that holds its cell.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from medseg.geometry import Box
from medseg.resample.images import inside_faces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from medseg.resample.lattice import Lattice

    Decide = Callable[["Places"], NDArray[Any]]

CHUNK_VOXELS = 500_000  # of the target, settled together: where all their cells differ, a hundred bytes for each


class Chunk(NamedTuple):
    """A block of target voxels, and where they lie in the source.

    Attributes
    ----------
    box : Box
        The block, in target voxels.
    positions : three arrays
        Source index along z, y and x, within the source; they broadcast to the block.
    is_here : array or None
        Which voxels' cells are among the slices asked for; None where all are.
    """

    box: Box
    positions: list[NDArray[np.float64]]
    is_here: NDArray[np.bool_] | None


class Places:
    """Some voxels of a block, and where they lie in the source.

    Parameters
    ----------
    positions : three arrays
        Source index of the block along z, y and x; they broadcast to its shape.
    shape : tuple of int
        Of the block.
    index : (M,) int
        The voxels, by their place in the flat block.
    """

    def __init__(
        self, positions: Sequence[NDArray[np.float64]], shape: tuple[int, ...], index: NDArray[np.intp]
    ) -> None:
        self.positions, self.shape, self.index = positions, shape, index

    def __len__(self) -> int:
        """Return how many voxels there are."""
        return len(self.index)

    @cached_property
    def coordinates(self) -> tuple[NDArray[np.intp], ...]:
        """The voxels' index (M,) along each axis of the block."""
        return np.unravel_index(self.index, self.shape)

    def at(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values (M,) at the voxels, of an array that broadcasts to the block."""
        along = [axis for axis, n in enumerate(values.shape) if n > 1]
        if len(along) > 1:
            return np.asarray(np.broadcast_to(values, self.shape)[self.coordinates])
        if not along:
            return np.full(len(self), values.item(), dtype=values.dtype)
        return values.ravel().take(self.coordinates[along[0]])

    def part(self, start: int, stop: int) -> Self:
        """Return some of the voxels."""
        return type(self)(self.positions, self.shape, self.index[start:stop])


class Cells:
    """The target's voxels by the source's cells they lie in.

    Parameters
    ----------
    lattice : Lattice
        Where the target lies.
    shape_zyx : tuple of int
        Of the source.
    """

    def __init__(self, lattice: Lattice, shape_zyx: Sequence[int]) -> None:
        self.lattice, self.shape = lattice.straightened(), tuple(shape_zyx)
        self._axis = int(np.abs(lattice.matrix[0]).argmax())  # the target's axis that mostly runs along the source's z
        self._is_level = self.lattice.steps() is not None

    def chunks(self, first: int, stop: int) -> Iterator[Chunk]:
        """Yield the target voxels whose cell's lower slice is from `first` to before `stop`, some at a time.

        Where the target's rows lie between two slices of the source each, they come one by one.
        """
        rows = self._rows(first, stop)
        shape = list(self.lattice.shape)
        per_row = math.prod(shape) // shape[self._axis]
        depth = 1 if self._is_level else max(1, CHUNK_VOXELS // per_row)
        for start in range(rows.start, rows.stop, depth):
            box = self._box(start, min(start + depth, rows.stop))
            part = self.lattice.cropped(box)
            positions = list(part.slab_positions(0, part.shape[0]))
            positions = [np.clip(p, 0, n - 1) for p, n in zip(positions, self.shape, strict=True)]
            lower = np.floor(positions[0])
            is_here = (lower >= first) & (lower < stop)
            yield Chunk(box, positions, None if is_here.all() else np.broadcast_to(is_here, box.shape))

    def inside(self, box: Box) -> NDArray[np.bool_] | None:
        """Tell which voxels of a block lie within the source's outer faces; None where all do."""
        part = self.lattice.cropped(box)
        is_inside = inside_faces(part.slab_positions(0, part.shape[0]), self.shape)
        return None if is_inside.all() else np.broadcast_to(is_inside, box.shape)

    def _rows(self, first: int, stop: int) -> range:
        """Return the target's rows along its axis in which such voxels may be: one span, as the map is linear."""
        along = self.lattice.matrix[0].copy()
        step, along[self._axis] = along[self._axis], 0.0
        far = along * (np.array(self.lattice.shape) - 1)
        middle = self.lattice.offset[0] + step * np.arange(self.lattice.shape[self._axis])
        may = np.ones(len(middle), dtype=bool)
        if first > 0:
            may &= middle + np.maximum(far, 0).sum() >= first
        if stop < self.shape[0]:
            may &= middle + np.minimum(far, 0).sum() < stop
        found = np.flatnonzero(may)
        return range(int(found[0]), int(found[-1]) + 1) if found.size else range(0)

    def _box(self, start: int, stop: int) -> Box:
        low, high = [0, 0, 0], list(self.lattice.shape)
        low[self._axis], high[self._axis] = start, stop
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


class LabelsBetween:
    """The label at each of a lattice's positions, from slabs of the source; outside the source it is 0.

    Parameters
    ----------
    lattice : Lattice
        Where to sample.
    shape_zyx : tuple of int
        Of the source.
    out : (Z, Y, X) unsigned integer
        Zeros on the lattice; labels are written into it.
    """

    def __init__(self, lattice: Lattice, shape_zyx: Sequence[int], out: NDArray[Any]) -> None:
        self._cells = Cells(lattice, shape_zyx)
        self._is_copy = lattice.whole_steps() is not None
        self._out = out

    def add(self, labels_zyx: NDArray[Any], first: int, decide: Decide) -> None:
        """Settle what lies in the cells of a slab.

        Parameters
        ----------
        labels_zyx : (n, Y, X) unsigned integer
            Source slices from `first` on. The last one is only there as the upper side of the cells below it, unless
            it is the source's last.
        first : int
            The slab's first slice.
        decide : callable
            Given the M `Places` in cells whose labels differ, z counted from `first`, returns their labels (M,).
        """
        is_mixed = None if self._is_copy else mixed_cells(labels_zyx)
        stop = first + len(labels_zyx)
        for box, positions, is_here in self._cells.chunks(first, stop - (stop < self._cells.shape[0])):
            positions[0] = np.clip(positions[0] - first, 0, len(labels_zyx) - 1)
            near = [(np.rint(p) if self._is_copy else np.floor(p)).astype(np.intp) for p in positions]
            labels = picked(labels_zyx, near)
            if is_mixed is not None:
                is_doubtful = picked(is_mixed, near)
                mixed = np.flatnonzero(is_doubtful if is_here is None else is_doubtful & is_here)
                if mixed.size:
                    labels.reshape(-1)[mixed] = decide(Places(positions, box.shape, mixed))
            is_inside = self._cells.inside(box)
            if is_inside is not None:
                labels[~is_inside] = 0
            if is_here is None:
                self._out[box.slices] = labels
            else:
                self._out[box.slices][is_here] = labels[is_here]


def labels_between(labels_zyx: NDArray[Any], lattice: Lattice, decide: Decide) -> NDArray[Any]:
    """Return the label at each of the lattice's positions, with the whole source at hand; see `LabelsBetween`."""
    out = np.zeros(lattice.shape, dtype=labels_zyx.dtype)
    LabelsBetween(lattice, labels_zyx.shape, out).add(labels_zyx, 0, decide)
    return out


def picked(array_zyx: NDArray[Any], index: Sequence[NDArray[np.intp]]) -> NDArray[Any]:
    """Return the values at places given along z, y and x by arrays that broadcast together; a new array.

    Where each runs along one axis alone, axis after axis is taken, which is several times as fast.
    """
    shape = np.broadcast_shapes(*(i.shape for i in index))
    axes = _own_axes(index)
    if axes is None:
        return np.asarray(np.broadcast_to(array_zyx[index[0], index[1], index[2]], shape)).copy()
    taken = array_zyx
    for axis in sorted(range(3), key=lambda axis: index[axis].size / array_zyx.shape[axis]):
        taken = taken.take(index[axis].ravel(), axis=axis)
    return np.ascontiguousarray(taken.transpose(np.argsort(axes)))


def _own_axes(index: Sequence[NDArray[np.intp]]) -> list[int] | None:
    """Return the axis each of three arrays runs along, no two the same one; None where there are no such."""
    along = [[axis for axis, n in enumerate(i.shape) if n > 1] for i in index]
    if any(len(axes) > 1 for axes in along):
        return None
    taken = [axes[0] for axes in along if axes]
    if len(set(taken)) < len(taken):
        return None
    free = iter(sorted({0, 1, 2} - set(taken)))
    return [axes[0] if axes else next(free) for axes in along]


def mixed_cells(labels_zyx: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for every voxel whether labels differ among it and its seven neighbours towards higher index; (Z, Y, X)."""
    low, high = labels_zyx, labels_zyx
    for axis, count in enumerate(labels_zyx.shape):
        neighbour = np.minimum(np.arange(count) + 1, count - 1)  # the last voxel is its own
        low = np.minimum(low, low.take(neighbour, axis=axis))
        high = np.maximum(high, high.take(neighbour, axis=axis))
    return np.asarray(low != high)
