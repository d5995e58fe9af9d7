"""The commands: one function each, options as the architecture names them."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from medseg import __version__
from medseg.cli import process
from medseg.cli.console import Printer
from medseg.cli.exchange import export, import_
from medseg.cli.lines import line_of, nothing_found, show_cases, show_items
from medseg.cli.options import (
    AllFrames,
    AnyModality,
    AssumeRegistered,
    Backend,
    Channel,
    Crf,
    Deterministic,
    Device,
    Formats,
    Inflate,
    Init,
    Inputs,
    Instances,
    Json,
    MaxRam,
    Memory,
    OnIrregular,
    OnMosaic,
    OnNonfinite,
    Recipe,
    Replay,
    SegType,
    Select,
    Settings,
    Volume,
    Watchers,
    channels_of,
    rule_of,
    seconds_from,
    words_of,
)
from medseg.errors import MedsegError, PlanError
from medseg.progress import Cancelled, ignore

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, NOT_STARTED, INCOMPLETE, CANCELLED = 0, 1, 2, 130
STOPPED = "Cancelled. What was finished is kept; --resume, where the command has it, does what is left."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Segment CT, MR and X-ray images: train on your data, segment folders of DICOM or NIfTI, measure the result.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no traceback reaches a person unless asked for by ``--debug``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    printer = Printer(as_json="--json" in words)
    process.wait_without_spinning()
    is_limited = any(word.startswith("--max-ram") for word in words)  # what is kept would count
    if words[:1] in (["train"], ["demo"]) or (words[:1] == ["segment"] and not is_limited):
        process.keep_memory()
    begun = process.started() if arguments is None else time.monotonic()
    try:
        command = [word for word in words if word != "--debug"]
        code = int(app(command, standalone_mode=False, prog_name="medseg", obj=begun) or DONE)
        words_left = STOPPED if code == CANCELLED else ""  # typer turns Ctrl-C into a code without a word
    except (Cancelled, KeyboardInterrupt, typer.Abort) as stop:
        code, words_left = CANCELLED, str(stop) or STOPPED
    except Exception as error:  # noqa: BLE001 - the outermost rim: a bug becomes a sentence, with its traceback on request
        if debug and not isinstance(error, TyperException):
            traceback.print_exc()
        code, words_left = NOT_STARTED, _sentence(error)
    if words_left:
        printer.fail(words_left)
    return code


def _sentence(error: Exception) -> str:
    """Return what a person is told of an error; nothing where the help was shown instead."""
    match error:
        case TyperException():
            said = error.format_message().replace("Value error, ", "").rstrip(".")
            context = getattr(error, "ctx", None)
            return f"{said}. Try '{context.command_path if context else 'medseg'} --help'." if said else ""
        case MedsegError():
            return str(error)
        case MemoryError():
            return "there is not enough memory for this. Use smaller patches or batches, or a machine with more."
        case _:
            found = f"an unexpected {type(error).__name__}; this is a fault of medseg"
            return f"{found}. Run again with --debug to see where."


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        Printer().say(__version__)
        raise typer.Exit(DONE)
    if context.invoked_subcommand is None:
        raise typer.Exit(NOT_STARTED)


@app.command()
def doctor(*, json: Json = False) -> None:
    """Say what is installed, what is missing, and what this machine can do."""
    from medseg.workflows.doctor import examine

    printer = Printer(as_json=json)
    report = examine()
    for title, rows in report.sections.items():
        printer.table(title, ("what", "state", "remark"), [(row.what, row.state, row.remark) for row in rows])
        printer.say()
    printer.say(report.verdict)
    printer.document(report.to_json())
    raise typer.Exit(DONE if report.is_usable else NOT_STARTED)


@app.command()
def demo(folder: Annotated[Path, typer.Argument(help="Where to work; made if missing.")] = Path("demo")) -> None:
    """Train on phantoms, segment unseen DICOM series, and show where to look. About three minutes on two cores."""
    from medseg.workflows.demo import run_demo

    printer = Printer()
    with printer.progress() as progress:
        report = run_demo(folder, progress=progress)
    printer.table("Dice on the unseen series", ("label", "mean", "lowest"), report.rows)
    printer.say(f"\nMean Dice {report.mean_dice:.3f} after {report.seconds:.0f} s.")
    printer.say("Look at:")
    for path, what in report.places:
        printer.say(f"  {path}   {what}")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A file, a DICOM series, or a folder of anything.")],
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every voxel, not only headers.")] = False,
    descriptions: Annotated[
        bool, typer.Option("--descriptions", help="Also print what each series is called: it may hold personal data.")
    ] = False,
    json: Json = False,
) -> None:
    """List every series, volume and image under PATH, and whether it can be segmented."""
    from medseg.workflows.data import inspect as verb

    printer = Printer(as_json=json)
    with printer.progress() as progress:
        inventory = verb(path, deep=deep, progress=progress)
    show_items(printer, inventory, descriptions=descriptions)
    printer.document(inventory.to_json())
    statuses = {item.status for item in inventory.items}
    raise typer.Exit(DONE if "refused" not in statuses and statuses & {"ok", "repairable"} else INCOMPLETE)


@app.command()
def check(
    dataset: Annotated[Path, typer.Argument(help="A training set in any known layout.")], *, json: Json = False
) -> None:
    """Lint a training set: pairing, grids, labels, values; names the file and the remedy."""
    from medseg.workflows.data import check as verb

    printer = Printer(as_json=json)
    with printer.progress() as progress:
        report = verb(dataset, progress=progress)
    printer.say(f"{dataset}: {report.layout}, {report.cases} cases")
    for finding in report.findings:
        printer.say(line_of(finding, finding.file or finding.case))
    errors = sum(finding.severity == "error" for finding in report.findings)
    printer.say(f"{errors} errors, {len(report.findings) - errors} warnings and notes.")
    printer.document(report.to_json())
    raise typer.Exit(INCOMPLETE if errors else DONE)


@app.command()
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


@app.command()
def train(
    context: typer.Context,
    dataset: Annotated[Path, typer.Argument(help="A training set in any known layout.")],
    *,
    run: Annotated[Path, typer.Option("-o", "--output", help="The run folder to make.")],
    recipe: Recipe = "unet3d",
    settings: Settings = None,
    fold: Annotated[str, typer.Option(help="A fold's number, or all.")] = "0",
    budget: Annotated[
        str | None, typer.Option(help="Wall time of the whole command, such as 8m; shapes the schedule.")
    ] = None,
    memory: Memory = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Devices to train on together.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines to train on together.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
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
    )
    with printer.progress() as progress:
        report = verb(dataset, run, request, progress=ignore if request.rank else progress)
    if request.rank:
        return
    printer.table("Dice on the validation cases", ("fold", "label", "mean", "95 % interval", "cases"), report.rows())
    for line in (*report.remarks, *(report.initial.lines() if report.initial else ())):
        printer.say(line)
    printer.say(f"Model: {report.model}   Report: {report.page}")
    printer.document(report.to_json())


@app.command()
def segment(
    model: Annotated[Path, typer.Argument(help="A model folder, or an exported one.")],
    inputs: Inputs,
    *,
    out: Annotated[Path, typer.Option("-o", "--output", help="The output folder to make.")],
    formats: Formats = "nifti",
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    backend: Backend = "auto",
    tta: Annotated[bool, typer.Option("--tta", help="Average over mirrored copies: slower, a little better.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="See scans on a coarser grid: quicker, and worse.")] = False,
    crf: Crf = None,
    max_ram: MaxRam = None,
    select: Select = None,
    channel: Channel = None,
    assume_registered: AssumeRegistered = False,
    volume: Volume = None,
    on_irregular: OnIrregular = "refuse",
    mosaic: OnMosaic = "refuse",
    on_nonfinite: OnNonfinite = "refuse",
    any_modality: AnyModality = False,
    seg_type: SegType = "binary",
    all_frames: AllFrames = False,
    instances: Instances = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep finished cases, do the rest.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the output folder holds.")] = False,
    json: Json = False,
) -> None:
    """Segment scans: every file under INPUT ends as done, skipped, refused, failed or ignored, with the reason."""
    from medseg.workflows.segment import SegmentRequest
    from medseg.workflows.segment import segment as verb

    printer = Printer(as_json=json)
    request = SegmentRequest(
        formats=words_of(formats),
        device=device,
        precision=precision,
        backend=backend,
        tta=tta,
        fast=fast,
        crf=crf,
        max_ram=max_ram,
        select=rule_of(select),
        channels=channels_of(channel),
        assume_registered=assume_registered,
        volume=volume,
        on_irregular=on_irregular,
        mosaic=mosaic,
        on_nonfinite=on_nonfinite,
        any_modality=any_modality,
        seg_type=seg_type,
        all_frames=all_frames,
        instances=instances,
        resume=resume,
        overwrite=overwrite,
    )
    with printer.progress() as progress:
        manifest = verb(model, inputs, out, request, progress=progress)
    document = manifest.to_json()
    show_cases(printer, document, out)
    printer.document(document)
    counts = document["counts"]
    if sum(counts.values()) == counts["ignored"]:
        printer.fail(nothing_found(document))
        raise typer.Exit(NOT_STARTED)
    raise typer.Exit(INCOMPLETE if counts["refused"] + counts["failed"] else DONE)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="An output folder of segment, or a folder of masks.")],
    references: Annotated[Path, typer.Argument(help="A folder of reference masks, or a CSV table: id,image,label.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The report folder to make.")],
    compare: Annotated[
        Path | None, typer.Option(help="Another folder of predictions to test against, case by case.")
    ] = None,
    subset: Annotated[bool, typer.Option("--subset", help="References without prediction are not counted.")] = False,
    tolerance_mm: Annotated[float, typer.Option(min=0, help="Tolerance of the surface Dice (NSD).")] = 1.0,
    instances: Annotated[
        bool, typer.Option("--instances", help="The masks hold object numbers: match objects, count, F1 by threshold.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure masks against references: overlap, surface distances and volumes, with intervals."""
    from medseg.workflows.evaluate import EvaluateRequest
    from medseg.workflows.evaluate import evaluate as verb

    printer = Printer(as_json=json)
    request = EvaluateRequest(compare=compare, subset=subset, tolerance_mm=tolerance_mm, instances=instances)
    with printer.progress() as progress:
        report = verb(predictions, references, output, request, progress=progress)
    printer.table("Mean over cases", ("label", "Dice", "IoU", "HD95 mm", "ASSD mm", "NSD", "cases"), report.rows())
    if instances:
        columns = ("IoU above", "F1", "AP", "PQ", "found", "invented", "missed")
        printer.table("Objects of all cases together", columns, report.object_rows())
    for line in report.remarks():
        printer.say(line)
    printer.document(report.to_json())
    raise typer.Exit(INCOMPLETE if report.is_incomplete else DONE)


app.command("import")(import_)
app.command()(export)


def _rank() -> int:
    """Return this process's number among those that train together, as their launcher tells them; 0 for a lone one."""
    return int(os.environ.get("RANK", "") or os.environ.get("LOCAL_RANK", "") or 0)
