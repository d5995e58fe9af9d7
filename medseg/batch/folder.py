"""The output folder of a batch: whether a run may use it, and what is taken away before it does."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from medseg.batch.journal import NAME as JOURNAL
from medseg.batch.manifest import NAME as MANIFEST
from medseg.batch.outputs import holds_only_outputs, require_formats
from medseg.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.batch.options import BatchOptions

REPORT = "report.html"


def require_startable(out: Path, options: BatchOptions) -> None:
    """Refuse formats that need what is not installed, and an output folder that holds what this run may not touch."""
    require_formats(options.formats)
    if out.exists() and not out.is_dir():
        raise OutputError("there is a file of this name", expected="a folder", where=str(out))
    if not out.exists() or not any(out.iterdir()):
        return
    if not (options.resume or options.overwrite):
        raise OutputError(
            "the output folder is not empty",
            where=str(out),
            remedy="Pass --resume to do what is left, --overwrite to start again, or name another folder",
        )
    if not (out / JOURNAL).is_file():
        raise OutputError(
            "the folder holds something medseg segment did not write", where=str(out), remedy="Name another folder"
        )


def make_folder(out: Path) -> None:
    """Make the output folder where it is not there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be made ({error.strerror})", where=str(out)) from error


def tidy(out: Path, *, everything: bool) -> None:
    """Take away what a crash left, and with `everything` what earlier runs wrote: what holds nothing but outputs."""
    try:
        for partial in out.glob(".*.partial"):
            shutil.rmtree(partial)
        if not everything:
            return
        for folder in out.iterdir():
            if folder.is_dir() and not folder.is_symlink() and holds_only_outputs(folder):
                shutil.rmtree(folder)
        for name in (MANIFEST, REPORT):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be used ({error.strerror})", where=str(out)) from error
