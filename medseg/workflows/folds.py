"""The folds of a run: each trained and validated, one after another or side by side on several devices."""

from __future__ import annotations

import logging
import math
import multiprocessing
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from medseg import __version__
from medseg.errors import MedsegError, ModelError, PlanError
from medseg.inference import Segmenter, hardware
from medseg.model import Card, DataNote, save_model
from medseg.progress import Cancelled, Progress, Step, ignore
from medseg.training import PreparedStore, TrainSettings, prepare_dataset
from medseg.training import train as train_member
from medseg.training.checkpoint import load_checkpoint
from medseg.workflows.cross_validation import FoldMasks, judging_s, trials_of
from medseg.workflows.validation import after_training_s, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from multiprocessing.context import SpawnProcess

    from medseg.case import Case, Dataset
    from medseg.plan import Plan
    from medseg.training.watching import Watch
    from medseg.workflows.initial import Start
    from medseg.workflows.run_folder import RunFolder
    from medseg.workflows.train import TrainRequest

WRITING_S = 5.0  # of a budget, for model, card and page
_TOLD_S = 0.5  # between two reports of a process
_PATIENCE_S = 20.0  # for a process that was told to stop
_log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """The time that training a member took, over all its tries, and what is to be said of it."""

    seconds: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoldJob:
    """What training and validating a fold takes, in whichever process.

    Attributes
    ----------
    folder, request, data, start
        The run's folder, what was asked, the data set, and where the run starts from.
    rounds : int
        How many folds follow each other on one device; each has an equal part of the budget.
    judged : bool
        Whether the folds' masks will be judged together.
    replayed : tuple of Case
        Cases of another data set that are learned from besides.
    """

    folder: RunFolder
    request: TrainRequest
    data: Dataset
    start: Start
    rounds: int = 1
    judged: bool = False
    replayed: tuple[Case, ...] = ()

    @property
    def plan(self) -> Plan:
        """What is trained by."""
        return self.start.plan

    @property
    def siblings(self) -> int:
        """How many folds are trained beside each other."""
        return self.request.devices if self.judged else 1

    def set_up(self) -> None:
        """Make this process what the command's own is."""
        if self.request.set_up is not None:
            self.request.set_up()

    def prepare(self, *, progress: Progress = ignore) -> None:
        """Bring every case to the plan's grid, where no earlier run has."""
        prepare_dataset(self.data.cases, self.plan, self.folder.prepared, progress=progress)

    def train(self, fold: int, device: str, *, begun: float, progress: Progress = ignore) -> Trained:
        """Train one member, or go on with it; leave ``fold_N/last``."""
        request, plan = self.request, self.plan
        training, validation = self.data.split(fold, n_folds=plan.train.folds)
        store = prepare_dataset((*training, *validation), plan, self.folder.prepared, progress=progress)
        held_out = {case.id for case in validation}
        result = train_member(
            plan,
            PreparedStore(tuple(case for case in store if case.id not in held_out)),
            PreparedStore(tuple(case for case in store if case.id in held_out)),
            folder=self.folder.fold(fold),
            settings=TrainSettings(
                device=device,
                precision=request.precision,
                devices=1 if self.judged else request.devices,
                nodes=request.nodes,
                budget_s=None if request.budget_s is None else request.budget_s / self.rounds,
                started=begun,
                reserve_s=self._reserve_s(fold, device) if request.budget_s else 0.0,
                resume=request.resume and self.folder.can_go_on(fold),
                initial=self.start.weights(fold),
                workers=request.workers,
                siblings=self.siblings,
                deterministic=request.deterministic,
                watch=self._watch(),
                replay=self._replay(progress),
            ),
            progress=progress,
        )
        return Trained(result.seconds, result.remarks)

    def _watch(self) -> Watch:
        """Return who watches; MLflow's files lie in the run folder unless a place is named."""
        place = self.request.watch.tracking_uri or (self.folder.root.resolve() / "mlruns").as_uri()
        return replace(self.request.watch, tracking_uri=place)

    def _replay(self, progress: Progress) -> PreparedStore | None:
        """Return the cases to replay, prepared as the others are."""
        return (
            prepare_dataset(self.replayed, self.plan, self.folder.prepared, progress=progress)
            if self.replayed
            else None
        )

    def validate(self, fold: int, device: str, *, progress: Progress = ignore) -> FoldMasks:
        """Segment and score the fold's held-out cases with its own member; what was segmented before is kept."""
        _, cases = self.data.split(fold, n_folds=self.plan.train.folds)
        place = self.folder.fold(fold)
        with tempfile.TemporaryDirectory(prefix=".member.", dir=place) as scratch:
            self._save_member(fold, Path(scratch) / "model")
            segmenter = Segmenter.load(Path(scratch) / "model", device=device)
        out = place / "validation"
        scores = validate(segmenter, cases, out, progress=progress)
        trials = trials_of(out, cases, self.plan.labels, progress=progress) if self.judged else {}
        return FoldMasks(cases, out, scores, trials)

    def _save_member(self, fold: int, folder: Path) -> None:
        """Write a model of one member: its hash is of the plan and these weights alone, whatever other folds do."""
        card = Card(
            name=self.data.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            medseg=__version__,
            data=DataNote(name=self.data.name),
            modalities=self.plan.channels,
        )
        weights = load_checkpoint(self.folder.fold(fold) / "last").average
        save_model(folder, plan=self.plan, members={fold: weights}, card=card)

    def _reserve_s(self, fold: int, device: str) -> float:
        """Return the time to keep for what follows: validation, and this fold's part of judging all of them."""
        _, cases = self.data.split(fold, n_folds=self.plan.train.folds)
        reserve = after_training_s(self.plan, cases, device=device) + WRITING_S
        if self.judged and cases:
            reserve += judging_s(self.plan, cases[0]) * (len(cases) + len(self.data.cases) / self.rounds)
        return reserve


@dataclass(frozen=True, slots=True)
class FoldOutcome:
    """How a fold ended: the time of its training and its masks, or why it failed; and what is to be said of it."""

    fold: int
    seconds: float = 0.0
    masks: FoldMasks | None = None
    error: MedsegError | None = None
    remarks: tuple[str, ...] = ()


def devices_for(request: TrainRequest, folds: int) -> tuple[str, ...]:
    """Return the devices that folds are trained on side by side; one where they follow each other.

    Raises
    ------
    PlanError, ModelError
        Where a single device was named, or there are not as many.
    """
    asked, count = request.plan.device, request.devices
    if count == 1:
        return (asked,)
    device = hardware.resolve_device(asked)
    if device == "cpu":
        return ("cpu",) * min(count, folds)
    if ":" in device:
        raise PlanError(f"--device {device} names one device, and --devices {count}", expected="--device cuda or auto")
    if count > torch.cuda.device_count():
        raise ModelError(f"there are {torch.cuda.device_count()} CUDA devices", expected=f"{count}, as --devices says")
    return tuple(f"cuda:{number}" for number in range(min(count, folds)))


def rounds_of(folds: int, devices: int) -> int:
    """Return how many folds follow each other on one device.

    Examples
    --------
    >>> rounds_of(5, 1), rounds_of(5, 2), rounds_of(5, 5)
    (5, 3, 1)
    """
    return math.ceil(folds / devices)


def one_after_another(
    job: FoldJob, folds: Sequence[int], *, begun: float, trained: Callable[[int, float], None], progress: Progress
) -> Generator[FoldOutcome, None, None]:
    """Train and validate folds in this process; `trained` is told a fold, and its time, before it is validated.

    A fold that fails does not keep the others from being trained.
    """
    device = job.request.plan.device
    for number, fold in enumerate(folds):
        try:
            done = job.train(fold, device, begun=begun if number == 0 else time.monotonic(), progress=progress)
            trained(fold, done.seconds)
            masks = job.validate(fold, device, progress=progress)
            yield FoldOutcome(fold, done.seconds, masks, remarks=done.remarks)
        except MedsegError as error:
            yield FoldOutcome(fold, error=error)


def side_by_side(
    job: FoldJob, folds: Sequence[int], devices: Sequence[str], *, begun: float, progress: Progress
) -> Generator[FoldOutcome, None, None]:
    """Train and validate folds in child processes, one on each device at a time, and yield each when it has ended.

    A fold that fails, or whose process dies, does not keep the others from being trained. When this process is told to
    stop, so are the others; what is whole of them stays.

    Raises
    ------
    Cancelled
        Where the person stopped the run.
    """
    job.prepare(progress=progress)  # once, and not by each of them
    children: dict[Connection, _Child] = {}
    waiting, free, ended = list(folds), list(devices), 0
    threads = max(1, torch.get_num_threads() // len(devices))
    try:
        while waiting or children:
            while waiting and free:
                child = _Child.start(job, waiting.pop(0), free.pop(0), begun=begun, threads=threads)
                children[child.connection] = child
            ready = wait(list(children), timeout=_TOLD_S)
            for connection in [one for one in children if one in ready]:
                outcome = children[connection].heard()
                if outcome is not None:
                    free.append(children.pop(connection).device)
                    ended, begun = ended + 1, time.monotonic()
                    yield outcome
            progress(_together(children.values(), ended, len(folds)))
    except (KeyboardInterrupt, Cancelled) as stop:
        words = f"stopped; {job.folder.root} holds what each fold had finished: go on with --resume"
        raise Cancelled(words) from stop
    finally:
        _stop(children.values())


@dataclass(slots=True)
class _Child:
    """A process that trains a fold, seen from the one that started it."""

    fold: int
    device: str
    process: SpawnProcess
    connection: Connection
    step: Step = field(default_factory=lambda: Step("start"))
    hundredths: int = 0

    @classmethod
    def start(cls, job: FoldJob, fold: int, device: str, *, begun: float, threads: int) -> _Child:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks, and cannot use CUDA
        ours, theirs = context.Pipe(duplex=False)
        arguments = (job, fold, device, begun, threads, theirs)
        process = context.Process(target=_work, args=arguments, name=f"fold {fold}")
        process.start()
        theirs.close()
        return cls(fold, device, process, ours)

    def heard(self) -> FoldOutcome | None:
        """Take in what the process said; return how the fold ended, once it has."""
        try:
            said = self.connection.recv()
        except (EOFError, OSError):
            said = None
        if isinstance(said, Step):
            self.step = said
            if said.stage == "train" and said.total:
                self.hundredths = 100 * said.done // said.total
            return None
        self.process.join()
        self.connection.close()
        return said if isinstance(said, FoldOutcome) else FoldOutcome(self.fold, error=_died(self.process.exitcode))


def _work(job: FoldJob, fold: int, device: str, begun: float, threads: int, connection: Connection) -> None:
    """Train and validate a fold in a process of its own, and say how that went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the person's Ctrl-C reaches all; the first process tells the others
    signal.signal(signal.SIGTERM, _interrupt)
    torch.set_num_threads(threads)
    job.set_up()
    progress = _Telling(connection)
    try:
        done = job.train(fold, device, begun=begun, progress=progress)
        outcome = FoldOutcome(fold, done.seconds, job.validate(fold, device, progress=progress), remarks=done.remarks)
    except (Cancelled, KeyboardInterrupt):
        return
    except MedsegError as error:
        outcome = FoldOutcome(fold, error=error)
    except (MemoryError, torch.OutOfMemoryError):
        outcome = FoldOutcome(fold, error=ModelError("there is not enough memory", remedy=_LESS))
    except Exception as error:  # noqa: BLE001 - the rim of this process: the others go on
        _log.debug("fold %s", fold, exc_info=error)
        found = f"an unexpected {type(error).__name__}; this is a fault of medseg"
        outcome = FoldOutcome(
            fold, error=MedsegError(found, remedy=f"Run --fold {fold} alone with --debug to see where")
        )
    with suppress(OSError):  # where nobody listens any more
        connection.send(outcome)


_LESS = "Use smaller patches or batches, or fewer --devices on one machine"


def _died(code: int | None) -> MedsegError:
    how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
    remedy = f"Signal {signal.SIGKILL.value} mostly means that memory ran out. {_LESS}"
    return ModelError(f"its process ended {how}", expected="a trained member", remedy=remedy)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


class _Telling:
    """Progress of a process, told to the one that started it now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._last = connection, -math.inf

    def __call__(self, step: Step, /) -> None:
        now = time.monotonic()
        if now - self._last < _TOLD_S:
            return
        self._last = now
        try:
            self._connection.send(step)
        except OSError as error:
            raise Cancelled("the process that started this one is gone") from error


def _together(children: Any, ended: int, total: int) -> Step:
    """Return one line for all folds: how many hundredths are done, and where each is.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> step = _together([SimpleNamespace(fold=1, step=Step("train", 5, 10, "epoch 3"), hundredths=50)], 1, 2)
    >>> step.done, step.total, step.message
    (150, 200, 'fold 1: train 5/10 epoch 3')
    """
    words = []
    for child in sorted(children, key=lambda one: one.fold):
        step = child.step
        amount = f" {step.done}/{step.total}" if step.total else ""
        words.append(f"fold {child.fold}: {step.stage}{amount} {step.message}".rstrip())
    done = 100 * ended + sum(child.hundredths for child in children)
    return Step("folds", done, 100 * total, "; ".join(words))


def _stop(children: Any) -> None:
    """End the processes that are still at work, with time to leave their folders whole."""
    for child in children:
        child.process.terminate()
    until = time.monotonic() + _PATIENCE_S
    for child in children:
        child.process.join(max(0.0, until - time.monotonic()))
        if child.process.is_alive():
            child.process.kill()
            child.process.join()
        child.connection.close()
