"""One edit of a mask: which voxels changed, from what, to what; and the bounded list of edits to be undone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Box

DEFAULT_UNDO_BYTES = 256_000_000
_FOREIGN = "the mask has another shape or layout in memory than the edit was made for"


@dataclass(frozen=True, eq=False, slots=True)
class Edit:
    """The voxels an edit changed, as runs along the mask's memory; a run costs 16 bytes, a voxel two of the mask's.

    Attributes
    ----------
    shape : tuple of int
        Of the whole mask, (Z, Y, X).
    starts, lengths : (runs,) int64
        Flat C-order index of the first voxel of each run, rising, and how many voxels it has.
    before, after : (voxels,) unsigned integer
        Their labels, run after run.
    """

    shape: tuple[int, int, int]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    before: NDArray[Any]
    after: NDArray[Any]

    @classmethod
    def of_block(cls, mask_zyx: NDArray[Any], box: Box, block_zyx: NDArray[Any]) -> Self:
        """Return the edit that puts `block_zyx` into `box` of a mask, which is left as it is.

        Examples
        --------
        >>> from medseg.geometry import Box
        >>> mask = np.zeros((2, 3, 4), np.uint8)
        >>> edit = Edit.of_block(mask, Box((0, 0, 1), (1, 2, 3)), np.array([[[0, 5], [5, 5]]], np.uint8))
        >>> edit.starts.tolist(), edit.lengths.tolist(), edit.after.tolist()
        ([2, 5], [1, 2], [5, 5, 5])
        """
        inside = mask_zyx[box.slices]
        at = np.nonzero(inside != block_zyx)
        indices = np.ravel_multi_index(
            tuple(axis + start for axis, start in zip(at, box.start, strict=True)), mask_zyx.shape
        )
        return cls.of_voxels(mask_zyx.shape, indices, before=inside[at], after=block_zyx[at].astype(mask_zyx.dtype))

    @classmethod
    def of_voxels(
        cls, shape: tuple[int, ...], indices: NDArray[Any], *, before: NDArray[Any], after: NDArray[Any]
    ) -> Self:
        """Return the edit of single voxels, each named once by its flat C-order index, in any order.

        Examples
        --------
        >>> voxels = np.array([5, 4, 9])
        >>> edit = Edit.of_voxels((1, 2, 5), voxels, before=np.zeros(3, np.uint8), after=np.array([2, 1, 3], np.uint8))
        >>> edit.starts.tolist(), edit.after.tolist()
        ([4, 9], [1, 2, 3])
        """
        order = np.argsort(indices, kind="stable")
        rising = np.asarray(indices, np.int64)[order]
        first = np.flatnonzero(np.diff(rising, prepend=-2) != 1)
        lengths = np.diff(np.append(first, len(rising)))
        z, y, x = shape
        return cls((z, y, x), rising[first], lengths, np.asarray(before)[order], np.asarray(after)[order])

    @property
    def n_voxels(self) -> int:
        """How many voxels changed."""
        return len(self.after)

    @property
    def nbytes(self) -> int:
        """The memory the edit takes."""
        return self.starts.nbytes + self.lengths.nbytes + self.before.nbytes + self.after.nbytes

    @property
    def indices(self) -> NDArray[np.int64]:
        """The flat C-order index of every voxel, (voxels,), rising."""
        offsets = np.cumsum(self.lengths) - self.lengths
        return np.repeat(self.starts - offsets, self.lengths) + np.arange(self.n_voxels)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The slices (z) that changed, and the rows (y), as a box of the mask; both empty without a voxel."""
        if not self.n_voxels:
            return slice(0, 0), slice(0, 0)
        z, y, _ = np.unravel_index(self.indices, self.shape)
        return slice(int(z[0]), int(z[-1]) + 1), slice(int(y.min()), int(y.max()) + 1)

    def apply(self, mask_zyx: NDArray[Any]) -> None:
        """Write the labels after the edit into a mask, in place."""
        self._write(mask_zyx, self.after)

    def revert(self, mask_zyx: NDArray[Any]) -> None:
        """Write the labels before the edit into a mask, in place."""
        self._write(mask_zyx, self.before)

    def inverse(self) -> Edit:
        """Return the edit that takes this one back."""
        return Edit(self.shape, self.starts, self.lengths, self.after, self.before)

    def _write(self, mask_zyx: NDArray[Any], values: NDArray[Any]) -> None:
        if mask_zyx.shape != self.shape or not mask_zyx.flags.c_contiguous:
            raise ValueError(_FOREIGN)
        mask_zyx.reshape(-1)[self.indices] = values


class History:
    """Edits to be undone and redone, as many as fit into a number of bytes; the oldest are forgotten first.

    Parameters
    ----------
    limit_bytes : int
        What all edits together may take.

    Examples
    --------
    >>> mask, history = np.zeros((1, 1, 4), np.uint8), History()
    >>> edit = Edit.of_voxels(mask.shape, np.array([2]), before=np.array([0], np.uint8), after=np.array([7], np.uint8))
    >>> edit.apply(mask); history.push(edit)
    >>> history.undo(mask) is not None, mask.ravel().tolist(), history.undo(mask) is None
    (True, [0, 0, 0, 0], True)
    >>> history.redo(mask) is not None, mask.ravel().tolist()
    (True, [0, 0, 7, 0])
    """

    def __init__(self, limit_bytes: int = DEFAULT_UNDO_BYTES) -> None:
        self._limit = limit_bytes
        self._done: deque[Edit] = deque()
        self._undone: list[Edit] = []
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """What the edits take, those undone included."""
        return self._bytes

    @property
    def depth(self) -> tuple[int, int]:
        """How many edits can be undone, and how many redone."""
        return len(self._done), len(self._undone)

    def push(self, edit: Edit) -> None:
        """Take note of an edit that was made; what was undone before can no longer be redone."""
        self._bytes -= sum(undone.nbytes for undone in self._undone)
        self._undone.clear()
        self._done.append(edit)
        self._bytes += edit.nbytes
        while self._done and self._bytes > self._limit:
            self._bytes -= self._done.popleft().nbytes

    def undo(self, mask_zyx: NDArray[Any]) -> Edit | None:
        """Take the last edit back, in place, and return what was done to the mask; ``None`` where there is none."""
        if not self._done:
            return None
        edit = self._done.pop()
        edit.revert(mask_zyx)
        self._undone.append(edit)
        return edit.inverse()

    def redo(self, mask_zyx: NDArray[Any]) -> Edit | None:
        """Make the last edit taken back again, in place, and return it; ``None`` where there is none."""
        if not self._undone:
            return None
        edit = self._undone.pop()
        edit.apply(mask_zyx)
        self._done.append(edit)
        return edit

    def clear(self) -> None:
        """Forget everything."""
        self._done.clear()
        self._undone.clear()
        self._bytes = 0
