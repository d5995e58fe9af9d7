"""The commands that plan and train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import process
from medseg.cli.console import Printer
from medseg.cli.options import (
    Deterministic,
    Device,
    Inflate,
    Init,
    Json,
    Memory,
    Recipe,
    Replay,
    Settings,
    Watchers,
    Workers,
    seconds_from,
    words_of,
    workers_of,
)
from medseg.errors import PlanError
from medseg.progress import ignore


def plan(
    dataset: Annotated[Path, typer.Argument(help="A training set in any known layout.")],
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The plan.yaml to write.")] = None,
    recipe: Recipe = "unet3d",
    settings: Settings = None,
    memory: Memory = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print expected time, RAM and disk; write nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Resolve a recipe against a data set and this machine."""
    from medseg.workflows.plan import PlanRequest, make_plan

    if output is None and not dry_run:
        raise PlanError("no place was given to write the plan to", remedy="Give -o plan.yaml, or --dry-run")
    printer = Printer(as_json=json)
    request = PlanRequest(recipe, tuple(settings or ()), memory=memory, device=device, measured=True)
    with printer.progress() as progress:
        proposal = make_plan(dataset, request, progress=progress)
    printer.table("The plan", ("what", "value"), proposal.summary_rows())
    printer.table("What it will take", ("what", "value"), proposal.estimate_rows())
    if output is not None and not dry_run:
        proposal.write(output)
        printer.say(f"Written to {output}.")
    printer.document(proposal.to_json())


def train(
    context: typer.Context,
    dataset: Annotated[Path, typer.Argument(help="A training set in any known layout.")],
    *,
    run: Annotated[Path, typer.Option("-o", "--output", help="The run folder to make.")],
    recipe: Recipe = "unet3d",
    settings: Settings = None,
    fold: Annotated[str, typer.Option(help="A fold's number, or all: cross-validation.")] = "0",
    budget: Annotated[
        str | None, typer.Option(help="Wall time of the whole command, such as 8m; shapes the schedule.")
    ] = None,
    memory: Memory = None,
    device: Device = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Devices to train on: one fold together, all folds side by side.")
    ] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines to train on together.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    workers: Workers = "auto",
    init: Init = None,
    inflate: Inflate = False,
    replay: Replay = None,
    deterministic: Deterministic = False,
    watch: Watchers = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the run folder holds.")] = False,
    json: Json = False,
) -> None:
    """Train a network, validate it on the fold left out, and write a model folder."""
    from medseg.training.watching import Watch
    from medseg.workflows.plan import PlanRequest
    from medseg.workflows.replay import ReplayRequest
    from medseg.workflows.train import TrainRequest
    from medseg.workflows.train import train as verb

    process.settle_training(deterministic=deterministic)
    printer = Printer(as_json=json)
    request = TrainRequest(
        plan=PlanRequest(recipe=recipe, settings=tuple(settings or ()), memory=memory, device=device),
        fold=fold,
        init=init,
        inflate=inflate,
        replay=ReplayRequest.read(replay) if replay else None,
        deterministic=deterministic,
        watch=Watch(words_of(watch), tracking_uri=os.environ.get("MLFLOW_TRACKING_URI")),
        budget_s=seconds_from(budget) if budget else None,
        devices=devices,
        nodes=nodes,
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        started=context.obj,
        rank=_rank(),
        set_up=process.keep_memory,
        workers=workers_of(workers),
    )
    with printer.progress() as progress:
        report = verb(dataset, run, request, progress=ignore if request.rank else progress)
    if request.rank:
        return
    printer.table("Dice on the validation cases", ("fold", "label", "mean", "95 % interval", "cases"), report.rows())
    for line in (*report.remarks, *(report.initial.lines() if report.initial else ())):
        printer.say(line)
    if report.cross_validation:
        printer.say(report.cross_validation.choice_in_words)
    printer.say(f"Model: {report.model}   Report: {report.page}")
    printer.document(report.to_json())


def _rank() -> int:
    """Return this process's number among those that train together, as their launcher tells them; 0 for a lone one."""
    return int(os.environ.get("RANK", "") or os.environ.get("LOCAL_RANK", "") or 0)
