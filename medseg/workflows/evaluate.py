"""evaluate: score masks against references and leave a report folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg import evaluation
from medseg.errors import OutputError, PlanError
from medseg.io.atomic import write_text
from medseg.progress import Progress, ignore
from medseg.report import evaluation_report

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.case import Case

_FILES = ("metrics.json", "metrics.csv", "report.html")
_OBJECTS = "instances.csv"
_TABLE = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """Another folder of predictions to test against, whether missing predictions count, and the NSD's tolerance.

    With `instances`, masks hold object numbers instead of labels.
    """

    compare: Path | None = None
    subset: bool = False
    tolerance_mm: float = 1.0
    instances: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.instances and self.compare is not None:
            raise PlanError("both --instances and --compare were given", expected="one of them")


@dataclass(frozen=True, slots=True)
class EvaluateReport:
    """What was measured, as `evaluate --json` prints it."""

    document: dict[str, Any]

    @property
    def is_incomplete(self) -> bool:
        """Whether references were left without a prediction."""
        return bool(self.document["missing"])

    @property
    def mean_dice(self) -> float | None:
        """Mean over labels and cases."""
        mean: float | None = self.document["summary"]["mean"]["dice"]["mean"]
        return mean

    def dice_of(self, label: str) -> list[float]:
        """Return one label's Dice of every case where it is defined."""
        rows = (case for case in self.document["cases"] if case["label"] == label)
        return [row["dice"] for row in rows if row["dice"] is not None]

    def rows(self) -> list[tuple[object, ...]]:
        """Return the table a person reads: one row per label, then the mean."""
        summary = self.document["summary"]
        names = [name for name in summary if name != "overall"]
        return [(name, *(summary[name][m]["mean"] for m in _TABLE), summary[name]["dice"]["n"]) for name in names]

    def object_rows(self) -> list[tuple[object, ...]]:
        """Return the table of objects a person reads: one row per threshold; none where objects were not scored."""
        pooled = self.document.get("instances", {}).get("pooled", [])
        return [tuple(row[name] for name in ("threshold", "f1", "ap", "pq", "tp", "fp", "fn")) for row in pooled]

    def remarks(self) -> list[str]:
        """Return what the table does not say."""
        overall = self.document["summary"]["overall"]
        known = overall["pixel_accuracy"] is not None
        lines = (
            [f"Pixel accuracy {overall['pixel_accuracy']:.4f}, mIoU {overall['miou']:.4f} over all voxels."]
            if known
            else ["No voxel was decided on, so none is scored."]
        )
        lines += self.document.get("notes", [])
        if self.document["missing"]:
            lines.append(f"No prediction for {', '.join(self.document['missing'])}: counted as zero.")
        comparison = self.document.get("comparison", {})
        if comparison.get("missing"):
            lines.append(f"The other has no prediction for {', '.join(comparison['missing'])}: counted as zero.")
        for name, metrics in comparison.get("labels", {}).items():
            dice = metrics["dice"]
            if dice["n"]:
                lines.append(
                    f"Dice of {name}: {dice['mean_difference']:+.4f} against the other, p = {dice['p_value']:.3g}."
                )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return self.document


def evaluate(
    predictions: Path, references: Path, output: Path, request: EvaluateRequest, *, progress: Progress = ignore
) -> EvaluateReport:
    """Score `predictions` against `references`; write metrics.json, metrics.csv and report.html into `output`.

    References are a folder of masks, one mask, or a CSV table as training takes it. With `request.instances` both are
    masks of object numbers, and instances.csv is written, too.

    Raises
    ------
    InputError, GeometryError
        Where cases cannot be paired or lie on different grids.
    OutputError
        Where `output` cannot hold the report, or holds files of its names that `evaluate` did not write.
    """
    _require_writable(output, objects=request.instances)
    if request.instances:
        return _evaluated_objects(predictions, references, output, request, progress)
    scores = _scores(predictions, references, request, progress)
    document = scores.to_json()
    if request.compare is not None:
        other = _scores(request.compare, references, request, progress)
        document["comparison"] = evaluation.compare(scores, other) | {"missing": list(other.missing)}
    _write(document, scores.to_csv(), output)
    return EvaluateReport(document)


def _evaluated_objects(
    predictions: Path, references: Path, output: Path, request: EvaluateRequest, progress: Progress
) -> EvaluateReport:
    scores = evaluation.evaluate_instances(
        predictions,
        _cases(references, predictions, name=evaluation.INSTANCES),
        subset=request.subset,
        nsd_tolerance_mm=request.tolerance_mm,
        progress=progress,
    )
    document = scores.to_json()
    _write(document, scores.to_csv(), output, objects=scores.objects_csv())
    return EvaluateReport(document)


def _write(document: dict[str, Any], table: str, output: Path, *, objects: str | None = None) -> None:
    """Write the report; our older table of objects goes where there is none now, as it tells of other masks."""
    texts = (json.dumps(document, indent=1, allow_nan=False) + "\n", table, evaluation_report(document))
    _make(output)
    if objects is None and _scored_objects(output):  # before metrics.json, which says whose the table is
        (output / _OBJECTS).unlink(missing_ok=True)
    for name, text in zip(_FILES, texts, strict=True):
        write_text(output / name, text)
    if objects is not None:
        write_text(output / _OBJECTS, objects)


def _require_writable(output: Path, *, objects: bool) -> None:
    """Refuse a folder whose page or table belongs to somebody else, before anything is measured."""
    if output.exists() and not output.is_dir():
        raise OutputError("there is a file of this name", expected="a folder", where=str(output))
    foreign = [name for name in (*_FILES, _OBJECTS) if (output / name).exists()]
    if (output / _FILES[0]).is_file():
        foreign = [_OBJECTS] if objects and _OBJECTS in foreign and not _scored_objects(output) else []
    if foreign:
        raise OutputError(
            f"the folder holds a {foreign[0]} that medseg evaluate did not write",
            where=str(output),
            remedy="Name another folder",
        )


def _scored_objects(output: Path) -> bool:
    """Tell whether the table of objects in a folder is ours: its metrics.json then tells of objects, too."""
    try:
        document = json.loads((output / _FILES[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "instances" in document


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder cannot be made ({error.strerror})", where=str(output), remedy="Name one you may write to"
        ) from error


def _scores(predictions: Path, references: Path, request: EvaluateRequest, progress: Progress) -> evaluation.Evaluation:
    return evaluation.evaluate(
        predictions,
        _cases(references, predictions, name=evaluation.MASK),
        subset=request.subset,
        nsd_tolerance_mm=request.tolerance_mm,
        progress=progress,
    )


def _cases(references: Path, predictions: Path, *, name: str) -> Path | dict[str, Case]:
    """Return the references as they are, or the cases of a table."""
    is_table = references.suffix.lower() == evaluation.TABLE
    return evaluation.cases_of_table(references, predictions, name=name) if is_table else references
