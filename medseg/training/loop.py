"""The training loop: epochs of steps, a look at validation patches, a checkpoint, a row in the log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from medseg.errors import PlanError
from medseg.progress import Cancelled, Step
from medseg.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from medseg.training.clock import Clock
from medseg.training.determinism import deterministic, same_threads
from medseg.training.engine import own_random_state
from medseg.training.feed import Feed
from medseg.training.learner import Learner
from medseg.training.optim import learning_rate
from medseg.training.record import EpochRow, epochs_without_gain, write_log
from medseg.training.scoring import PatchScore
from medseg.training.waits import Waits
from medseg.training.watching import Watch, Watching
from medseg.training.words import epoch_in_words, step_in_words
from medseg.training.workers import how_many
from medseg.transforms.augment import plain_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lightning_fabric import Fabric
    from torch import Tensor

    from medseg.plan import Plan
    from medseg.progress import Progress
    from medseg.training.feed import Sampler
    from medseg.training.store import PreparedStore
    from medseg.training.watching import Pictures

BATCHES_AHEAD = 4
"""On a GPU; a CPU makes each batch when it is due, as threads would only take the cores the network computes on."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a run is carried out: everything that is not in the plan.

    Attributes
    ----------
    device, precision : str
        See `medseg.training.engine.make_engine`.
    devices, nodes : int
        Processes per machine, and machines.
    budget_s : float, optional
        Wall time of the whole command, over all its tries; it shapes the schedule.
    started : float, optional
        `time.monotonic` when the command began; now, where it is not given.
    reserve_s : float
        Time of the budget to set aside for what follows training, the network's own apart.
    windows_after : int
        Windows the network will see after training; their time, as measured on validation patches, is set aside too.
    resume : bool
        Go on from ``last/``.
    initial : mapping, optional
        Weights to begin with.
    workers : int or "auto"
        Processes that make batches; ``auto`` goes by cores and free memory (`medseg.training.workers.how_many`). They
        are spawned: a program of your own that asks for some needs the guard ``if __name__ == "__main__"``.
    siblings : int
        Trainings beside each other on this machine, this one included: they share its cores and memory.
    deterministic : bool
        See `medseg.training.determinism.deterministic`.
    watch : Watch
        Who watches beside ``log.jsonl``.
    replay : PreparedStore, optional
        Cases that the plan's share of the patches comes from.
    """

    device: str = "auto"
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    budget_s: float | None = None
    started: float | None = None
    reserve_s: float = 0.0
    windows_after: int = 0
    resume: bool = False
    initial: Mapping[str, Tensor] | None = None
    workers: int | Literal["auto"] = 0
    siblings: int = 1
    deterministic: bool = False
    watch: Watch = field(default_factory=Watch)
    replay: PreparedStore | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run gave: averaged weights of its last step (float32, CPU), amounts, one row per epoch, and remarks."""

    weights: Mapping[str, Tensor]
    epochs: int
    steps: int
    seconds: float
    history: tuple[EpochRow, ...]
    precision: str
    remarks: tuple[str, ...] = ()


class Samplers(NamedTuple):
    """Where patches come from.

    Attributes
    ----------
    training : Sampler
        Patches of `Augmentation.extract_size`.
    validation : Sampler or None
        Patches of the plan's size; without them nothing is scored and no ``best/`` is kept.
    """

    training: Sampler
    validation: Sampler | None


def run_training(
    plan: Plan, samplers: Samplers, *, engine: Fabric, folder: Path, settings: TrainSettings, progress: Progress
) -> TrainResult:
    """Train the plan's network and leave ``log.csv``, ``log.jsonl``, ``last/`` and ``best/`` in `folder`.

    Parameters
    ----------
    plan : Plan
        Everything decided.
    samplers : Samplers
        Where patches come from.
    engine : Fabric
        What `make_engine` made, launched.
    folder : Path
        The fold's folder.
    settings : TrainSettings
        How the run is carried out.
    progress : Progress
        Told every step; may raise `Cancelled`.

    Raises
    ------
    InputError
        Where there is nothing to resume from, or it is of another plan.
    PlanError
        Where the loss stops being a number, or an operation has no deterministic form where that is wanted.
    Cancelled
        Where the person stopped the run, saying what is left.
    """
    processes = settings.devices * settings.siblings
    workers = how_many(settings.workers, plan, device=engine.device.type, processes=processes)
    ahead = 0 if engine.device.type == "cpu" else BATCHES_AHEAD
    with (
        plain_tensors(),
        own_random_state(plan.train.seed),
        deterministic(wanted=settings.deterministic),
        Feed(samplers.training, plan, rank=engine.global_rank, ahead=ahead, workers=workers) as feed,
        Watching(folder, settings.watch, active=engine.is_global_zero) as watching,
    ):
        learner = Learner(plan, feed, engine=engine, initial=settings.initial)
        score = None if samplers.validation is None else PatchScore(samplers.validation, plan)
        run = _Run(plan, learner, engine=engine, watching=watching, settings=settings, score=score)
        run.begin()
        try:
            while not run.finished:
                run.epoch(progress)
        except (KeyboardInterrupt, Cancelled) as stop:
            raise Cancelled(run.left_behind()) from stop
    return TrainResult(
        weights=learner.weights(),
        epochs=len(run.history),
        steps=learner.steps,
        seconds=run.clock.spent_s,
        history=tuple(run.history),
        precision=engine.strategy.precision.precision,
        remarks=tuple(filter(None, (feed.remark, run.waits.remark()))),
    )


class _Run:
    """A learner's way from the first step to the last."""

    def __init__(
        self,
        plan: Plan,
        learner: Learner,
        *,
        engine: Fabric,
        watching: Watching,
        settings: TrainSettings,
        score: PatchScore | None,
    ) -> None:
        self.plan, self.learner, self.engine, self.score = plan, learner, engine, score
        self.folder, self.settings, self.watching = watching.folder, settings, watching
        total = plan.train.epochs * plan.train.steps_per_epoch
        started = time.monotonic() if settings.started is None else settings.started
        self.clock = Clock(total, settings.budget_s, started, reserve_s=settings.reserve_s)
        self.history: list[EpochRow] = []
        self.finished = False
        self.waits = Waits()

    def begin(self) -> None:
        """Go back to ``last/``, or write the first one, so that a run can be resumed whenever it stops."""
        if self.settings.resume:
            checkpoint = load_checkpoint(self.folder / "last")
            self.learner.restore(checkpoint)
            self.clock.load_state_dict(checkpoint.state["clock"])
            self.history = [EpochRow.from_state(row) for row in checkpoint.state["history"]]
            if self.settings.deterministic:
                same_threads(checkpoint.state)
            self.finished = self._is_over() or self._has_stalled()
        else:
            self._save()
        self._write_log()
        self.watching.begin(self._about(), [row.to_json(self.plan.labels.names) for row in self.history])

    def epoch(self, report: Progress) -> None:
        """Take one epoch's steps, look at validation patches, save; ``last/`` is replaced before its row is written."""
        losses: list[float] = []
        labels = self.plan.labels.names
        rate, begun, waited = 0.0, time.monotonic(), self.learner.waited_s
        while len(losses) < self.plan.train.steps_per_epoch and not self.finished:
            rate = learning_rate(self.plan.train.optimizer, self._progress())
            losses.append(self.learner.step(rate))
            if not math.isfinite(losses[-1]):
                raise self._no_number(losses[-1])
            self.finished = self._is_over()
            report(self._where(step_in_words(self.history, losses, time.monotonic() - begun, labels), milestone=False))
        stopped = time.monotonic()
        wait = self.waits.add(self.learner.waited_s - waited, stopped - begun)
        dice = self.score(self.learner.average.network, self.engine) if self.score else ()
        loss = math.fsum(losses) / len(losses)
        number, steps = len(self.history) + 1, self.learner.steps
        row = EpochRow(number, steps, self.clock.spent_s, learning_rate=rate, loss=loss, dice=dice, data_wait=wait)
        self.history.append(replace(row, seconds_per_step=(stopped - begun) / len(losses)))
        self.finished = self.finished or self._has_stalled()
        self._save()
        self._save_if_best()
        self._write_log()
        self.watching.epoch(self.history[-1], labels, self._pictures())
        report(self._where(epoch_in_words(self.history[-1], labels), milestone=True))
        self._set_time_aside(time.monotonic() - stopped)

    def left_behind(self) -> str:
        """Say what a stopped run leaves."""
        return f"stopped; {self.folder / 'last'} holds epoch {len(self.history)}: go on with --resume"

    def _progress(self) -> float:
        """Return the share of the run that is done, the same in every process."""
        return float(self.engine.broadcast(self.clock.progress(self.learner.steps)))

    def _is_over(self) -> bool:
        """Tell whether the run is over by its steps or its time, and note which."""
        is_over = self._progress() >= 1.0
        if is_over:
            by_steps = self.learner.steps >= self.clock.total_steps
            self.watching.reason = "epochs" if by_steps else "budget"
        return is_over

    def _has_stalled(self) -> bool:
        """Tell whether validation has not become better for as many epochs as the plan has patience, and note it."""
        patience = self.plan.train.patience
        if patience is None or not self.engine.broadcast(epochs_without_gain(self.history) >= patience):
            return False
        self.watching.reason = "patience"
        return True

    def _about(self) -> dict[str, Any]:
        """Return what ``log.jsonl`` says of how the fold is trained."""
        settings, train = self.settings, self.plan.train.model_dump(mode="json")
        names = ("devices", "nodes", "budget_s", "deterministic")
        return {
            "device": str(self.engine.device),
            "precision": self.engine.strategy.precision.precision,
            "threads": torch.get_num_threads(),
            **{name: getattr(settings, name) for name in names},
            "train": train,
        }

    def _pictures(self) -> Pictures | None:
        """Return what draws pictures, in epochs 1, 2, 4, 8 and so on, and in the last."""
        number = len(self.history)
        is_due = self.finished or number & (number - 1) == 0
        return self.score.pictures if self.score is not None and is_due else None

    def _where(self, message: str, *, milestone: bool) -> Step:
        """Say where the run stands: in seconds where time ends it, else in steps."""
        left, steps = self.clock.left_s, self.learner.steps
        if left is None or steps >= self.clock.progress(steps) * self.clock.total_steps:
            return Step("train", steps, self.clock.total_steps, message, milestone=milestone)
        trained = self.clock.trained_s
        return Step("train", round(trained), round(trained + left), message, milestone=milestone)

    def _set_time_aside(self, epoch_end_s: float) -> None:
        """Keep time for the end of the last epoch, and for the windows the network will see after training."""
        after = self.settings.windows_after * self.score.seconds_per_patch if self.score else 0.0
        self.clock.reserve_s = self.settings.reserve_s + after + epoch_end_s

    def _save(self) -> None:
        history = [row.to_state() for row in self.history]
        threads = torch.get_num_threads()
        checkpoint = self.learner.checkpoint(clock=self.clock.state_dict(), history=history, threads=threads)
        self._write(self.folder / "last", checkpoint)

    def _save_if_best(self) -> None:
        """Keep the averaged weights of the epoch with the best Dice on validation patches in ``best/``."""
        values = [row.mean_dice or 0.0 for row in self.history]
        if self.score and values[-1] >= max(values):
            weights = self.learner.weights()
            state: dict[str, Any] = {"history": [row.to_state() for row in self.history]}
            self._write(self.folder / "best", Checkpoint(weights, weights, state))

    def _write(self, folder: Path, checkpoint: Checkpoint) -> None:
        if self.engine.is_global_zero:
            save_checkpoint(folder, checkpoint)
        self.engine.barrier()

    def _write_log(self) -> None:
        if self.engine.is_global_zero:
            write_log(self.folder / "log.csv", self.history, self.plan.labels.names)

    def _no_number(self, loss: float) -> PlanError:
        return PlanError(
            f"the loss became {loss} in epoch {len(self.history) + 1}, step {self.learner.steps + 1}",
            expected="a finite number",
            where=", ".join(dict.fromkeys(self.learner.cases)) or str(self.folder),
            remedy="Lower the learning rate (--set train.optimizer.learning_rate=...) or train in --precision fp32; "
            f"last holds epoch {len(self.history)}",
        )
