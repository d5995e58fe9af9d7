"""inspect and check: what is there, and whether it is sound. Neither needs a network, so neither loads torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.datasets import check_dataset
from medseg.errors import InputError
from medseg.io.dicom import inspect_folder
from medseg.progress import Progress, ignore

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.datasets import DatasetReport
    from medseg.io.dicom import Inventory


def inspect(path: Path, *, deep: bool = False, progress: Progress = ignore) -> Inventory:
    """Return every series, volume and image under `path`.

    Raises
    ------
    InputError
        Where `path` is not there.
    """
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path), remedy="Correct the path")
    return inspect_folder(path, deep=deep, progress=progress)


def check(dataset: Path, *, progress: Progress = ignore) -> DatasetReport:
    """Return what is wrong with a training set, file by file."""
    return check_dataset(dataset, progress=progress)
