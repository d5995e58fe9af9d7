"""What was painted on a Labels layer, as an edit of the mask behind it. No Qt.

napari tells of a stroke as a list of changes, each with the voxels it changed and their labels before. The layer shows
a view of the mask (turned upright), so places in the view become places in the mask by their addresses in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.review.changes import Edit
from medseg.review.edits import threshold_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def edit_of(atoms: Iterable[Any], *, mask: NDArray[Any], shown: NDArray[Any], everywhere: bool = False) -> Edit:
    """Return what a stroke changed; the mask holds it already.

    Parameters
    ----------
    atoms : iterable
        napari's changes: (indices, labels before, labels after), or from napari 0.9 on objects with `slice_key`, `mask`
        and `old_values`.
    mask : (Z, Y, X) unsigned integer
        The mask, in C order.
    shown : unsigned integer
        The layer's data: a view of `mask`.
    everywhere : bool
        Whether voxels that are now as they were before belong to it, too.

    Examples
    --------
    >>> mask = np.zeros((2, 3, 4), np.uint8)
    >>> shown = mask[::-1]
    >>> shown[0, 1, 2] = 5
    >>> stroke = [((np.array([0]), np.array([1]), np.array([2])), np.array([0], np.uint8), 5)]
    >>> edit = edit_of(stroke, mask=mask, shown=shown)
    >>> np.unravel_index(edit.indices, mask.shape), edit.after.tolist()
    ((array([1]), array([1]), array([2])), [5])
    """
    places: list[NDArray[np.int64]] = []
    labels: list[NDArray[Any]] = []
    for atom in atoms:
        at, before = _changed(atom, shown.ndim)
        places.append(_flat(at, mask=mask, shown=shown))
        labels.append(before)
    if not places:
        return Edit.of_voxels(mask.shape, np.zeros(0, np.int64), before=mask[:0].ravel(), after=mask[:0].ravel())
    voxels, first = np.unique(np.concatenate(places), return_index=True)  # of a voxel painted twice, what was first
    before = np.concatenate(labels)[first]
    after = mask.reshape(-1)[voxels]
    changed = (before != after) | everywhere
    return Edit.of_voxels(mask.shape, voxels[changed], before=before[changed], after=after[changed])


def within(edit: Edit, *, image_zyx: NDArray[Any], low: float, high: float) -> tuple[Edit, Edit]:
    """Part a stroke by intensity: what may stay, and what takes the rest back.

    Parameters
    ----------
    edit : Edit
        The stroke.
    image_zyx : (Z, Y, X)
        Intensities of the mask's voxels.
    low, high : float
        The limits, both included.

    Examples
    --------
    >>> voxels, none = np.array([0, 1, 2]), np.zeros(3, np.uint8)
    >>> stroke = Edit.of_voxels((1, 1, 3), voxels, before=none, after=none + 4)
    >>> kept, back = within(stroke, image_zyx=np.array([[[-5, 50, 500]]]), low=0, high=100)
    >>> kept.indices.tolist(), back.indices.tolist(), back.after.tolist()
    ([1], [0, 2], [0, 0])
    """
    voxels, before = edit.indices, edit.before[None, None]
    result = before.copy()
    for label in np.unique(edit.after):
        brush = (edit.after == label)[None, None]
        values = image_zyx[np.unravel_index(voxels, edit.shape)][None, None]
        result = threshold_within(result, values, brush, label_id=int(label), low=low, high=high)
    after = result[0, 0]
    stays = after == edit.after
    kept = Edit.of_voxels(edit.shape, voxels[stays], before=edit.before[stays], after=edit.after[stays])
    back = Edit.of_voxels(edit.shape, voxels[~stays], before=edit.after[~stays], after=edit.before[~stays])
    return kept, back


def _changed(atom: Any, ndim: int) -> tuple[tuple[NDArray[Any], ...], NDArray[Any]]:
    """Return the indices of the changed voxels in the layer, and their labels before."""
    if not hasattr(atom, "slice_key"):
        indices, before = atom[0], np.asarray(atom[1])
        at = tuple(np.broadcast_arrays(*(np.asarray(index) for index in indices)))
        return tuple(a.ravel() for a in at), np.broadcast_to(before, at[0].shape).ravel()
    starts = [part.start or 0 for part in atom.slice_key]
    lengths = [part.stop - (part.start or 0) for part in atom.slice_key]
    inside = np.ones(lengths, np.bool_) if atom.mask is None else np.asarray(atom.mask).reshape(lengths)
    at = tuple(index + start for index, start in zip(np.nonzero(inside), starts, strict=True))
    old = np.asarray(atom.old_values)
    return at[-ndim:], np.broadcast_to(old.ravel() if old.ndim else old, at[0].shape)


def _flat(at: tuple[NDArray[Any], ...], *, mask: NDArray[Any], shown: NDArray[Any]) -> NDArray[np.int64]:
    """Return the flat C-order index in the mask of voxels of the view, by their addresses."""
    first = shown.__array_interface__["data"][0] - mask.__array_interface__["data"][0]
    offsets = sum(index.astype(np.int64) * step for index, step in zip(at, shown.strides, strict=True))
    flat: NDArray[np.int64] = (first + np.asarray(offsets)) // mask.itemsize
    return flat
