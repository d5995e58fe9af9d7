"""train: from a data set to a validated model folder, within a wall-clock budget if one is given."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medseg import __version__
from medseg.datasets import dataset_sha256, left_out, open_dataset, with_labels, with_patients
from medseg.errors import PlanError
from medseg.inference import Segmenter, hardware
from medseg.io.atomic import write_text
from medseg.model import Card, DataNote, save_model
from medseg.plan import read_recipe
from medseg.progress import Progress, ignore
from medseg.report import training_report
from medseg.training import PreparedStore, TrainSettings, prepare_dataset
from medseg.training import train as train_member
from medseg.training.checkpoint import load_checkpoint
from medseg.training.engine import training_precision
from medseg.training.events import END, EventLog
from medseg.training.watching import Watch
from medseg.workflows.initial import gentler, start
from medseg.workflows.plan import PlanRequest, make_plan, require_same_labels
from medseg.workflows.replay import replay_cases, with_replay
from medseg.workflows.resumed import resumed
from medseg.workflows.run_folder import RunFolder
from medseg.workflows.validation import FoldScores, after_training_s, validate

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.case import Case, Dataset
    from medseg.plan import Plan
    from medseg.training.initial import InitReport
    from medseg.workflows.initial import Start
    from medseg.workflows.replay import ReplayRequest

ENDLESS_EPOCHS = 1_000_000  # of a run that only its budget ends
WRITING_S = 5.0  # of a budget, for model, card and page


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """How to train: the plan to make, the folds, what to start from, the time and the machine.

    `init` is where weights to start from lie, `inflate` whether 2-D ones may become 3-D (`medseg.training.initial`),
    `replay` another data set to learn from besides, `watch` who watches beside ``log.jsonl``.
    `started` is when the command began, on `time.monotonic`; now, where it is not given. `rank` is 0 but in the other
    processes of a training by several.
    """

    plan: PlanRequest = field(default_factory=PlanRequest)
    fold: str = "0"
    init: Path | None = None
    inflate: bool = False
    replay: ReplayRequest | None = None
    deterministic: bool = False
    watch: Watch = field(default_factory=Watch)
    budget_s: float | None = None
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"
    resume: bool = False
    overwrite: bool = False
    started: float | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Where model and page are, how each fold scored, what was left out of the references, where weights came from."""

    model: Path
    page: Path
    folds: dict[int, FoldScores]
    seconds: float
    remarks: tuple[str, ...] = ()
    initial: InitReport | None = None

    def rows(self) -> list[tuple[object, ...]]:
        """Return one row per fold and label, and each fold's mean."""
        return [(fold, *row) for fold, scores in self.folds.items() for row in scores.rows()]

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
        }


def train(dataset: Path, run: Path, request: TrainRequest, *, progress: Progress = ignore) -> TrainReport:
    """Train on a data set; leave plan, folds, model and report in `run`.

    With a budget the whole command keeps to it, validation and writing included; each of several folds gets an equal
    part. `resume` goes on with the plan the run began with; settings may still change it, to more epochs for instance.

    Raises
    ------
    InputError, PlanError
        Where the data cannot be used, or recipe and data contradict each other.
    OutputError
        Where `run` holds something, or holds nothing to resume.
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
    request.watch.chosen()  # likewise
    folds = _folds_asked(request)
    data, plan, content = _planned(dataset, folder, request, progress)
    folds = folds or tuple(range(len(data.splits) or plan.train.folds))
    for fold in folds:
        data.split(fold, n_folds=plan.train.folds)  # refuses a fold that does not exist
    plan = with_replay(plan, request.replay, begun=request.resume or request.rank > 0)
    replayed = replay_cases(request.replay, plan, progress=progress)
    begun = _start(plan, folder, request, folds=folds, content=content)
    if request.rank == 0:  # only now that the run can start is anything of an earlier one touched
        folder.begin(begun.plan, resume=request.resume)
        begun.write(folder.initial, progress=progress)
    job = _Run(folder, request, data, start=begun, content=content, progress=progress)
    job.replayed = replayed
    scores: dict[int, FoldScores] = {}
    for fold in folds:
        fold_started = started if fold == folds[0] else time.monotonic()
        job.train_fold(fold, begun=fold_started, share=len(folds))
        if request.rank == 0:
            job.save(scores)
            scores[fold] = job.validate_fold(fold)
    if request.rank == 0:
        job.save(scores)
        job.write_page(scores)
    return TrainReport(folder.model, folder.report, scores, time.monotonic() - started, job.remarks, begun.report)


class _Run:
    """One training command on its run folder."""

    def __init__(
        self, folder: RunFolder, request: TrainRequest, data: Dataset, *, start: Start, content: str, progress: Progress
    ) -> None:
        self.folder, self.request, self.data, self.plan, self.content = folder, request, data, start.plan, content
        self.start, self.progress = start, progress
        self.remarks = left_out(data, progress=progress)
        self.trained_s = 0.0
        self.replayed: tuple[Case, ...] = ()

    def train_fold(self, fold: int, *, begun: float, share: int) -> None:
        """Train one member, or go on with it; leaves ``fold_N/last``."""
        request, plan = self.request, self.plan
        training, validation = self.data.split(fold, n_folds=plan.train.folds)
        store = prepare_dataset((*training, *validation), plan, self.folder.prepared, progress=self.progress)
        held_out = {case.id for case in validation}
        reserve = after_training_s(plan, validation, device=request.plan.device) if request.budget_s else 0.0
        place = self.folder.fold(fold)
        result = train_member(
            plan,
            PreparedStore(tuple(case for case in store if case.id not in held_out)),
            PreparedStore(tuple(case for case in store if case.id in held_out)),
            folder=place,
            settings=TrainSettings(
                device=request.plan.device,
                precision=request.precision,
                devices=request.devices,
                nodes=request.nodes,
                budget_s=None if request.budget_s is None else request.budget_s / share,
                started=begun,
                reserve_s=reserve + WRITING_S,
                resume=request.resume and self.folder.can_go_on(fold),
                initial=self.start.weights(fold),
                deterministic=request.deterministic,
                watch=self._watch(),
                replay=self._replay(),
            ),
            progress=self.progress,
        )
        self.trained_s += result.seconds

    def _watch(self) -> Watch:
        """Return who watches; MLflow's files lie in the run folder unless a place is named."""
        place = self.request.watch.tracking_uri or (self.folder.root.resolve() / "mlruns").as_uri()
        return replace(self.request.watch, tracking_uri=place)

    def _replay(self) -> PreparedStore | None:
        """Return the cases to replay, prepared as the others are."""
        if not self.replayed:
            return None
        return prepare_dataset(self.replayed, self.plan, self.folder.prepared, progress=self.progress)

    def validate_fold(self, fold: int) -> FoldScores:
        """Segment and score the fold's held-out cases with its own member."""
        _, cases = self.data.split(fold, n_folds=self.plan.train.folds)
        segmenter = Segmenter.load(self.folder.model, device=self.request.plan.device, members=(fold,))
        return validate(segmenter, cases, self.folder.fold(fold) / "validation", progress=self.progress)

    def save(self, scores: dict[int, FoldScores]) -> None:
        """Write the model folder of every member trained so far in this run folder."""
        members = {fold: load_checkpoint(self.folder.fold(fold) / "last").average for fold in self.folder.folds}
        save_model(self.folder.model, plan=self.plan, members=members, card=self._card(scores))

    def write_page(self, scores: dict[int, FoldScores]) -> None:
        """Write the page about the run."""
        plan = self.plan
        facts = {
            "Data": f"{self.data.name}, {len(self.data.cases)} cases of {self.data.patients} patients",
            "Folds": len(self.data.splits) or plan.train.folds,
            "Network": f"{plan.network.kind}, {plan.network.dimensions}-D",
            "Patch": " × ".join(map(str, plan.train.patch_size)),
            "Trained for": f"{self.trained_s:.0f} s",
            "Machine": _machine(self.request.plan.device),
        }
        facts |= {"Started from": plan.initial.in_words} if plan.initial else {}
        if plan.train.replay:
            facts["Replayed"] = (
                f"{len(self.replayed)} cases of another data set, {plan.train.replay:.0%} of the patches"
            )
        facts |= {"Left out": " ".join(self.remarks)} if self.remarks else {}
        rows = {f"fold_{fold}": _log_rows(self.folder.fold(fold)) for fold in self.folder.folds}
        metrics = {f"fold_{fold}": fold_scores.document for fold, fold_scores in scores.items()}
        endings = {f"fold_{fold}": _ending(self.folder.fold(fold)) for fold in self.folder.folds}
        page = training_report(rows, facts=facts, metrics=metrics, plan_text=plan.to_yaml(), endings=endings)
        write_text(self.folder.report, page)

    def _card(self, scores: dict[int, FoldScores]) -> Card:
        tables = [fold_scores.card_metrics() for fold_scores in scores.values()]
        return Card(
            name=self.data.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            medseg=__version__,
            data=DataNote(name=self.data.name, sha256=self.content, cases=len(self.data.cases)),
            initial=self.plan.initial,
            modalities=self.plan.channels,
            metrics=_mean_of(tables),
            training_seconds=self.trained_s,
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
    proposal = make_plan(dataset, _unended(request), progress=progress)
    return proposal.dataset, proposal.plan, proposal.fingerprint.content_sha256


def _start(plan: Plan, folder: RunFolder, request: TrainRequest, *, folds: tuple[int, ...], content: str) -> Start:
    """Return where the run starts: the weights asked for, for every fold without a checkpoint."""
    begun = start(
        plan,
        request.init,
        inflate=request.inflate,
        folds=[fold for fold in folds if not (request.resume and folder.can_go_on(fold))],
        began_with=folder.read_plan() if request.resume else None,
        content=content,
    )
    if request.resume or request.rank:
        return begun
    return gentler(
        begun,
        rate_is_asked=request.plan.names_optimizer("learning_rate"),
        warmup_is_asked=request.plan.names_optimizer("warmup"),
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


def _folds_asked(request: TrainRequest) -> tuple[int, ...]:
    """Return the folds asked for; none where all were."""
    if request.fold == "all":
        if request.devices * request.nodes > 1:
            raise PlanError("several devices train one fold at a time", expected="--fold N with --devices or --nodes")
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


def _ending(fold: Path) -> str:
    """Return why a fold's training ended, as its log says."""
    events = EventLog(fold / "log.jsonl").read()
    return next((str(event.get("reason", "")) for event in reversed(events) if event["event"] == END), "")


def _log_rows(fold: Path) -> list[dict[str, str]]:
    with (fold / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
