"""Tidying a mask: keep the largest piece of a label, drop small pieces, fill holes. Pure functions on label arrays.

Pieces are connected components by the 26 neighbours of a voxel (8 in a single slice) unless told otherwise. No function
changes a label it was not asked to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from scipy import ndimage

from medseg.errors import PlanError
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from numpy.typing import NDArray

    from medseg.labels import LabelSet
    from medseg.plan import InferPlan

Connectivity = Literal[6, 18, 26]


@dataclass(frozen=True, slots=True)
class PostprocessPlan:
    """What to tidy, by label id; by default nothing.

    Attributes
    ----------
    largest_component : tuple of int
        Labels of which only the largest piece stays.
    minimum_ml : float or mapping of int to float
        Pieces smaller than this are removed: whatever their label, or of the labels named, each by its own volume.
    fill_holes : tuple of int
        Labels whose enclosed background is filled.
    connectivity : 6, 18 or 26
        Which voxels hang together: by faces, also by edges, also by corners.
    """

    largest_component: tuple[int, ...] = ()
    minimum_ml: float | Mapping[int, float] = 0.0
    fill_holes: tuple[int, ...] = ()
    connectivity: Connectivity = 26

    @classmethod
    def of(cls, plan: InferPlan) -> Self:
        """Return what a model's plan says is tidied."""
        return cls(plan.largest_component, plan.minimum_ml, plan.fill_holes)

    def least_ml(self, label_ids: Iterable[int]) -> dict[int, float]:
        """Return the minimum volume of each label that has one.

        Examples
        --------
        >>> PostprocessPlan(minimum_ml=0.5).least_ml([1, 2]), PostprocessPlan(minimum_ml={2: 0.5}).least_ml([1, 2])
        ({1: 0.5, 2: 0.5}, {2: 0.5})
        """
        given = self.minimum_ml if isinstance(self.minimum_ml, Mapping) else dict.fromkeys(label_ids, self.minimum_ml)
        return {label_id: ml for label_id, ml in given.items() if ml}


def apply(segmentation: Segmentation, plan: PostprocessPlan) -> Segmentation:
    """Return a tidied copy: largest pieces first, then the minimum volume, then holes.

    Parameters
    ----------
    segmentation : Segmentation
        Any grid; volumes are right on sheared grids too.
    plan : PostprocessPlan
        What to do to which label.

    Raises
    ------
    PlanError
        Where the plan names a label the segmentation does not know, or a negative volume.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.labels import LabelSet
    >>> row = np.array([[[1, 1, 0, 1, 0]]], dtype=np.uint8)
    >>> mask = Segmentation(row, Geometry(row.shape, np.eye(4)), LabelSet.from_names({1: "liver"}))
    >>> apply(mask, PostprocessPlan(largest_component=(1,))).array.ravel().tolist()
    [1, 1, 0, 0, 0]
    """
    _require_known(plan, segmentation.labels)
    mask = segmentation.array
    if plan.largest_component:
        mask = keep_largest(mask, plan.largest_component, connectivity=plan.connectivity)
    least_ml = plan.least_ml(segmentation.labels.ids)
    if least_ml:
        voxels = {label_id: ml / segmentation.geometry.voxel_ml for label_id, ml in least_ml.items()}
        mask = remove_small(mask, tuple(voxels), minimum_voxels=voxels, connectivity=plan.connectivity)
    if plan.fill_holes:
        mask = fill_holes(mask, plan.fill_holes)
    if mask is segmentation.array:
        return segmentation
    return Segmentation(mask, segmentation.geometry, segmentation.labels)


def keep_largest(
    mask_zyx: NDArray[Any], label_ids: Collection[int], *, connectivity: Connectivity = 26
) -> NDArray[Any]:
    """Return a copy in which each of the labels keeps its largest piece only; of equal ones, the first in memory.

    Parameters
    ----------
    mask_zyx : (Z, Y, X) unsigned integer
        Label ids, 0 for background.
    label_ids : collection of int
        Labels to reduce; other labels stay as they are.
    connectivity : 6, 18 or 26
        Which voxels hang together.

    Examples
    --------
    >>> keep_largest(np.array([[[1, 0, 1, 1, 0, 2, 0, 2]]], dtype=np.uint8), [1]).ravel().tolist()
    [0, 0, 1, 1, 0, 2, 0, 2]
    """

    def stays(labels: NDArray[Any], voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
        keep = ~np.isin(labels, list(label_ids))
        for label_id in label_ids:
            own = np.flatnonzero(labels == label_id)
            if len(own):
                keep[own[voxels[own].argmax()]] = True
        return keep

    return _filtered(mask_zyx, stays, connectivity=connectivity)


def remove_small(
    mask_zyx: NDArray[Any],
    label_ids: Collection[int],
    *,
    minimum_voxels: float | Mapping[int, float],
    connectivity: Connectivity = 26,
) -> NDArray[Any]:
    """Return a copy without the pieces of these labels that have fewer than `minimum_voxels` voxels.

    Parameters
    ----------
    mask_zyx : (Z, Y, X) unsigned integer
        Label ids, 0 for background.
    label_ids : collection of int
        Labels to look at; other labels stay as they are.
    minimum_voxels : float or mapping of int to float
        Volume wanted over volume of a voxel; for all labels or for each.
    connectivity : 6, 18 or 26
        Which voxels hang together.

    Examples
    --------
    >>> remove_small(np.array([[[1, 0, 1, 1, 0, 2]]], dtype=np.uint8), [1, 2], minimum_voxels=2).ravel().tolist()
    [0, 0, 1, 1, 0, 0]
    """
    given = minimum_voxels if isinstance(minimum_voxels, Mapping) else dict.fromkeys(label_ids, minimum_voxels)
    minimum = {label_id: given[label_id] for label_id in label_ids if label_id in given}

    def stays(labels: NDArray[Any], voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
        keep: NDArray[np.bool_] = np.ones(len(labels), dtype=np.bool_)
        for label_id, least in minimum.items():
            keep &= (labels != label_id) | (voxels >= least)
        return keep

    return _filtered(mask_zyx, stays, connectivity=connectivity)


def fill_holes(mask_zyx: NDArray[Any], label_ids: Collection[int]) -> NDArray[Any]:
    """Return a copy in which background that a label encloses on all sides is filled with it.

    Other labels inside stay as they are. Background hangs together by faces. In a volume of one slice, a hole is what
    the label encloses in the plane. Labels are filled in the order given.

    Parameters
    ----------
    mask_zyx : (Z, Y, X) unsigned integer
        Label ids, 0 for background.
    label_ids : collection of int
        Labels to fill.

    Examples
    --------
    >>> ring = np.array([[[3, 3, 3], [3, 0, 3], [3, 3, 3]]], dtype=np.uint8)
    >>> int(fill_holes(ring, [3])[0, 1, 1])
    3
    """
    filled = mask_zyx.copy()
    for label_id in label_ids:
        box = _box_of(filled == label_id)
        if box is None:
            continue
        part = filled[box]
        if 1 in mask_zyx.shape:
            part = part.squeeze(mask_zyx.shape.index(1))  # a view, in the plane
        inside = ndimage.binary_fill_holes(part == label_id)
        part[inside & (part == 0)] = label_id
    return filled


def _filtered(
    mask_zyx: NDArray[Any],
    stays: Callable[[NDArray[Any], NDArray[np.int64]], NDArray[np.bool_]],
    *,
    connectivity: Connectivity,
) -> NDArray[Any]:
    """Return a copy with the pieces `stays(labels, voxels)` does not keep set to background."""
    result = mask_zyx.copy()
    box = _box_of(mask_zyx != 0)
    if box is None:
        return result
    part = result[box]
    pieces, labels, voxels = numbered_pieces(part, connectivity=connectivity)
    keep = np.concatenate([[False], stays(labels, voxels)])
    for plane, numbers in zip(part, pieces, strict=True):
        plane[~keep[numbers]] = 0
    return result


def numbered_pieces(
    mask_zyx: NDArray[Any], *, connectivity: Connectivity = 26
) -> tuple[NDArray[np.int32], NDArray[Any], NDArray[np.int64]]:
    """Return a number from 1 for every connected piece of one label, 0 for background; each one's label and voxels.

    Examples
    --------
    >>> pieces, labels, voxels = numbered_pieces(np.array([[[3, 3, 0, 3]]], dtype=np.uint8))
    >>> pieces.ravel().tolist(), labels.tolist(), voxels.tolist()
    ([1, 1, 0, 2], [3, 3], [2, 1])
    """
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    pieces = np.zeros(mask_zyx.shape, dtype=np.int32)
    labels, voxels = [np.zeros(0, mask_zyx.dtype)], [np.zeros(0, np.int64)]
    count = 0
    for index, box in enumerate(ndimage.find_objects(mask_zyx), start=1):
        if box is None:
            continue
        inside = mask_zyx[box] == index
        numbered, found = ndimage.label(inside, structure)
        own = numbered[inside]
        pieces[box][inside] = own + count
        labels.append(np.full(found, index, mask_zyx.dtype))
        voxels.append(np.bincount(own, minlength=found + 1)[1:])
        count += found
    return pieces, np.concatenate(labels), np.concatenate(voxels)


def _box_of(inside: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    found = ndimage.find_objects(inside.view(np.uint8), max_label=1)
    return found[0] if found else None


def _require_known(plan: PostprocessPlan, labels: LabelSet) -> None:
    least_ml = plan.least_ml(labels.ids)
    unknown = sorted({*plan.largest_component, *plan.fill_holes, *least_ml} - set(labels.ids))
    if unknown:
        known = ", ".join(map(str, labels.ids)) or "no label"
        raise PlanError(f"tidying names the label {unknown[0]}", expected=f"one of {known}")
    wrong = next((ml for ml in least_ml.values() if not ml >= 0), None)
    if wrong is not None:
        raise PlanError(f"the minimum volume is {wrong} ml", expected="zero or more")
