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


def edit_of(atoms: Iterable[Any], *, mask: NDArray[Any], shown: NDArray[Any]) -> Edit:
    """Return what a stroke changes; whether the mask holds it already does not matter.

    Parameters
    ----------
    atoms : iterable
        napari's changes: (indices, labels before, labels after), or from napari 0.9 on objects with `slice_key`,
        `mask`, `old_values` and `new_value`.
    mask : (Z, Y, X) unsigned integer
        The mask, in C order.
    shown : unsigned integer
        The layer's data: a view of `mask`.

    Examples
    --------
    >>> mask = np.zeros((2, 3, 4), np.uint8)
    >>> stroke = [((np.array([0]), np.array([1]), np.array([2])), np.array([0], np.uint8), 5)]
    >>> edit = edit_of(stroke, mask=mask, shown=mask[::-1])
    >>> np.unravel_index(edit.indices, mask.shape), edit.after.tolist()
    ((array([1]), array([1]), array([2])), [5])
    """
    places, before, after = _gathered(atoms, mask=mask, shown=shown)
    voxels, first = np.unique(places, return_index=True)  # of a voxel painted twice, what was first
    _, last = np.unique(places[::-1], return_index=True)
    old, new = before[first], after[::-1][last]
    changed = old != new
    return Edit.of_voxels(mask.shape, voxels[changed], before=old[changed], after=new[changed])


def as_it_is(atoms: Iterable[Any], *, mask: NDArray[Any], shown: NDArray[Any]) -> Edit:
    """Return an edit that writes what the mask holds now wherever a stroke was, also where nothing changed."""
    places, _, _ = _gathered(atoms, mask=mask, shown=shown)
    voxels = np.unique(places)
    now = mask.reshape(-1)[voxels]
    return Edit.of_voxels(mask.shape, voxels, before=now, after=now)


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


def _gathered(
    atoms: Iterable[Any], *, mask: NDArray[Any], shown: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Return every voxel that was changed, as often as it was, in order: its place in the mask, and both labels."""
    places, before, after = [np.zeros(0, np.int64)], [mask[:0].ravel()], [mask[:0].ravel()]
    for atom in atoms:
        at, old, new = _changed(atom, shown.ndim)
        places.append(_flat(at, mask=mask, shown=shown))
        before.append(np.broadcast_to(old, at[0].shape).astype(mask.dtype))
        after.append(np.broadcast_to(new, at[0].shape).astype(mask.dtype))
    return np.concatenate(places), np.concatenate(before), np.concatenate(after)


def _changed(atom: Any, ndim: int) -> tuple[tuple[NDArray[Any], ...], Any, Any]:
    """Return the indices of the changed voxels in the layer, and their labels before and after."""
    if not hasattr(atom, "slice_key"):
        indices, old, new = atom
        at = tuple(np.broadcast_arrays(*(np.asarray(index) for index in indices)))
        return tuple(a.ravel() for a in at), np.asarray(old).ravel(), np.asarray(new).ravel()
    starts = [part.start or 0 for part in atom.slice_key]
    lengths = [part.stop - (part.start or 0) for part in atom.slice_key]
    inside = np.ones(lengths, np.bool_) if atom.mask is None else np.asarray(atom.mask).reshape(lengths)
    at = tuple(index + start for index, start in zip(np.nonzero(inside), starts, strict=True))
    return at[-ndim:], np.asarray(atom.old_values).ravel(), np.asarray(atom.new_value).ravel()


def _flat(at: tuple[NDArray[Any], ...], *, mask: NDArray[Any], shown: NDArray[Any]) -> NDArray[np.int64]:
    """Return the flat C-order index in the mask of voxels of the view, by their addresses."""
    first = shown.__array_interface__["data"][0] - mask.__array_interface__["data"][0]
    offsets = sum(index.astype(np.int64) * step for index, step in zip(at, shown.strides, strict=True))
    flat: NDArray[np.int64] = (first + np.asarray(offsets)) // mask.itemsize
    return flat
