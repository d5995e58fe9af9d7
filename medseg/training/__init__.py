"""Training: prepared cases and a plan become weights.

Examples
--------
The verb, with cases that `prepare_dataset` has brought to the plan's grid::

    result = train(plan, training, validation, folder=run / "fold_0", settings=TrainSettings(budget_s=480))
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import OutputError
from medseg.progress import ignore
from medseg.tiling import window_starts
from medseg.training.engine import make_engine
from medseg.training.loop import Samplers, TrainResult, TrainSettings, run_training
from medseg.training.patches import PatchSampler
from medseg.training.record import EpochRow
from medseg.training.replay import ReplaySampler
from medseg.training.store import PreparedCase, PreparedStore, prepare_dataset
from medseg.transforms.augment import Augmentation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from medseg.plan import Plan
    from medseg.progress import Progress
    from medseg.training.feed import Sampler

__all__ = [
    "EpochRow",
    "PatchSampler",
    "PreparedCase",
    "PreparedStore",
    "TrainResult",
    "TrainSettings",
    "prepare_dataset",
    "train",
]


def train(
    plan: Plan,
    training: PreparedStore,
    validation: PreparedStore,
    *,
    folder: Path,
    settings: TrainSettings | None = None,
    progress: Progress = ignore,
) -> TrainResult:
    """Train one member of a model and return its weights; `folder` keeps ``log.csv``, ``last/`` and ``best/``.

    Parameters
    ----------
    plan : Plan
        Everything decided.
    training, validation : PreparedStore
        The fold's cases on the plan's grid. Validation may be empty; it decides nothing but ``best/``.
    folder : Path
        The fold's folder.
    settings : TrainSettings, optional
        Device, budget, resuming.
    progress : Progress
        Told every step; may raise `Cancelled`.

    Raises
    ------
    OutputError
        Where `folder` holds a run and this one does not resume it.
    InputError
        Where there is nothing to resume from, or it is of another plan.
    PlanError
        Where the loss stops being a number, or the plan contradicts itself.
    Cancelled
        Where the person stopped the run.
    """
    settings = settings or TrainSettings()
    if not settings.resume and any((folder / name).exists() for name in ("last", "log.csv")):
        raise OutputError(
            "the folder holds a training run",
            expected="an empty folder",
            where=str(folder),
            remedy="Go on with --resume, or start again with --overwrite",
        )
    engine = make_engine(settings.device, devices=settings.devices, nodes=settings.nodes, precision=settings.precision)
    engine.launch()
    seed = int(np.random.SeedSequence((plan.train.seed, engine.global_rank)).generate_state(1)[0])
    samplers = Samplers(
        training=_sampler(plan, training, settings.replay, seed=seed),
        validation=PatchSampler(validation, plan.train, seed=plan.train.seed) if len(validation) else None,
    )
    settings = replace(settings, windows_after=settings.windows_after or _windows(plan, validation))
    return run_training(plan, samplers, engine=engine, folder=folder, settings=settings, progress=progress)


def _sampler(plan: Plan, training: PreparedStore, replay: PreparedStore | None, *, seed: int) -> Sampler:
    """Return what draws patches for training: of the fold's cases, and the plan's share of those replayed."""
    size = Augmentation(plan).extract_size
    new = PatchSampler(training, plan.train, seed=seed, extract_size=size)
    if replay is None or not len(replay):
        return new
    old = PatchSampler(replay, plan.train, seed=seed + 1, extract_size=size)
    return ReplaySampler(new, old, share=plan.train.replay)


def _windows(plan: Plan, cases: Iterable[PreparedCase]) -> int:
    """Return how many windows segmenting all cases takes."""
    sides, overlap = plan.train.patch_size, plan.infer.overlap
    return sum(
        math.prod(len(window_starts(n, side, overlap=overlap)) for n, side in zip(case.shape, sides, strict=True))
        for case in cases
    )
