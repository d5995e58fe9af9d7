"""Validation: segment a fold's held-out cases with the fold's own member, and score them."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from medseg import evaluation, networks
from medseg.batch import BatchOptions, run_cases
from medseg.batch.journal import NAME as JOURNAL
from medseg.datasets import read_case
from medseg.errors import OutputError
from medseg.inference import Segmenter, hardware
from medseg.io.atomic import write_text
from medseg.progress import Progress, ignore
from medseg.report import evaluation_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.case import Case
    from medseg.evaluation import Evaluation
    from medseg.plan import Plan

_CARD_METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
_SAFETY = 1.25  # of the measured time after training, as cases differ


@dataclass(frozen=True, slots=True)
class FoldScores:
    """What `evaluate` made of cases and of each case, and the document it wrote of it."""

    evaluation: Evaluation
    document: dict[str, Any]

    @property
    def summary(self) -> dict[str, Any]:
        """Means and intervals per label."""
        summary: dict[str, Any] = self.document["summary"]
        return summary

    def rows(self) -> list[tuple[object, ...]]:
        """Return label, mean Dice, its interval and the number of cases, the mean over labels last."""
        rows: list[tuple[object, ...]] = []
        for name, metrics in self.summary.items():
            if name != "overall":
                dice = metrics["dice"]
                interval = "–" if dice["ci95"] is None else f"{dice['ci95'][0]:.3f} to {dice['ci95'][1]:.3f}"
                rows.append((name, dice["mean"], interval, dice["n"]))
        return rows

    def card_metrics(self) -> dict[str, dict[str, float | None]]:
        """Return the means a model's card tells, per label."""
        return {
            name: {metric: metrics[metric]["mean"] for metric in _CARD_METRICS}
            for name, metrics in self.summary.items()
            if name != "overall"
        }


def validate(segmenter: Segmenter, cases: Sequence[Case], out: Path, *, progress: Progress = ignore) -> FoldScores:
    """Segment `cases` into the output folder `out`, score them against their references, write ``metrics.json``.

    Masks that an earlier run made of the same cases with the same member stay, where their files are whole.

    Raises
    ------
    OutputError
        Where `out` cannot be written.
    """
    _segment(segmenter, cases, out, progress)
    scores = evaluation.evaluate(out, referenced(cases), labels=segmenter.plan.labels, progress=progress)
    return write_scores(scores, out)


def referenced(cases: Sequence[Case]) -> dict[str, Case]:
    """Return the cases that have a reference, by id."""
    return {case.id: case for case in cases if case.reference is not None}


def write_scores(scores: Evaluation, out: Path, more: Mapping[str, Any] | None = None) -> FoldScores:
    """Write ``metrics.json`` (with `more` in it), ``metrics.csv`` and ``evaluation.html`` into a folder."""
    document = scores.to_json() | dict(more or {})
    write_text(out / "metrics.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_text(out / "metrics.csv", scores.to_csv())
    write_text(out / "evaluation.html", evaluation_report(document))
    return FoldScores(scores, document)


def _segment(segmenter: Segmenter, cases: Sequence[Case], out: Path, progress: Progress) -> None:
    """Segment what an earlier run has not; all of it where that left other cases or a damaged journal."""
    if (out / JOURNAL).is_file():
        ids = {case.id for case in cases}
        options = BatchOptions(instances="none", resume=True)
        if all(path.name in ids for path in out.iterdir() if path.is_dir()):
            with suppress(OutputError):
                run_cases(segmenter, cases, out=out, options=options, progress=progress)
                return
    run_cases(segmenter, cases, out=out, options=BatchOptions(instances="none", overwrite=True), progress=progress)


def after_training_s(plan: Plan, cases: Sequence[Case], *, device: str) -> float:
    """Return the time that validating `cases` will take beside the network: measured on the first of them.

    A network of random weights segments the case, and its reference is scored against itself.
    """
    if not cases:
        return 0.0
    path = hardware.resolve_path(device, "auto", patch_voxels=math.prod(plan.train.patch_size))
    network = networks.build(plan.network, len(plan.channels), len(plan.labels) + 1).eval()
    started = time.perf_counter()
    volume, reference = read_case(cases[0], labels=plan.labels, channels=plan.channels)
    segmenter = Segmenter(plan, [network.to(device=path.device, dtype=path.dtype)], path=path)
    with torch.inference_mode():
        result = segmenter.segment(volume)
    evaluation.score_case(reference, reference)
    elapsed = time.perf_counter() - started - result.seconds["network"]
    return _SAFETY * elapsed * len(cases)
