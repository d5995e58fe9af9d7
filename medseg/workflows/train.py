"""train: from a data set to a validated model folder, within a wall-clock budget if one is given."""

from __future__ import annotations

import csv
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medseg import __version__
from medseg.datasets import dataset_sha256, left_out, open_dataset, with_labels, with_patients
from medseg.errors import MedsegError, PlanError
from medseg.inference import hardware
from medseg.io.atomic import write_text
from medseg.model import Card, DataNote, save_model
from medseg.plan import read_recipe
from medseg.progress import Progress, ignore
from medseg.report import training_report
from medseg.training.checkpoint import load_checkpoint
from medseg.training.engine import training_precision
from medseg.workflows.cross_validation import CrossValidation, cross_validate, tidied
from medseg.workflows.folds import FoldJob, devices_for, one_after_another, rounds_of, side_by_side
from medseg.workflows.initial import start
from medseg.workflows.plan import PlanRequest, make_plan, require_same_labels
from medseg.workflows.resumed import resumed
from medseg.workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.case import Dataset
    from medseg.plan import Plan
    from medseg.training.initial import InitReport
    from medseg.workflows.cross_validation import FoldMasks
    from medseg.workflows.initial import Start
    from medseg.workflows.validation import FoldScores

ENDLESS_EPOCHS = 1_000_000  # of a run that only its budget ends
ALL = "all"
_AS_PLANNED = "as the plan says; choosing it takes all folds (--fold all), each judged by the others"


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """How to train: the plan to make, the folds, what to start from, the time and the machine.

    `init` is where weights to start from lie, `inflate` whether 2-D ones may become 3-D (`medseg.training.initial`).
    `started` is when the command began, on `time.monotonic`; now, where it is not given. `rank` is 0 but in the other
    processes of a training by several. `set_up` is called in each process that trains a fold beside others, first.
    """

    plan: PlanRequest = field(default_factory=PlanRequest)
    fold: str = "0"
    init: Path | None = None
    inflate: bool = False
    budget_s: float | None = None
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"
    resume: bool = False
    overwrite: bool = False
    started: float | None = None
    rank: int = 0
    set_up: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Where model and page are, how each fold scored, what was left out of the references, where weights came from."""

    model: Path
    page: Path
    folds: dict[int, FoldScores]
    seconds: float
    remarks: tuple[str, ...] = ()
    initial: InitReport | None = None
    cross_validation: CrossValidation | None = None

    def rows(self) -> list[tuple[object, ...]]:
        """Return one row per fold and label, and each fold's mean; those of all folds together at the end."""
        rows: list[tuple[object, ...]] = [(n, *row) for n, scores in self.folds.items() for row in scores.rows()]
        return rows + (self.cross_validation.rows() if self.cross_validation else [])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        folds = {str(fold): scores.summary for fold, scores in self.folds.items()}
        return {
            "schema": 1,
            "model": str(self.model),
            "report": str(self.page),
            "seconds": self.seconds,
            "folds": folds,
            "remarks": list(self.remarks),
            "initial": None if self.initial is None else self.initial.to_json(),
            "cross_validation": None if self.cross_validation is None else self.cross_validation.to_json(),
        }


def train(dataset: Path, run: Path, request: TrainRequest, *, progress: Progress = ignore) -> TrainReport:
    """Train on a data set; leave plan, folds, model and report in `run`.

    With a budget the whole command keeps to it, validation and writing included; of several folds on one device each
    gets an equal part. All folds together are also judged, and the model tidies as that shows
    (`medseg.workflows.cross_validation`); on several devices they are trained side by side. `resume` goes on with the
    plan the run began with; settings may still change it, to more epochs for instance.

    Raises
    ------
    InputError, PlanError
        Where the data cannot be used, or recipe and data contradict each other.
    OutputError
        Where `run` holds something, or holds nothing to resume.
    MedsegError
        Where a fold of several fails; the others are finished first, and the model holds them.
    Cancelled
        Where `progress` asked to stop; ``last/`` can be resumed.
    """
    started = time.monotonic() if request.started is None else request.started
    folder = RunFolder(run)
    if request.rank == 0:
        folder.require_free(resume=request.resume, overwrite=request.overwrite)
        if request.overwrite and request.init is not None:
            folder.require_outside(request.init)
    training_precision(request.precision, hardware.resolve_device(request.plan.device))  # refuses what cannot be had
    folds = _folds_asked(request)
    data, plan, content = _planned(dataset, folder, request, progress)
    folds = folds or tuple(range(len(data.splits) or plan.train.folds))
    for fold in folds:
        data.split(fold, n_folds=plan.train.folds)  # refuses a fold that does not exist
    devices = devices_for(request, len(folds)) if request.fold == ALL else (request.plan.device,)
    begun = _start(plan, folder, request, folds=folds, content=content)
    if request.rank == 0:  # only now that the run can start is anything of an earlier one touched
        folder.begin(begun.plan, resume=request.resume)
        begun.write(folder.initial, progress=progress)
    rounds = rounds_of(len(folds), len(devices))
    job = FoldJob(folder, request, data, begun, rounds=rounds, judged=request.fold == ALL)
    if request.rank:
        job.train(folds[0], devices[0], begun=started, progress=progress)
        return TrainReport(folder.model, folder.report, {}, time.monotonic() - started)
    record = _Record(job, content, folds, progress=progress)
    record.take_all(devices, started)
    validation = record.finish()
    scores = {fold: masks.scores for fold, masks in record.masks.items()}
    seconds = time.monotonic() - started
    return TrainReport(folder.model, folder.report, scores, seconds, record.remarks, begun.report, validation)


class _Record:
    """What a training command has brought about so far, and what it leaves of it: model and page."""

    def __init__(self, job: FoldJob, content: str, folds: tuple[int, ...], *, progress: Progress) -> None:
        self.job, self.content, self.folds, self.progress = job, content, folds, progress
        self.folder, self.request, self.data, self.plan = job.folder, job.request, job.data, job.plan
        self.remarks = left_out(job.data, progress=progress)
        self.seconds: dict[int, float] = {}
        self.masks: dict[int, FoldMasks] = {}
        self.errors: dict[int, MedsegError] = {}

    def take_all(self, devices: tuple[str, ...], begun: float) -> None:
        """Train and validate every fold; write the model of those that are trained whenever there is another."""
        if len(devices) == 1:
            how = one_after_another(self.job, self.folds, begun=begun, trained=self.trained, progress=self.progress)
        else:
            how = side_by_side(self.job, self.folds, devices, begun=begun, progress=self.progress)
        with closing(how) as outcomes:
            for outcome in outcomes:
                if outcome.masks is not None:
                    self.masks[outcome.fold] = outcome.masks
                    if outcome.fold not in self.seconds:
                        self.trained(outcome.fold, outcome.seconds)
                if outcome.error is not None:
                    self.errors[outcome.fold] = outcome.error
        self.masks = dict(sorted(self.masks.items()))

    def trained(self, fold: int, seconds: float) -> None:
        """Take note of a trained member, and write the model of all there are."""
        self.seconds[fold] = seconds
        self._save()

    def finish(self) -> CrossValidation | None:
        """Judge all folds together, where all were asked for; write model and page.

        Raises
        ------
        MedsegError
            Where a fold failed: which one and why, after what the others achieved was written.
        """
        validation = None
        if self.job.judged and not self.errors:
            notes = self._never_held_out()
            out = self.folder.cross_validation
            validation = cross_validate(self.plan, self.masks, out, notes=notes, progress=self.progress)
        if self.masks:
            self._save(validation)
            self.write_page(validation)
        if self.errors:
            raise self._failure()
        return validation

    def _save(self, validation: CrossValidation | None = None) -> None:
        """Write the model folder of the members trained by this command, and by those before it on other folds."""
        folds = [fold for fold in self.folder.folds if fold in self.seconds or fold not in self.folds]
        members = {fold: load_checkpoint(self.folder.fold(fold) / "last").average for fold in folds}
        plan = self.plan if validation is None else tidied(self.plan, validation.chosen)
        save_model(self.folder.model, plan=plan, members=members, card=self._card(validation))

    def _never_held_out(self) -> list[str]:
        held_out = {case.id for masks in self.masks.values() for case in masks.cases}
        left = sum(case.id not in held_out for case in self.data.cases)
        words = f"{left} cases are held out in no fold of the data set's own split; they are not scored."
        return [words] if left else []

    def _failure(self) -> MedsegError:
        """Return the first fold's error with all that failed named; of a single fold asked for, its own."""
        fold, error = next(iter(self.errors.items()))
        if not self.job.judged:
            return error
        others = "".join(f"; so did fold {n}: {e.found}" for n, e in self.errors.items() if n != fold)
        kept = f"The model holds folds {', '.join(map(str, self.masks))}" if self.masks else "No fold was trained"
        return type(error)(
            f"fold {fold} failed: {error.found}{others}",
            expected=error.expected,
            where=error.where,
            remedy=f"{error.remedy.rstrip('.')}. {kept}; --resume goes on with the others".removeprefix(". "),
        )

    def write_page(self, validation: CrossValidation | None) -> None:
        """Write the page about the run."""
        plan = self.plan
        facts = {
            "Data": f"{self.data.name}, {len(self.data.cases)} cases of {self.data.patients} patients",
            "Folds": len(self.data.splits) or plan.train.folds,
            "Network": f"{plan.network.kind}, {plan.network.dimensions}-D",
            "Patch": " × ".join(map(str, plan.train.patch_size)),
            "Trained for": f"{sum(self.seconds.values()):.0f} s",
            "Machine": _machine(self.request.plan.device),
        }
        facts |= {} if self.job.judged else {"Post-processing": _AS_PLANNED}
        facts |= {"Started from": plan.initial.in_words} if plan.initial else {}
        facts |= {"Left out": " ".join(self.remarks)} if self.remarks else {}
        rows = {f"fold_{fold}": _log_rows(self.folder.fold(fold)) for fold in self.folder.folds}
        metrics = {f"fold_{fold}": masks.scores.document for fold, masks in self.masks.items()}
        together = None if validation is None else validation.scores.document
        page = training_report(rows, facts=facts, metrics=metrics, cross_validation=together, plan_text=plan.to_yaml())
        write_text(self.folder.report, page)

    def _card(self, validation: CrossValidation | None) -> Card:
        parts = [masks.scores for masks in self.masks.values()]
        metrics = _mean_of([scores.card_metrics() for scores in parts])
        words = f"the held-out cases of fold {', '.join(map(str, self.masks))}, by its own member" if parts else ""
        return Card(
            name=self.data.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            medseg=__version__,
            data=DataNote(name=self.data.name, sha256=self.content, cases=len(self.data.cases)),
            initial=self.plan.initial,
            modalities=self.plan.channels,
            metrics=metrics if validation is None else validation.scores.card_metrics(),
            metrics_of=words if validation is None else validation.in_words,
            postprocessing={} if validation is None else validation.evidence,
            training_seconds=sum(self.seconds.values()),
            hardware=_machine(self.request.plan.device),
        )


def _planned(dataset: Path, folder: RunFolder, request: TrainRequest, progress: Progress) -> tuple[Dataset, Plan, str]:
    """Return the data set, the plan to train by (the run's own where it has one), and the data's hash."""
    if request.resume or request.rank:
        plan = folder.read_plan()
        data = with_patients(open_dataset(dataset, channels=plan.channels), progress=progress)
        data = with_labels(data, progress=progress)
        require_same_labels(plan, data, where=str(folder.plan), begun=True)
        return data, resumed(plan, request.plan.settings), dataset_sha256(data.cases)
    proposal = make_plan(dataset, _sharing(request, _unended(request)), progress=progress)
    return proposal.dataset, proposal.plan, proposal.fingerprint.content_sha256


def _start(plan: Plan, folder: RunFolder, request: TrainRequest, *, folds: tuple[int, ...], content: str) -> Start:
    """Return where the run starts: the weights asked for, for every fold without a checkpoint."""
    return start(
        plan,
        request.init,
        inflate=request.inflate,
        folds=[fold for fold in folds if not (request.resume and folder.can_go_on(fold))],
        began_with=folder.read_plan() if request.resume else None,
        content=content,
    )


def _unended(request: TrainRequest) -> PlanRequest:
    """Let only the budget end a run that has one, unless a person also said how many epochs there are."""
    asked = request.plan
    if request.budget_s is None or asked.recipe.endswith((".yaml", ".yml")):
        return asked
    named = any(setting.partition("=")[0].strip() == "train.epochs" for setting in asked.settings)
    if named or read_recipe(asked.recipe).train.epochs != "auto":
        return asked
    return replace(asked, settings=(*asked.settings, f"train.epochs={ENDLESS_EPOCHS}"))


def _sharing(request: TrainRequest, asked: PlanRequest) -> PlanRequest:
    """Plan for a part of the free memory where folds share it: on a CPU."""
    if request.fold != ALL or request.devices == 1 or asked.memory or hardware.resolve_device(asked.device) != "cpu":
        return asked
    return replace(asked, memory=str(hardware.free_memory_bytes("cpu") // request.devices))


def _folds_asked(request: TrainRequest) -> tuple[int, ...]:
    """Return the folds asked for; none where all were."""
    if request.fold == ALL:
        if request.nodes > 1:
            raise PlanError("several machines train one fold at a time", expected="--fold N with --nodes")
        return ()
    if not request.fold.isdecimal():
        raise PlanError(f"{request.fold!r} is no fold", expected="a number from 0, or all")
    return (int(request.fold),)


def _machine(device: str) -> str:
    about = hardware.describe_machine()
    return about["gpu"] if hardware.resolve_device(device) != "cpu" else f"{about['cores']}; {about['processor']}"


def _mean_of(tables: list[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """Return the mean over folds of every label's metrics."""
    means: dict[str, dict[str, float | None]] = {}
    for label in tables[0] if tables else {}:
        means[label] = {}
        for metric in tables[0][label]:
            known = [value for table in tables if (value := table[label][metric]) is not None]
            means[label][metric] = sum(known) / len(known) if known else None
    return means


def _log_rows(fold: Path) -> list[dict[str, str]]:
    with (fold / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
