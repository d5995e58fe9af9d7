"""Numbers that say how well two masks agree: arrays and a spacing in, numbers out.

Every function is pure and speaks NumPy and SciPy only. A value that is not defined is ``None``, never NaN: both masks
empty, or a surface that is not there.
"""

from __future__ import annotations

from medseg.metrics.instances import (
    THRESHOLDS,
    ObjectCounts,
    ObjectOverlap,
    aggregated_jaccard,
    matched,
    object_counts,
    object_overlap,
    pooled,
)
from medseg.metrics.overlap import (
    Counts,
    confusion_counts,
    confusion_matrix,
    dice,
    frequency_weighted_iou,
    iou,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    volume_ml,
)
from medseg.metrics.rand import RandScore, rand_score
from medseg.metrics.surface import SurfaceDistances, contour_lengths_mm, surface_areas_mm2, surface_distances

__all__ = [
    "THRESHOLDS",
    "Counts",
    "ObjectCounts",
    "ObjectOverlap",
    "RandScore",
    "SurfaceDistances",
    "aggregated_jaccard",
    "confusion_counts",
    "confusion_matrix",
    "contour_lengths_mm",
    "dice",
    "frequency_weighted_iou",
    "iou",
    "matched",
    "mean_accuracy",
    "mean_iou",
    "object_counts",
    "object_overlap",
    "pixel_accuracy",
    "pooled",
    "rand_score",
    "surface_areas_mm2",
    "surface_distances",
    "volume_ml",
]
