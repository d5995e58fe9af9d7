"""Overlap of masks, voxel by voxel: Dice, IoU, pixel accuracy, volumes.

Sources: Dice (Ecology 26, 1945), Jaccard (New Phytologist 11, 1912); pixel accuracy, mean accuracy, mean IoU and
frequency weighted IoU as in Long, Shelhamer and Darrell (CVPR 2015), section 5, over every class that occurs,
background included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MAX_CLASSES = 4096  # a 4096 x 4096 table of counts takes 128 MiB; more classes than that are no mask


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels on which two masks agree and disagree.

    Attributes
    ----------
    tp, fp, fn, tn : int
        In both; in the prediction only; in the reference only; in neither.

    Examples
    --------
    >>> Counts(tp=3, fp=1, fn=1, tn=5).dice
    0.75
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def dice(self) -> float | None:
        """Twice the intersection over the sum of sizes; ``None`` where both masks are empty."""
        size = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / size if size else None

    @property
    def iou(self) -> float | None:
        """Intersection over union; ``None`` where both masks are empty."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else None


def confusion_counts(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Counts:
    """Count agreeing and disagreeing voxels of two binary masks of one shape.

    Raises
    ------
    GeometryError
        Where the shapes differ.

    Examples
    --------
    >>> confusion_counts(np.array([True, True, False]), np.array([True, False, False]))
    Counts(tp=1, fp=1, fn=0, tn=1)
    """
    require_same_shape(prediction, reference)
    tp = int(np.count_nonzero(prediction & reference))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    return Counts(tp, fp, fn, prediction.size - tp - fp - fn)


def dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float | None:
    """Return the Dice coefficient of two binary masks, 0 to 1; ``None`` where both are empty.

    Raises
    ------
    GeometryError
        Where the shapes differ.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    return confusion_counts(prediction, reference).dice


def iou(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float | None:
    """Return intersection over union of two binary masks, 0 to 1; ``None`` where both are empty.

    Raises
    ------
    GeometryError
        Where the shapes differ.

    Examples
    --------
    >>> iou(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    return confusion_counts(prediction, reference).iou


def volume_ml(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> float:
    """Return the volume of a binary mask on a right-angled grid, in millilitres.

    Examples
    --------
    >>> volume_ml(np.ones((10, 10, 10), dtype=bool), (2.0, 1.0, 0.5))
    1.0
    """
    return int(np.count_nonzero(mask)) * math.prod(spacing_mm) / 1000.0


def confusion_matrix(prediction: NDArray[Any], reference: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """Count voxels by class: rows are the reference, columns the prediction.

    Parameters
    ----------
    prediction, reference : unsigned integer arrays of one shape
        Class numbers 0 to ``n_classes - 1``.
    n_classes : int
        Number of classes, background included; at most 4096.

    Returns
    -------
    (n_classes, n_classes) int64
        Matrices of several cases add up to the pooled matrix.

    Raises
    ------
    GeometryError
        Where the shapes differ.
    InputError
        Where a class number is too large, or there are too many classes.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1], np.uint8), np.array([0, 0, 1], np.uint8), 2).tolist()
    [[1, 1], [0, 1]]
    """
    require_same_shape(prediction, reference)
    if not 1 <= n_classes <= _MAX_CLASSES:
        raise InputError(f"{n_classes} classes were asked for", expected=f"1 to {_MAX_CLASSES}")
    largest = max((int(a.max()) for a in (prediction, reference) if a.size), default=0)
    if largest >= n_classes:
        raise InputError(f"a mask holds the class {largest}", expected=f"0 to {n_classes - 1}")
    total = np.zeros(n_classes * n_classes, dtype=np.int64)
    for predicted, true in zip(
        np.atleast_2d(prediction), np.atleast_2d(reference), strict=True
    ):  # slice by slice: little memory
        pairs = true.astype(np.intp).ravel() * n_classes + predicted.ravel()
        total += np.bincount(pairs, minlength=total.size)
    return total.reshape(n_classes, n_classes)


def pixel_accuracy(matrix: NDArray[np.int64]) -> float | None:
    """Return the share of voxels in the right class, from a confusion matrix; ``None`` where it counts nothing.

    Parameters
    ----------
    matrix : (K, K) or (K, K + 1) int64
        As `confusion_matrix` returns it; an extra column holds voxels that have a reference but no prediction.

    Examples
    --------
    >>> pixel_accuracy(np.array([[6, 2], [0, 2]]))
    0.8
    """
    total = int(matrix.sum())
    return int(np.trace(matrix)) / total if total else None


def mean_accuracy(matrix: NDArray[np.int64]) -> float | None:
    """Return the mean, over the classes that occur in the reference, of the share of their voxels that was found.

    Source: Long, Shelhamer and Darrell (CVPR 2015), section 5, "mean accuracy".

    Parameters
    ----------
    matrix : (K, K) or (K, K + 1) int64
        As for `pixel_accuracy`.

    Examples
    --------
    >>> mean_accuracy(np.array([[6, 2], [0, 2]]))
    0.875
    """
    there = matrix.sum(axis=1)
    occurs = there > 0
    return float(np.mean(np.diagonal(matrix)[occurs] / there[occurs])) if occurs.any() else None


def frequency_weighted_iou(matrix: NDArray[np.int64]) -> float | None:
    """Return the IoU of the classes, weighted by how many voxels of the reference they have.

    Source: Long, Shelhamer and Darrell (CVPR 2015), section 5, "frequency weighted IU".

    Parameters
    ----------
    matrix : (K, K) or (K, K + 1) int64
        As for `pixel_accuracy`.

    Examples
    --------
    >>> frequency_weighted_iou(np.array([[6, 2], [0, 2]]))
    0.7
    """
    hits, unions = _hits_and_unions(matrix)
    there = matrix.sum(axis=1)
    occurs = there > 0
    return float((there[occurs] * hits[occurs] / unions[occurs]).sum() / there.sum()) if occurs.any() else None


def mean_iou(matrix: NDArray[np.int64]) -> float | None:
    """Return the mean IoU over the classes that occur in reference or prediction; ``None`` where none does.

    Parameters
    ----------
    matrix : (K, K) or (K, K + 1) int64
        As for `pixel_accuracy`.

    Examples
    --------
    >>> mean_iou(np.array([[6, 2], [0, 2]]))
    0.625
    """
    hits, unions = _hits_and_unions(matrix)
    occurs = unions > 0
    return float(np.mean(hits[occurs] / unions[occurs])) if occurs.any() else None


def _hits_and_unions(matrix: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each class's voxels that are right, and those that are of it in reference or prediction."""
    hits = np.diagonal(matrix)
    return hits, matrix.sum(axis=1) + matrix.sum(axis=0)[: len(hits)] - hits


def require_same_shape(prediction: NDArray[Any], reference: NDArray[Any]) -> None:
    """Refuse arrays of different shape; broadcasting would compare the wrong voxels.

    Raises
    ------
    GeometryError
        Where the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"the prediction has shape {prediction.shape}", expected=f"{reference.shape}, as the reference has"
        )
