"""The command that brings in models of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import Printer
from medseg.cli.options import Json, words_of


def import_(
    source: Annotated[
        Path, typer.Argument(help="A trained model folder of nnU-Net v2, one above it, or an export zip.")
    ],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The model folder to make.")],
    configuration: Annotated[
        str | None, typer.Option(help="Such as 3d_fullres, where the folder holds several.")
    ] = None,
    folds: Annotated[str | None, typer.Option(help="Such as 0,1,2, or all; by default all numbered ones.")] = None,
    checkpoint: Annotated[str, typer.Option(help="final or best.")] = "final",
    name: Annotated[str | None, typer.Option(help="What the model is called.")] = None,
    json: Json = False,
) -> None:
    """Make a model folder of a trained nnU-Net v2 model; it gives nnU-Net's masks."""
    from medseg.workflows.nnunet import ImportRequest, import_model

    printer = Printer(as_json=json)
    request = ImportRequest(configuration, words_of(folds) if folds is not None else None, checkpoint, name)
    with printer.progress() as progress:
        report = import_model(source, output, request, progress=progress)
    printer.table("Imported", ("what", "value"), report.rows())
    printer.say(f"Model: {report.model.folder}")
    printer.document(report.to_json())
