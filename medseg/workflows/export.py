"""export: a model folder in the format of another program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.export import export_model
from medseg.model import load_model
from medseg.progress import Progress, ignore

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.export import Report


def export(model: Path, out: Path, *, format: str, progress: Progress = ignore) -> Report:  # noqa: A002 - the word of the command line
    """Write the model in folder `model` to the folder `out`, as one of ``medseg.inference.exported.FORMATS``.

    Raises
    ------
    PlanError
        Where the format is not known.
    ModelError
        Where the model cannot be used, or not be expressed in the format.
    MissingExtraError
        Where a library the format needs is not installed.
    OutputError
        Where `out` holds something or cannot be written.
    """
    return export_model(load_model(model), out, format=format, progress=progress)
