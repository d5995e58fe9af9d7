"""Labels of data sets that name none: found by looking into the masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.datasets.each import for_each
from medseg.errors import InputError
from medseg.io import read_segmentation
from medseg.labels import LabelSet
from medseg.progress import ignore

if TYPE_CHECKING:
    from medseg.case import Case, Dataset
    from medseg.progress import Progress


def with_labels(dataset: Dataset, *, progress: Progress = ignore) -> Dataset:
    """Return the data set with labels; those it lacks are called ``label_<value>``, one for each value in its masks.

    Raises
    ------
    InputError
        Where a mask cannot be read, or no mask holds anything.
    """
    if len(dataset.labels):
        return dataset
    ids = sorted(set().union(*for_each(_ids, dataset.cases, stage="labels", progress=progress)))
    if not ids:
        raise InputError("no mask holds a label", where=str(dataset.root))
    return replace(dataset, labels=LabelSet.from_names({i: f"label_{i}" for i in ids}))


def _ids(case: Case) -> set[int]:
    return set(read_segmentation(case.reference).labels.ids) if case.reference else set()
