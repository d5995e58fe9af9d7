"""Choosing how a label's mask is tidied, by masks from members of a model that never saw their cases.

A label is tidied in up to two steps: small pieces go (all but the largest, or those below a volume), then holes are
filled. Each step must raise the mean Dice over the cases judged by, as in nnU-Net, which decides by cross-validation
whether a label keeps its largest piece only (Isensee et al., Nature Methods 18, 2021). Beyond it, the gain must be more
than noise (`earns_its_place`).

Dice after any tidying follows from the sizes of the pieces and their overlap with the reference, so that masks are read
once for all candidates. One thing is left out of it: where a piece lies in the hole of another and is dropped itself,
its place counts as background even where that hole is filled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from medseg.evaluation.pairing import pair
from medseg.evaluation.references import References
from medseg.evaluation.scoring import on_one_grid
from medseg.postprocess import numbered_pieces
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.case import Case
    from medseg.labels import LabelSet

RULE = (
    "A step of tidying is taken where the mean Dice of the label rises by more than the standard error of the rise, and"
    " the Dice rises in two cases or more, and in more cases than it falls."
)
_QUANTILES = (0.0, 0.1, 0.25, 0.5)  # of the volumes of the references' smallest pieces: candidates for a minimum
_DIGITS = 3  # of a minimum volume, rounded down
_CLOSED = 4  # voxels: fewer enclose nothing, in a slice as in a volume
_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class Tidying:
    """What is done to one label; by default nothing. The fields are those of `medseg.postprocess.PostprocessPlan`."""

    largest_component: bool = False
    minimum_ml: float = 0.0
    fill_holes: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LabelTrial:
    """One label of one case: its predicted pieces against the reference.

    Attributes
    ----------
    voxel_ml : float
        Volume of a voxel.
    voxels : (n,) int64
        Of each predicted piece.
    counted, right : (n,) int64
        Of these, those the reference has decided on; those it has, too.
    holes, right_holes : (n,) int64
        Voxels of background that a piece encloses and the reference has decided on; those of them it has.
    reference : int
        Voxels of the reference.
    smallest_ml : float or None
        The reference's smallest piece.
    """

    voxel_ml: float
    voxels: NDArray[np.int64]
    counted: NDArray[np.int64]
    right: NDArray[np.int64]
    holes: NDArray[np.int64]
    right_holes: NDArray[np.int64]
    reference: int
    smallest_ml: float | None = None

    @property
    def occurs(self) -> bool:
        """Whether the label is in the prediction or the reference."""
        return bool(self.reference or self.counted.sum())

    def dice(self, tidying: Tidying) -> float:
        """Return the Dice after tidying; 1 where nothing is left of the prediction and nothing should be.

        Examples
        --------
        >>> one = np.array([4, 2])
        >>> trial = LabelTrial(0.001, one, one, np.array([4, 0]), one * 0, one * 0, reference=4)
        >>> trial.dice(Tidying()), trial.dice(Tidying(largest_component=True)), trial.dice(Tidying(minimum_ml=0.005))
        (0.8, 1.0, 0.0)
        """
        keep = np.ones(len(self.voxels), dtype=np.bool_)
        if tidying.largest_component and len(keep):
            keep[:] = False
            keep[self.voxels.argmax()] = True
        if tidying.minimum_ml:
            keep &= self.voxels >= tidying.minimum_ml / self.voxel_ml
        predicted, right = int(self.counted[keep].sum()), int(self.right[keep].sum())
        if tidying.fill_holes:
            predicted += int(self.holes[keep].sum())
            right += int(self.right_holes[keep].sum())
        size = predicted + self.reference
        return 2 * right / size if size else 1.0


def label_trials(prediction: Segmentation, reference: Segmentation) -> dict[int, LabelTrial]:
    """Return what is to know of each label to tell its Dice after any tidying.

    Parameters
    ----------
    prediction, reference : Segmentation
        On one grid. The prediction's label set is judged; voxels the reference ignores count for nothing.
    """
    predicted, true = prediction.array, reference.array
    pieces, piece_labels, voxels = numbered_pieces(predicted)
    counted = _per_piece(pieces if reference.ignore is None else pieces[true != reference.ignore], len(voxels))
    right = _per_piece(pieces[(predicted == true) & (predicted != 0)], len(voxels))
    holes, right_holes = _holes(prediction, reference, pieces, piece_labels)
    _, true_labels, true_voxels = numbered_pieces(true)
    trials = {}
    for label_id in prediction.labels.ids:
        own, smallest = piece_labels == label_id, true_voxels[true_labels == label_id]
        trials[label_id] = LabelTrial(
            prediction.geometry.voxel_ml,
            voxels[own],
            counted[own],
            right[own],
            holes[own],
            right_holes[own],
            reference=int(smallest.sum()),
            smallest_ml=float(smallest.min()) * prediction.geometry.voxel_ml if len(smallest) else None,
        )
    return trials


def choose(trials: Sequence[LabelTrial]) -> Tidying:
    """Return how a label is tidied best, judged by one trial a case; nothing where nothing earns its place.

    First the way of dropping pieces with the highest mean Dice among those that earn their place: the largest piece
    only, or a minimum volume taken from the references' smallest pieces. Then whether holes are filled.
    """
    judged = [trial for trial in trials if trial.occurs]
    chosen = Tidying()
    for candidates in ([Tidying(largest_component=True), *_minima(judged)], [Tidying(fill_holes=True)]):
        before = _dice(judged, chosen)
        best = 0.0
        base = chosen
        for candidate in candidates:
            step = replace(base, **{name: value for name, value in _fields(candidate).items() if value})
            gains = _dice(judged, step) - before
            if earns_its_place(gains) and gains.mean() > best + _SAME:
                best, chosen = float(gains.mean()), step
    return chosen


def earns_its_place(gains: NDArray[np.float64]) -> bool:
    """Tell whether gains, one a case, are more than noise: see `RULE`.

    A gain in a single case never is: it is no larger than its standard error.

    Examples
    --------
    >>> earns_its_place(np.array([0.1, 0.1, 0.0])), earns_its_place(np.array([0.3, 0.0, 0.0]))
    (True, False)
    """
    better, worse = np.count_nonzero(gains > _SAME), np.count_nonzero(gains < -_SAME)
    if better < 2 or better <= worse:
        return False
    return bool(gains.mean() > gains.std(ddof=1) / math.sqrt(len(gains)))


def read_pairs(
    predictions: Path, references: Mapping[str, Case], labels: LabelSet, *, only: Collection[str] | None = None
) -> Iterator[tuple[str, Segmentation, Segmentation]]:
    """Yield id, prediction and reference of every case, or `only` of some, on one grid; predictions with these labels.

    Raises
    ------
    MedsegError
        Where a mask cannot be read, or two do not lie on one grid.
    """
    source = References(references, labels)
    for case, places in pair(predictions, source.places).pairs.items():
        if only is not None and case not in only:
            continue
        prediction, reference = source.read_pair(case, *places)
        placed = on_one_grid(prediction, reference)
        yield case, Segmentation(placed.array, placed.geometry, labels), reference


def _fields(tidying: Tidying) -> dict[str, Any]:
    return {name: getattr(tidying, name) for name in ("largest_component", "minimum_ml", "fill_holes")}


def _dice(trials: Sequence[LabelTrial], tidying: Tidying) -> NDArray[np.float64]:
    return np.array([trial.dice(tidying) for trial in trials])


def _minima(trials: Sequence[LabelTrial]) -> list[Tidying]:
    """Return candidates for a minimum volume, rising."""
    smallest = [trial.smallest_ml for trial in trials if trial.smallest_ml is not None]
    if not smallest:
        return []
    volumes = {_rounded_down(float(ml)) for ml in np.quantile(smallest, _QUANTILES)}
    return [Tidying(minimum_ml=ml) for ml in sorted(volumes)]


def _rounded_down(ml: float) -> float:
    """Return a volume with three digits, not above what it was: pieces of just this size stay.

    Examples
    --------
    >>> _rounded_down(0.0123456), _rounded_down(1234.5)
    (0.0123, 1230.0)
    """
    digits = _DIGITS - 1 - math.floor(math.log10(ml))
    unit = 10.0**-digits
    return round(math.floor(ml / unit * (1 + _SAME)) * unit, max(digits, 0))


def _per_piece(numbers: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    return np.bincount(numbers.ravel(), minlength=count + 1)[1:]


def _holes(
    prediction: Segmentation, reference: Segmentation, pieces: NDArray[np.int32], labels: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for every piece, the voxels of background it encloses, decided on and right."""
    counted, right = np.zeros((2, len(labels)), dtype=np.int64)
    flat = prediction.array.shape.index(1) if 1 in prediction.array.shape else None
    for place, box in enumerate(ndimage.find_objects(pieces)):
        inside = pieces[box] == place + 1
        if np.count_nonzero(inside) < _CLOSED:
            continue
        hole = _enclosed(inside, flat) & (prediction.array[box] == 0)
        true = reference.array[box][hole]
        counted[place] = len(true) if reference.ignore is None else np.count_nonzero(true != reference.ignore)
        right[place] = np.count_nonzero(true == labels[place])
    return counted, right


def _enclosed(inside: NDArray[np.bool_], flat: int | None) -> NDArray[np.bool_]:
    """Return what a piece that fills its box encloses on all sides; within the slice where there is one only."""
    axes = [axis for axis in range(3) if axis != flat]
    outside, count = ndimage.label(~inside)
    is_open = np.zeros(count + 1, dtype=np.bool_)
    is_open[0] = True
    for axis in axes:
        for end in (0, -1):
            is_open[np.take(outside, end, axis=axis)] = True
    enclosed: NDArray[np.bool_] = ~is_open[outside]
    return enclosed
