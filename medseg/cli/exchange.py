"""The commands that bring in models of other programs, and write models for them."""

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


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make, such as MODEL/exports/openvino.")],
    kind: Annotated[str, typer.Option("--format", help="onnx, openvino, torchscript or monai-bundle.")],
    json: Json = False,
) -> None:
    """Write a model in another program's format, with an example and a record of how well both agree."""
    from medseg.workflows.export import export as verb

    printer = Printer(as_json=json)
    with printer.progress() as progress:
        report = verb(model, output, format=kind, progress=progress)
    columns = ("member", "largest difference", "relative", "equal labels", "lowest Dice")
    printer.table("Against PyTorch, float32, on the example", columns, report.rows())
    printer.say(report.verdict)
    printer.say(f"Written to {output}.")
    printer.document(report.to_json())
