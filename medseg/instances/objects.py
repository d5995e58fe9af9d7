"""Numbered objects: what `separate` makes of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from medseg.errors import GeometryError, PlanError
from medseg.instances.pieces import components, watershed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.labels import LabelSet
    from medseg.plan import InstancePlan
    from medseg.volume import Segmentation

_MOST = np.iinfo(np.uint16).max
_MM3_PER_ML = 1000.0
_ROUNDING = 1e-9  # of a volume: an object of just the least size stays


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a mask: one number per voxel, and what label each object is.

    Numbers are no label ids: they rise from 1 without a gap, by label and then by where an object begins in memory.

    Parameters
    ----------
    array : (Z, Y, X) uint16
        Object numbers, 0 for background and for labels that were not taken apart.
    geometry : Geometry
        Where the voxels lie.
    labels : LabelSet
        The labels that were taken apart, also those of which there is no object.
    label_ids : tuple of int
        The label of every object, the first one's first.

    Raises
    ------
    GeometryError
        Where shapes do not agree.
    """

    array: NDArray[np.uint16]
    geometry: Geometry
    labels: LabelSet
    label_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that shapes agree."""
        if self.array.shape != self.geometry.shape:
            raise GeometryError(
                f"the objects have shape {self.array.shape}", expected=f"{self.geometry.shape}, as their grid has"
            )

    @property
    def numbers(self) -> tuple[int, ...]:
        """All object numbers, rising."""
        return tuple(range(1, len(self.label_ids) + 1))


def separate(segmentation: Segmentation, plan: InstancePlan) -> Objects:
    """Return the objects of a mask, numbered.

    Each label is taken apart by itself: objects of two labels are two, whether they touch or not.

    Parameters
    ----------
    segmentation : Segmentation
        Any grid; on sheared ones a watershed takes the grid's axes for right-angled.
    plan : InstancePlan
        Which labels, how, and from which size on.

    Raises
    ------
    PlanError
        Where the plan names a label the mask does not know, or there are more than 65535 objects.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.labels import LabelSet
    >>> from medseg.plan import InstancePlan
    >>> from medseg.volume import Segmentation
    >>> row = np.array([[[2, 0, 1, 1, 0, 1]]], dtype=np.uint8)
    >>> mask = Segmentation(row, Geometry(row.shape, np.eye(4)), LabelSet.from_names({1: "cyst", 2: "stone"}))
    >>> found = separate(mask, InstancePlan(minimum_mm3=1))
    >>> found.array.ravel().tolist(), found.label_ids
    ([3, 0, 1, 1, 0, 2], (1, 1, 2))
    """
    labels = segmentation.labels
    unknown = sorted(set(plan.labels) - set(labels.ids))
    if unknown:
        known = ", ".join(map(str, labels.ids)) or "no label"
        raise PlanError(f"the step to objects names the label {unknown[0]}", expected=f"one of {known}")
    wanted = [label for label in labels if not plan.labels or label.id in plan.labels]
    least = plan.minimum_mm3 / (segmentation.geometry.voxel_ml * _MM3_PER_ML)
    array = np.zeros(segmentation.array.shape, dtype=np.uint16)
    label_ids: list[int] = []
    boxes = ndimage.find_objects(segmentation.array)
    for label in wanted:
        box = boxes[label.id - 1] if label.id <= len(boxes) else None
        if box is None:
            continue
        pieces = _pieces(_thick(segmentation.array[box] == label.id, array), segmentation.geometry.spacing_mm, plan)
        pieces, count = _large(pieces[tuple(slice(s.stop - s.start) for s in box)], least)
        if len(label_ids) + count > _MOST:
            raise PlanError(
                f"the mask falls into {len(label_ids) + count} objects or more",
                expected=f"at most {_MOST}",
                remedy="Set infer.instances.minimum_mm3 in the plan, so that specks are dropped",
            )
        array[box] += np.where(pieces > 0, pieces + len(label_ids), 0).astype(np.uint16)
        label_ids += [label.id] * count
    return Objects(array, segmentation.geometry, type(labels)(tuple(wanted)), tuple(label_ids))


def _thick(inside: NDArray[np.bool_], whole: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask with background beyond it where it is one voxel thick and the whole is thicker: no flat image."""
    return np.pad(inside, [(0, int(n > 1 and m == 1)) for n, m in zip(whole.shape, inside.shape, strict=True)])


def _pieces(inside: NDArray[np.bool_], spacing_mm: tuple[float, ...], plan: InstancePlan) -> NDArray[np.int32]:
    if plan.method == "components":
        return components(inside, connectivity=plan.connectivity)
    return watershed(
        inside,
        spacing_mm,
        neck=plan.neck,
        minimum_distance_mm=plan.minimum_distance_mm,
        connectivity=plan.connectivity,
    )


def _large(pieces: NDArray[np.int32], least_voxels: float) -> tuple[NDArray[np.int32], int]:
    """Return the pieces that are large enough, numbered without a gap, and how many they are."""
    voxels = np.bincount(pieces.ravel())
    stays = voxels >= least_voxels * (1.0 - _ROUNDING)
    stays[0] = False
    table = np.where(stays, np.cumsum(stays), 0).astype(np.int32)
    return table[pieces], int(stays.sum())
