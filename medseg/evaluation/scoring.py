"""Score one predicted mask against its reference: every label, and all voxels together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy import ndimage

from medseg.errors import GeometryError, PlanError
from medseg.metrics import Counts, confusion_matrix, mean_iou, pixel_accuracy, surface_distances
from medseg.resample import resample
from medseg.volume import Segmentation, Volume, values_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry

_Mask = TypeVar("_Mask", Segmentation, Volume)
_SPACING_TOLERANCE = 1e-3  # relative; below this, grids differ elsewhere
_HD_PERCENTILE = 95.0


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How well one label of one case agrees; ``None`` where a number is not defined.

    Attributes
    ----------
    dice, iou : float or None
        Overlap, 0 to 1. Both masks empty: ``None``; one empty: 0.
    hd95_mm, assd_mm, nsd : float or None
        Surface metrics (`medseg.metrics.surface_distances`); ``None`` where a mask is empty or the grid is sheared.
    volume_ml, reference_volume_ml, volume_error_ml : float or None
        Of the prediction, of the reference, prediction minus reference; ``None`` where both masks are empty.
    """

    dice: float | None = None
    iou: float | None = None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    nsd: float | None = None
    volume_ml: float | None = None
    reference_volume_ml: float | None = None
    volume_error_ml: float | None = None


@dataclass(frozen=True, slots=True)
class CaseScore:
    """The scores of one case.

    Attributes
    ----------
    labels : mapping of label id to LabelScore
        The labels that occur in prediction or reference.
    counts : mapping of (reference id, predicted id) to int
        Voxels by class, 0 for background; ``None`` as predicted id where there is no prediction at all.
    pixel_accuracy, miou : float
        Over all voxels, and over the classes that occur, background included; ``None`` where every voxel is ignored.
    foreign : frozenset of int
        Values that were counted as background because they were not among the labels asked for.
    """

    labels: Mapping[int, LabelScore]
    counts: Mapping[tuple[int, int | None], int]
    pixel_accuracy: float | None
    miou: float | None
    foreign: frozenset[int] = field(default_factory=frozenset)


def require_length(tolerance_mm: float) -> None:
    """Refuse a tolerance of the surface Dice that is no length.

    Raises
    ------
    PlanError
        Where it is negative, infinite or no number.
    """
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise PlanError(f"the tolerance is {tolerance_mm} mm", expected="zero or more")


def score_case(
    prediction: Segmentation,
    reference: Segmentation,
    *,
    nsd_tolerance_mm: float = 1.0,
    label_ids: Collection[int] | None = None,
) -> CaseScore:
    """Score a predicted mask against its reference on the same grid.

    A mask stored with its axes in another order or direction is the same grid; its voxels are compared where they lie
    in the patient. Voxels the reference leaves undecided count for nothing: for surfaces both masks are cut out there.

    Parameters
    ----------
    prediction, reference : Segmentation
        Compared by label id.
    nsd_tolerance_mm : float
        Tolerance of the normalised surface Dice.
    label_ids : collection of int, optional
        Labels to score; other values count as background. All that occur by default.

    Raises
    ------
    GeometryError
        Where the grids differ, with how they differ.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.labels import LabelSet
    >>> from medseg.volume import Segmentation
    >>> grid, labels = Geometry((1, 2, 2), np.diag([3.0, 1.0, 1.0, 1.0])), LabelSet.from_names({1: "liver"})
    >>> reference = Segmentation(np.array([[[1, 1], [0, 0]]], dtype=np.uint8), grid, labels)
    >>> prediction = Segmentation(np.array([[[1, 0], [0, 0]]], dtype=np.uint8), grid, labels)
    >>> score = score_case(prediction, reference)
    >>> round(score.labels[1].dice, 3), score.pixel_accuracy
    (0.667, 0.75)
    """
    predicted, true = _decided(on_one_grid(prediction, reference).array, reference)
    present = {*values_in(predicted), *values_in(true)} - {0}
    wanted = present if label_ids is None else present & set(label_ids)
    ids = sorted(wanted)
    box = _box_of(predicted, true)
    predicted, true = (_as_classes(array[box], ids) for array in (predicted, true))
    matrix = confusion_matrix(predicted, true, len(ids) + 1)
    matrix[0, 0] += reference.array.size - true.size - _ignored(reference)
    boxes = zip(*(ndimage.find_objects(a, max_label=len(ids)) for a in (predicted, true)), strict=True)
    scores: dict[int, LabelScore] = {}
    for number, (label_id, pair) in enumerate(zip(ids, boxes, strict=True), start=1):
        joint = _joint(pair)
        surfaces = _surface_scores(
            predicted[joint] == number, true[joint] == number, reference.geometry, tolerance_mm=nsd_tolerance_mm
        )
        scores[label_id] = LabelScore(**_overlap_scores(matrix, number, reference.geometry.voxel_ml), **surfaces)
    return CaseScore(
        scores,
        _counts(matrix, [0, *ids]),
        pixel_accuracy=pixel_accuracy(matrix),
        miou=mean_iou(matrix),
        foreign=frozenset(present - wanted),
    )


def score_missing(reference: Segmentation, *, label_ids: Collection[int] | None = None) -> CaseScore:
    """Score a reference that has no prediction: zero overlap, no surface, every voxel wrong that was decided on.

    Parameters
    ----------
    reference : Segmentation
        What should have been found.
    label_ids : collection of int, optional
        As for `score_case`.
    """
    voxels = reference.voxel_counts()
    present = {label_id for label_id, n in voxels.items() if n}
    wanted = present if label_ids is None else present & set(label_ids)
    scores = {}
    for label_id in sorted(wanted):
        volume = voxels[label_id] * reference.geometry.voxel_ml
        scores[label_id] = LabelScore(
            dice=0.0, iou=0.0, volume_ml=0.0, reference_volume_ml=volume, volume_error_ml=-volume
        )
    background = reference.array.size - sum(voxels[i] for i in wanted) - _ignored(reference)
    counts: dict[tuple[int, int | None], int] = {(0, None): background}
    counts.update({(i, None): voxels[i] for i in wanted})
    nothing_right = 0.0 if sum(counts.values()) else None
    foreign = frozenset(present - wanted)
    return CaseScore(scores, counts, pixel_accuracy=nothing_right, miou=nothing_right, foreign=foreign)


def _ignored(reference: Segmentation) -> int:
    """Return the number of voxels nobody decided on."""
    return 0 if reference.ignore is None else int(np.count_nonzero(reference.array == reference.ignore))


def _decided(predicted: NDArray[Any], reference: Segmentation) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return prediction and reference with background wherever the reference is undecided."""
    if reference.ignore is None:
        return predicted, reference.array
    open_zyx = reference.array == reference.ignore
    return tuple(np.where(open_zyx, array.dtype.type(0), array) for array in (predicted, reference.array))  # type: ignore[return-value]  # two in, two out


def on_one_grid(prediction: _Mask, reference: _Mask) -> _Mask:
    """Return the prediction with its voxels in the reference's order, or refuse.

    Raises
    ------
    GeometryError
        Where the grids differ, with how they differ.
    """
    ours, wanted = prediction.geometry, reference.geometry
    if ours.same_grid(wanted):
        return prediction
    codes = wanted.axis_codes
    if ours.axis_codes != codes and ours.reoriented(codes).same_grid(wanted):
        return resample(prediction, onto=wanted)
    found, expected = grid_difference(ours.reoriented(codes), wanted)
    raise GeometryError(
        f"the prediction lies on another grid: {found}",
        expected=expected,
        remedy="Segment the very scan the reference was drawn on, or resample one of the two first",
    )


def grid_difference(grid: Geometry, expected: Geometry) -> tuple[str, str]:
    """Return the first way in which two grids differ, as a phrase for each of them.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> grid_difference(Geometry((4, 5, 6), np.diag([3.0, 1, 1, 1])), Geometry((4, 5, 6), np.diag([2.0, 1, 1, 1])))
    ('its spacing is 3 x 1 x 1 mm', '2 x 1 x 1 mm')
    """
    if grid.shape != expected.shape:
        return f"it has {_times(grid.shape)} voxels (z, y, x)", f"{_times(expected.shape)}, as the reference has"
    if not np.allclose(grid.spacing_mm, expected.spacing_mm, rtol=_SPACING_TOLERANCE):
        return f"its spacing is {_times(grid.spacing_mm)} mm", f"{_times(expected.spacing_mm)} mm"
    frames = {grid.frame_of_reference_uid, expected.frame_of_reference_uid} - {None}
    if len(frames) > 1:
        return "its DICOM frame of reference is another one", "that of the reference"
    off_mm = float(np.linalg.norm(grid.corners_lps - expected.corners_lps, axis=1).max())
    moved_mm = grid.origin_lps - expected.origin_lps
    turned = not np.allclose(grid.directions_lps, expected.directions_lps, atol=_SPACING_TOLERANCE)
    how = "turned" if turned else f"moved by {moved_mm[0]:.4g}, {moved_mm[1]:.4g}, {moved_mm[2]:.4g} mm (L, P, S)"
    return f"it is {how}, its corners up to {off_mm:.4g} mm off", "corners within 0.01 mm of the reference's"


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{v:g}" for v in values)


def _overlap_scores(matrix: NDArray[np.int64], number: int, voxel_ml: float) -> dict[str, float | None]:
    tp = int(matrix[number, number])
    predicted, true = int(matrix[:, number].sum()), int(matrix[number].sum())
    counts = Counts(tp, predicted - tp, true - tp, tn=int(matrix.sum()) - predicted - true + tp)
    return {
        "dice": counts.dice,
        "iou": counts.iou,
        "volume_ml": predicted * voxel_ml,
        "reference_volume_ml": true * voxel_ml,
        "volume_error_ml": (predicted - true) * voxel_ml,
    }


def _surface_scores(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], grid: Geometry, *, tolerance_mm: float
) -> dict[str, float | None]:
    """Measure a label's surfaces in its box; a box one voxel thick in a thicker grid is still a solid."""
    if grid.is_sheared:
        return {}
    margin = [(0, int(n > 1 and m == 1)) for n, m in zip(grid.shape, predicted.shape, strict=True)]
    distances = surface_distances(np.pad(predicted, margin), np.pad(true, margin), grid.spacing_mm)
    if distances is None:
        return {}
    return {
        "hd95_mm": distances.hausdorff_mm(_HD_PERCENTILE),
        "assd_mm": distances.assd_mm(),
        "nsd": distances.nsd(tolerance_mm),
    }


def _as_classes(array: NDArray[Any], ids: Sequence[int]) -> NDArray[np.uint16]:
    """Return the classes of a mask: 1, 2, ... for the ids in their order, 0 for everything else."""
    if array.dtype.itemsize <= 2:
        table = np.zeros(np.iinfo(array.dtype).max + 1, dtype=np.uint16)
        table[list(ids)] = np.arange(1, len(ids) + 1)
        numbered: NDArray[np.uint16] = table[array]
        return numbered
    known = np.array([0, *ids], dtype=array.dtype)
    place = np.minimum(np.searchsorted(known, array), len(known) - 1)
    return np.where(known[place] == array, place, 0).astype(np.uint16)


def _box_of(predicted: NDArray[Any], true: NDArray[Any]) -> tuple[slice, ...]:
    """Return the box of all foreground; one voxel where there is none."""
    inside = ((predicted != 0) | (true != 0)).view(np.uint8)
    found: tuple[slice, ...] | None = ndimage.find_objects(inside, max_label=1)[0]
    return found or (slice(0, 1),) * inside.ndim


def _joint(boxes: Sequence[tuple[slice, ...] | None]) -> tuple[slice, ...]:
    """Return the smallest box around the given ones, of which at least one is not ``None``."""
    axes = zip(*(box for box in boxes if box is not None), strict=True)
    return tuple(slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in axes)


def _counts(matrix: NDArray[np.int64], ids: Sequence[int]) -> dict[tuple[int, int | None], int]:
    rows, columns = np.nonzero(matrix)
    return {(ids[r], ids[c]): int(matrix[r, c]) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)}
