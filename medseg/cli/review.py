"""The command that opens a review, and says what came of it."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import Printer
from medseg.cli.options import Json
from medseg.errors import PlanError


def review(
    folder: Annotated[
        Path, typer.Argument(help="An output folder of segment, a data set, or a folder of masks (with --images).")
    ],
    *,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Where the scans are: the INPUT that segment was given. Remembered for the next time."),
    ] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who reviews. Default: the name of the account.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Print the queue; open no window.")] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Write accepted and fixed cases as a training set.")
    ] = None,
    agreement: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Dice against another review, or a folder of masks.")
    ] = None,
    json: Json = False,
) -> None:
    """Judge masks case by case in napari, the least confident first; or print, compare or export what was judged."""
    from medseg.workflows import review as verb

    if sum((status, export is not None, agreement is not None)) > 1:
        raise PlanError("several of --status, --export and --agreement were given", expected="one of them")
    printer = Printer(as_json=json)
    request = verb.ReviewRequest(reviewer or _account(), tuple(images or ()))
    if export is not None:
        with printer.progress() as progress:
            report = verb.export_reviewed(folder, export, request, progress=progress)
        left = ", ".join(f"{count} {word}" for word, count in report.left_out.items())
        printer.say(f"{len(report.cases)} cases written to {export}; left out: {left}.")
        printer.document(report.to_json())
        return
    if agreement is not None:
        with printer.progress() as progress:
            found = verb.agreement(folder, agreement, request, progress=progress)
        printer.table(
            "Agreement", ("case", "label", "Dice"), [*found.rows, *(("mean", *m) for m in found.means().items())]
        )
        printer.document(found.to_json())
        return
    if status or json:
        queue = verb.status(folder, request)
        columns = ("case", "status", "confidence", "flags", "version", "by", "reason")
        printer.table(str(folder), columns, queue.rows())
        printer.say(queue.sentence())
        printer.document(queue.to_json())
        raise typer.Exit(2 if queue.fault else 0)
    raise typer.Exit(verb.start_window(folder, request))


def _account() -> str:
    """Return the name of the account this runs under; without one a name must be given."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return ""
