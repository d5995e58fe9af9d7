"""Agreement of numbered objects: which predicted object is which of the reference, and what is left over.

Two objects are one where their intersection over union is above a threshold. At thresholds of 0.5 and more no object
has two partners (Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4.1); below, partners are assigned so that
as many objects as possible have one, and among such assignments with the largest sum of IoU (Kuhn, Naval Research
Logistics 2, 1955).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medseg.metrics.overlap import require_same_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Of the Data Science Bowl 2018 (Caicedo et al., Nature Methods 16, 2019)."""
_UNIQUE_FROM = 0.5


@dataclass(frozen=True, eq=False)
class ObjectOverlap:
    """Which objects share voxels; objects are counted from 0 in the order of their numbers.

    Attributes
    ----------
    predicted_voxels : (P,) int64
        Size of every predicted object.
    reference_voxels : (R,) int64
        Size of every object of the reference.
    predicted, reference : (n,) int64
        The pairs that share voxels.
    shared : (n,) int64
        How many.
    """

    predicted_voxels: NDArray[np.int64]
    reference_voxels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    reference: NDArray[np.int64]
    shared: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of every pair that shares voxels, (n,)."""
        union = self.predicted_voxels[self.predicted] + self.reference_voxels[self.reference] - self.shared
        ratio: NDArray[np.float64] = self.shared / union
        return ratio


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """Objects found, invented and missed at one threshold; counts of several cases add up.

    Attributes
    ----------
    threshold : float
        What the IoU of partners is above.
    tp, fp, fn : int
        Pairs of partners; predicted objects, and objects of the reference, without one.
    iou_sum : float
        Sum of the partners' IoU.

    Examples
    --------
    >>> counts = ObjectCounts(0.5, tp=3, fp=1, fn=1, iou_sum=2.4) + ObjectCounts(0.5, tp=0, fp=0, fn=1, iou_sum=0.0)
    >>> counts.f1, counts.average_precision, round(counts.panoptic_quality, 3)
    (0.6666666666666666, 0.5, 0.533)
    """

    threshold: float
    tp: int
    fp: int
    fn: int
    iou_sum: float

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        """Return the counts of both."""
        iou_sum = self.iou_sum + other.iou_sum
        return ObjectCounts(self.threshold, self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, iou_sum)

    @property
    def precision(self) -> float | None:
        """Share of the predicted objects that are right; ``None`` where none was predicted."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Share of the reference's objects that were found; ``None`` where there is none."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall (as in Caicedo et al. 2019); ``None`` where there is no object."""
        return self._over(0.5, float(self.tp))

    @property
    def average_precision(self) -> float | None:
        """TP / (TP + FP + FN), as the Data Science Bowl 2018 calls it; ``None`` where there is no object."""
        return self._over(1.0, float(self.tp))

    @property
    def panoptic_quality(self) -> float | None:
        """Sum of IoU / (TP + FP/2 + FN/2) (Kirillov et al. 2019, equation 1); ``None`` where there is no object."""
        return self._over(0.5, self.iou_sum)

    def _over(self, weight: float, what: float) -> float | None:
        total = self.tp + weight * (self.fp + self.fn)
        return what / total if total else None


def object_overlap(prediction: NDArray[Any], reference: NDArray[Any]) -> ObjectOverlap:
    """Count the voxels that objects of two masks share, in one pass whatever their number.

    Parameters
    ----------
    prediction, reference : unsigned integer arrays of one shape
        Object numbers, with gaps or without; 0 for background.

    Raises
    ------
    GeometryError
        Where the shapes differ.

    Examples
    --------
    >>> overlap = object_overlap(np.array([0, 5, 5, 9], np.uint16), np.array([1, 1, 1, 0], np.uint16))
    >>> overlap.predicted_voxels.tolist(), overlap.reference_voxels.tolist(), overlap.iou.round(3).tolist()
    ([2, 1], [3], [0.667])
    """
    require_same_shape(prediction, reference)
    inside = np.flatnonzero((prediction != 0) | (reference != 0))
    predicted_numbers, predicted = _ranks(prediction.ravel()[inside])
    reference_numbers, true = _ranks(reference.ravel()[inside])
    keys, voxels = np.unique(true * (len(predicted_numbers) + 1) + predicted, return_counts=True)
    rows, columns = np.divmod(keys, len(predicted_numbers) + 1)
    both = (rows > 0) & (columns > 0)
    return ObjectOverlap(
        np.bincount(columns, voxels, len(predicted_numbers) + 1)[1:].astype(np.int64),
        np.bincount(rows, voxels, len(reference_numbers) + 1)[1:].astype(np.int64),
        columns[both] - 1,
        rows[both] - 1,
        voxels[both].astype(np.int64),
    )


def matched(overlap: ObjectOverlap, threshold: float = 0.5) -> NDArray[np.int64]:
    """Return which pairs of an overlap are partners at a threshold, as places in its lists, rising.

    Examples
    --------
    >>> overlap = object_overlap(np.array([1, 1, 1, 2], np.uint8), np.array([1, 1, 2, 2], np.uint8))
    >>> matched(overlap, 0.5).tolist(), matched(overlap, 0.2).tolist()
    ([0], [0, 2])
    """
    iou = overlap.iou
    above = np.flatnonzero(iou > threshold)
    if threshold >= _UNIQUE_FROM or not len(above):
        return above
    size = len(overlap.reference_voxels) + len(overlap.predicted_voxels)
    ends = (overlap.reference[above], overlap.predicted[above] + len(overlap.reference_voxels))
    group = connected_components(coo_array((np.ones(len(above)), ends), (size, size)), directed=False)[1][ends[0]]
    order = np.argsort(group, kind="stable")
    parts = np.split(above[order], np.flatnonzero(np.diff(group[order])) + 1)
    return np.sort(np.concatenate([_assigned(overlap, part, iou[part]) for part in parts]))


def object_counts(overlap: ObjectOverlap, threshold: float = 0.5) -> ObjectCounts:
    """Count objects found, invented and missed.

    Examples
    --------
    >>> overlap = object_overlap(np.array([1, 1, 2, 2], np.uint8), np.array([1, 1, 1, 1], np.uint8))  # split in two
    >>> object_counts(overlap)
    ObjectCounts(threshold=0.5, tp=0, fp=2, fn=1, iou_sum=0.0)
    """
    pairs = matched(overlap, threshold)
    tp = len(pairs)
    fp, fn = len(overlap.predicted_voxels) - tp, len(overlap.reference_voxels) - tp
    return ObjectCounts(threshold, tp, fp, fn, float(overlap.iou[pairs].sum()))


def aggregated_jaccard(overlap: ObjectOverlap) -> float | None:
    """Return the aggregated Jaccard index (Kumar et al., IEEE TMI 36, 2017, algorithm 1); ``None`` without objects.

    Each object of the reference takes the predicted object of the largest IoU; predicted objects that none takes add
    their voxels to the union.

    Examples
    --------
    >>> aggregated_jaccard(object_overlap(np.array([1, 1, 0, 2], np.uint8), np.array([1, 1, 1, 0], np.uint8)))
    0.5
    """
    order = np.lexsort((overlap.predicted, -overlap.iou, overlap.reference))
    best = order[np.unique(overlap.reference[order], return_index=True)[1]]
    taken = overlap.predicted[best]
    shared = int(overlap.shared[best].sum())
    union = int(overlap.reference_voxels.sum() + overlap.predicted_voxels[taken].sum()) - shared
    untaken = np.delete(overlap.predicted_voxels, np.unique(taken))
    union += int(untaken.sum())
    return shared / union if union else None


def pooled(counts: Sequence[ObjectCounts]) -> ObjectCounts:
    """Return the sum of the counts of several cases at one threshold.

    Examples
    --------
    >>> pooled([ObjectCounts(0.5, 1, 0, 0, 0.9), ObjectCounts(0.5, 2, 1, 0, 1.5)]).tp
    3
    """
    total = counts[0]
    for more in counts[1:]:
        total += more
    return total


def _ranks(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the numbers that occur without 0, rising, and the place of each among them from 1, 0 for 0."""
    found = np.unique(numbers)
    found = found[found != 0]
    places = np.searchsorted(found, numbers) + (numbers != 0)
    return found, places.astype(np.int64)


def _assigned(overlap: ObjectOverlap, pairs: NDArray[np.int64], iou: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return those of some pairs that give as many objects as possible a partner, then the largest sum of IoU."""
    rows, row = np.unique(overlap.reference[pairs], return_inverse=True)
    columns, column = np.unique(overlap.predicted[pairs], return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = 1.0 + iou / (2 * min(gain.shape))  # all IoU together weigh less than one more pair
    place = np.full(gain.shape, -1, dtype=np.int64)
    place[row, column] = pairs
    chosen: NDArray[np.int64] = place[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen >= 0]
