"""A CSV table as references: its cases by the ids that predictions bear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.case import case_name
from medseg.datasets import open_dataset
from medseg.errors import InputError
from medseg.evaluation.pairing import MASK, masks_in
from medseg.io import is_dicom
from medseg.io.dicom import inspect_folder

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from medseg.case import Case

TABLE = ".csv"


def cases_of_table(table: Path, predictions: Path, *, name: str = MASK) -> dict[str, Case]:
    """Return the cases of a table (``id,image,label``) by the ids of their predictions.

    A prediction bears the id of its row, or the one that `segment` gave it: of the series, or of the image's file name.

    Parameters
    ----------
    table : Path
        A CSV file, as a data set for training.
    predictions : Path
        A folder of masks; cases without a prediction keep the id of their row.
    name : str
        What a mask in a folder of its own is called.

    Raises
    ------
    InputError
        Where one of the two cannot be read, or one prediction belongs to several rows.
    """
    found = masks_in(predictions, name=name)
    cases: dict[str, Case] = {}
    for case in open_dataset(table).cases:
        key = case.id if case.id in found else _predicted_id(case, found)
        if key in cases:
            raise InputError(
                f"{cases[key].id} and {case.id} have one image, whose prediction is {key}",
                expected="one row for each image",
                where=str(table),
            )
        cases[key] = case
    return cases


def _predicted_id(case: Case, found: Collection[str]) -> str:
    image = case.images[0]
    names = [item.id for item in inspect_folder(image).items] if is_dicom(image) else [case_name(image.name)]
    return next((name for name in names if name in found), case.id)
