"""The verb: score every prediction of a folder against its reference, and sum up."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError, PlanError
from medseg.evaluation.pairing import named_labels, pair
from medseg.evaluation.references import References
from medseg.evaluation.scoring import CaseScore, LabelScore, require_length, score_case, score_missing
from medseg.evaluation.summary import METRICS, mean_rows, summarise
from medseg.labels import Label, LabelSet, distinct_color
from medseg.metrics import frequency_weighted_iou, mean_accuracy, mean_iou, pixel_accuracy
from medseg.progress import Step, ignore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.case import Case
    from medseg.progress import Progress
    from medseg.volume import Segmentation

_RESERVED = {"all", "mean", "overall"}  # names the document uses itself
_BOTH_EMPTY = LabelScore()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    cases : mapping of id to CaseScore
        Every scored case, missing predictions included, by rising id.
    labels : LabelSet
        The labels that were scored.
    missing : tuple of str
        References without prediction, which count as zero.
    nsd_tolerance_mm : float
        Tolerance of the normalised surface Dice.
    notes : tuple of str
        What a reader of the numbers should know.
    """

    cases: Mapping[str, CaseScore]
    labels: LabelSet
    missing: tuple[str, ...]
    nsd_tolerance_mm: float
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 2 where predictions are missing."""
        return 2 if self.missing else 0

    def rows(self, label: Label) -> list[dict[str, float | None]]:
        """Return the scores of one label, case by case; all ``None`` where both masks are empty."""
        return [asdict(case.labels.get(label.id, _BOTH_EMPTY)) for case in self.cases.values()]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``medseg evaluate --json``; see docs/architecture.md, section 6."""
        by_label = {label.name: self.rows(label) for label in self.labels}
        rows: list[dict[str, Any]] = []
        for number, (case_id, score) in enumerate(self.cases.items()):
            rows += [{"id": case_id, "label": name, **label_rows[number]} for name, label_rows in by_label.items()]
            rows.append({"id": case_id, "label": "all", "pixel_accuracy": score.pixel_accuracy, "miou": score.miou})
        summary: dict[str, Any] = {name: summarise(label_rows) for name, label_rows in by_label.items()}
        summary["mean"] = summarise(mean_rows(by_label.values()))
        summary["overall"] = self._overall()
        return {
            "schema": 1,
            "nsd_tolerance_mm": self.nsd_tolerance_mm,
            "labels": self.labels.to_json(),
            "cases": rows,
            "summary": summary,
            "missing": list(self.missing),
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """Return one line per case and label, and one per case with the label ``all``."""
        columns = ["id", "label", *METRICS, "pixel_accuracy", "miou"]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_json()["cases"])
        return text.getvalue()

    def _overall(self) -> dict[str, Any]:
        matrix = self._pooled_matrix()
        return {
            "pixel_accuracy": pixel_accuracy(matrix),
            "mean_accuracy": mean_accuracy(matrix),
            "miou": mean_iou(matrix),
            "frequency_weighted_iou": frequency_weighted_iou(matrix),
        }

    def _pooled_matrix(self) -> NDArray[np.int64]:
        """Return the confusion matrix over all cases; its last column holds voxels without prediction."""
        ids = sorted({0, *self.labels.ids})
        place: dict[int | None, int] = {label_id: n for n, label_id in enumerate(ids)} | {None: len(ids)}
        matrix = np.zeros((len(ids), len(ids) + 1), dtype=np.int64)
        for case in self.cases.values():
            for (true, predicted), count in case.counts.items():
                matrix[place[true], place[predicted]] += count
        return matrix


def evaluate(
    predictions: Path,
    references: Path | Mapping[str, Path] | Mapping[str, Case],
    *,
    labels: LabelSet | None = None,
    subset: bool = False,
    nsd_tolerance_mm: float = 1.0,
    progress: Progress = ignore,
) -> Evaluation:
    """Score the masks of one folder against the reference masks of another.

    Parameters
    ----------
    predictions : Path
        An output folder of ``medseg segment`` or a folder of masks (or one mask).
    references : Path or mapping of id to Path or Case
        A folder of masks with the same ids (or one mask), or the masks by id. SEG and RTSTRUCT are masks, too: their
        structures become labels by the case's rules, by ``labels.yaml`` beside them, or else by their names.
    labels : LabelSet, optional
        What to score; other values count as background, and a note says so. By default every value that occurs, named
        as the predictions' ``labels.yaml`` or ``manifest.json`` names it.
    subset : bool
        Leave references without prediction out instead of counting them as zero.
    nsd_tolerance_mm : float
        Tolerance of the normalised surface Dice.
    progress : Progress
        Told each case.

    Raises
    ------
    InputError
        Where files do not pair or cannot be read.
    GeometryError
        Where a prediction and its reference lie on different grids.
    PlanError
        Where a label has a name the result cannot carry, or the tolerance is no length.
    """
    require_length(nsd_tolerance_mm)
    names = (named_labels(predictions) if predictions.is_dir() else LabelSet(())) if labels is None else labels
    _refuse_reserved(names)
    source = References(references, names)
    pairing = pair(predictions, source.places)
    missing: Mapping[str, Path] = {} if subset else pairing.missing
    ids = sorted([*pairing.pairs, *missing])
    wanted = None if labels is None else labels.ids
    cases: dict[str, CaseScore] = {}
    sheared = []
    for done, case in enumerate(ids):
        progress(Step("evaluate", done, len(ids), case))
        if case in missing:
            cases[case] = score_missing(_without_prediction(source, case, missing[case]), label_ids=wanted)
            continue
        try:
            prediction, reference = source.read_pair(case, *pairing.pairs[case])
            cases[case] = score_case(prediction, reference, nsd_tolerance_mm=nsd_tolerance_mm, label_ids=wanted)
        except GeometryError as error:
            raise error.at(case) from error
        if reference.geometry.is_sheared:
            sheared.append(case)
    progress(Step("evaluate", len(ids), len(ids)))
    scored = names if labels is not None else _completed(names, cases)
    notes = (*_notes(cases, scored, sheared=sheared), *source.notes)
    return Evaluation(cases, scored, tuple(missing), nsd_tolerance_mm, notes)


def _without_prediction(source: References, case: str, path: Path) -> Segmentation:
    try:
        return source.read(case, path)
    except InputError as error:
        if error.code != "no-grid":
            raise
        raise InputError(
            "there is no prediction, and contours (RTSTRUCT) have no voxels to count",
            where=case,
            remedy="Segment the case, or leave it out with --subset",
        ) from error


def _completed(names: LabelSet, cases: Mapping[str, CaseScore]) -> LabelSet:
    """Add every value that occurs to the labels that have a name."""
    occurring = {label_id for case in cases.values() for label_id in case.labels}
    nameless = sorted(occurring - set(names.ids))
    added = (Label(i, f"label_{i}", distinct_color(len(names) + n)) for n, i in enumerate(nameless))
    return LabelSet((*names, *added))


def _refuse_reserved(labels: LabelSet) -> None:
    taken = sorted(set(labels.names) & _RESERVED)
    if taken:
        raise PlanError(
            f"a label is called {taken[0]!r}, which the result uses for itself",
            expected=f"a name other than {', '.join(sorted(_RESERVED))}",
            remedy="Rename the label",
        )


def _notes(cases: Mapping[str, CaseScore], labels: LabelSet, *, sheared: list[str]) -> tuple[str, ...]:
    notes = []
    foreign = sorted(set().union(*(case.foreign for case in cases.values())))
    if foreign:
        values = ", ".join(map(str, foreign))
        notes.append(f"The masks also hold {values}, not among the labels scored; they count as background.")
    if not any(set(case.labels) & set(labels.ids) for case in cases.values()):
        notes.append("None of the labels occurs in any prediction or reference.")
    if sheared:
        notes.append(f"Surface metrics are not defined on the sheared grids of {', '.join(sheared)}.")
    return tuple(notes)
