"""Score numbered objects: partners by IoU, counts and F1 by threshold, of each case and of all together.

Object numbers are not labels. What the masks cover is scored beside as one label, ``foreground``, as `evaluate` does.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.datasets import pixel_on_pixel
from medseg.errors import GeometryError
from medseg.evaluation.evaluate import Evaluation
from medseg.evaluation.pairing import pair
from medseg.evaluation.scoring import on_one_grid, require_length, score_case, score_missing
from medseg.evaluation.summary import summary_of
from medseg.evaluation.undecided import Undecided
from medseg.io.objects import read_objects
from medseg.labels import LabelSet
from medseg.metrics import THRESHOLDS, ObjectCounts, aggregated_jaccard, object_counts, object_overlap, pooled
from medseg.progress import Step, ignore
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from medseg.case import Case
    from medseg.evaluation.scoring import CaseScore
    from medseg.progress import Progress

INSTANCES = "instances"
"""What `segment` calls the file of a case's objects, without suffix."""
_FOREGROUND = LabelSet.from_names({1: "foreground"})
_LEFT_OUT = 255  # in the foreground of a reference
_MEANS = ("f1", "precision", "recall", "ap", "mean_ap", "pq", "aji")


@dataclass(frozen=True, slots=True)
class InstanceScore:
    """How well the objects of one case agree.

    Attributes
    ----------
    counts : tuple of ObjectCounts
        By rising threshold (`medseg.metrics.THRESHOLDS`).
    aji : float or None
        Aggregated Jaccard index; ``None`` where there is no object.
    """

    counts: tuple[ObjectCounts, ...]
    aji: float | None

    @property
    def predicted(self) -> int:
        """How many objects were predicted."""
        return self.counts[0].tp + self.counts[0].fp

    @property
    def reference(self) -> int:
        """How many objects there are."""
        return self.counts[0].tp + self.counts[0].fn

    def to_json(self) -> dict[str, Any]:
        """Return counts of objects, scores at the lowest threshold, and the counts at every one."""
        rows = [_row(counts) for counts in self.counts]
        first = {name: rows[0][name] for name in ("f1", "precision", "recall", "ap", "pq")}
        about = {"predicted": self.predicted, "reference": self.reference}
        return about | first | {"mean_ap": _mean_ap(self.counts), "aji": self.aji, "by_threshold": rows}


@dataclass(frozen=True, slots=True)
class InstanceEvaluation:
    """What an evaluation of numbered objects found.

    Attributes
    ----------
    foreground : Evaluation
        Of what the objects cover together.
    objects : mapping of id to InstanceScore
        Every scored case, missing predictions included, by rising id.
    """

    foreground: Evaluation
    objects: Mapping[str, InstanceScore]

    @property
    def missing(self) -> tuple[str, ...]:
        """References without prediction, all of whose objects count as missed."""
        return self.foreground.missing

    def to_json(self) -> dict[str, Any]:
        """Return the document of `evaluate` about the foreground, with the key ``instances``."""
        cases = [{"id": case} | score.to_json() for case, score in self.objects.items()]
        total = [pooled(at_one) for at_one in zip(*(s.counts for s in self.objects.values()), strict=True)]
        found = {
            "thresholds": list(THRESHOLDS),
            "cases": cases,
            "pooled": [_row(counts) for counts in total],
            "mean_ap": _mean_ap(total),
            "mean": {name: summary_of([case[name] for case in cases]) for name in _MEANS},
        }
        return self.foreground.to_json() | {"instances": found}

    def to_csv(self) -> str:
        """Return the table of `evaluate` about the foreground."""
        return self.foreground.to_csv()

    def objects_csv(self) -> str:
        """Return one line per case and threshold, and as case ``all`` what they are together."""
        text = io.StringIO()
        document = self.to_json()["instances"]
        writer = csv.DictWriter(text, ["id", *document["pooled"][0]], lineterminator="\n")
        writer.writeheader()
        for case, rows in (*((c["id"], c["by_threshold"]) for c in document["cases"]), ("all", document["pooled"])):
            writer.writerows({"id": case} | row for row in rows)
        return text.getvalue()


def evaluate_instances(
    predictions: Path,
    references: Path | Mapping[str, Case],
    *,
    subset: bool = False,
    nsd_tolerance_mm: float = 1.0,
    progress: Progress = ignore,
) -> InstanceEvaluation:
    """Score the numbered objects of one folder against those of another.

    Parameters
    ----------
    predictions : Path
        An output folder of ``medseg segment`` with ``<id>/instances.nii.gz``, a folder of masks of object numbers, or
        one such mask.
    references : Path or mapping of id to Case
        Masks of object numbers with the same ids. What is ignored in masks of labels is no object here, and a note
        tells in how many references it was met (docs/images2d.md).
    subset : bool
        Leave references without prediction out instead of counting their objects as missed.
    nsd_tolerance_mm : float
        Tolerance of the normalised surface Dice of the foreground.
    progress : Progress
        Told each case.

    Raises
    ------
    InputError
        Where files do not pair or cannot be read.
    GeometryError
        Where a prediction and its reference lie on different grids.
    PlanError
        Where the tolerance is no length.
    """
    require_length(nsd_tolerance_mm)
    undecided = Undecided(references, name=INSTANCES)
    pairing = pair(predictions, _places(references), name=INSTANCES)
    missing: Mapping[str, Path] = {} if subset else pairing.missing
    ids = sorted([*pairing.pairs, *missing])
    cases: dict[str, CaseScore] = {}
    objects: dict[str, InstanceScore] = {}
    for done, case in enumerate(ids):
        progress(Step("evaluate", done, len(ids), case))
        prediction, path = (None, missing[case]) if case in missing else pairing.pairs[case]
        predicted, reference = _read(case, prediction, path)
        left_out = undecided.left_out(case, path, reference.array)
        true, covered = _without(reference, left_out), _covered(reference, left_out)
        if predicted is None:
            cases[case], objects[case] = score_missing(covered), _nothing_found(true)
            continue
        found = _without(predicted, left_out)
        cases[case] = score_case(_covered(found), covered, nsd_tolerance_mm=nsd_tolerance_mm)
        objects[case] = score_objects(found, true)
    progress(Step("evaluate", len(ids), len(ids)))
    foreground = Evaluation(cases, _FOREGROUND, tuple(missing), nsd_tolerance_mm, undecided.notes)
    return InstanceEvaluation(foreground, objects)


def score_objects(prediction: Volume, reference: Volume) -> InstanceScore:
    """Score object numbers against others on the same grid.

    Raises
    ------
    GeometryError
        Where the shapes differ.
    """
    overlap = object_overlap(prediction.array, reference.array)
    counts = tuple(object_counts(overlap, threshold) for threshold in THRESHOLDS)
    return InstanceScore(counts, aggregated_jaccard(overlap))


def _places(references: Path | Mapping[str, Case]) -> Path | dict[str, Path]:
    if isinstance(references, Path):
        return references
    return {i: case.reference for i, case in references.items() if case.reference is not None}


def _read(case: str, prediction: Path | None, reference: Path) -> tuple[Volume | None, Volume]:
    """Return a prediction, where there is one, and its reference on one grid; pictures lie pixel on pixel."""
    true = read_objects(reference)
    if prediction is None:
        return None, true
    found = pixel_on_pixel(read_objects(prediction), prediction, true.geometry)
    true = pixel_on_pixel(true, reference, found.geometry)
    try:
        return on_one_grid(found, true), true
    except GeometryError as error:
        raise error.at(case) from error


def _without(objects: Volume, left_out: NDArray[np.bool_] | None) -> Volume:
    """Return objects with background where nobody decided."""
    if left_out is None:
        return objects
    return replace(objects, array=np.where(left_out, objects.array.dtype.type(0), objects.array))


def _covered(objects: Volume, left_out: NDArray[np.bool_] | None = None) -> Segmentation:
    covered = (objects.array[0] > 0).astype(np.uint8)
    if left_out is None:
        return Segmentation(covered, objects.geometry, _FOREGROUND)
    covered[left_out[0]] = _LEFT_OUT
    return Segmentation(covered, objects.geometry, _FOREGROUND, _LEFT_OUT)


def _nothing_found(reference: Volume) -> InstanceScore:
    nothing = Volume(np.zeros_like(reference.array), reference.geometry)
    return score_objects(nothing, reference)


def _row(counts: ObjectCounts) -> dict[str, Any]:
    return {
        "threshold": counts.threshold,
        "tp": counts.tp,
        "fp": counts.fp,
        "fn": counts.fn,
        "f1": counts.f1,
        "ap": counts.average_precision,
        "precision": counts.precision,
        "recall": counts.recall,
        "pq": counts.panoptic_quality,
    }


def _mean_ap(counts: Sequence[ObjectCounts]) -> float | None:
    """Return the mean of the average precision over all thresholds, the score of the Data Science Bowl 2018."""
    values = [one.average_precision for one in counts]
    return float(np.mean([v for v in values if v is not None])) if values[0] is not None else None
