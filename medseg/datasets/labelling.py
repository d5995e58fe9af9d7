"""Labels of data sets that name none: found by looking into the masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.datasets.each import for_each
from medseg.errors import InputError
from medseg.io import read_segmentation, structure_names
from medseg.io.images import colour_table
from medseg.labels import LabelSet
from medseg.progress import ignore
from medseg.rois import RoiRules, plain_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medseg.case import Case, Dataset
    from medseg.progress import Progress


def with_labels(dataset: Dataset, *, progress: Progress = ignore) -> Dataset:
    """Return the data set with labels; where it names none, they are found in its references.

    Values of masks are called ``label_<value>``, in the colours of the masks' palette where they have one. Structures
    of SEG and RTSTRUCT are called by their names, whatever their numbers: the same name, but for case, is the same
    label in all cases, and ids follow the alphabet.

    Raises
    ------
    InputError
        Where a mask cannot be read, no mask holds anything, or some references have values and others names.
    """
    if len(dataset.labels):
        return dataset
    found = for_each(_named, dataset.cases, stage="labels", progress=progress)
    if any(isinstance(name, str) for names in found for name in names):
        return _by_names(dataset, found)
    ids = sorted({i for ids in found for i in ids if isinstance(i, int)})
    if not ids:
        why = f" but {dataset.ignore}, which is ignored" if dataset.ignore is not None else ""
        remedy = f"Say 'ignore: none' in labels.yaml if {dataset.ignore} is a label" if why else ""
        raise InputError(f"no mask holds a label{why}", where=str(dataset.root), remedy=remedy)
    return replace(dataset, labels=_numbered(ids, dataset))


def _numbered(ids: Iterable[int], dataset: Dataset) -> LabelSet:
    """Return labels named by their ids, in the colours of the first mask's palette where it has one."""
    labels = LabelSet.from_names({i: f"label_{i}" for i in ids})
    first = next((case.reference for case in dataset.cases if case.reference is not None), None)
    table = (colour_table(first) if first is not None else None) or ()
    return LabelSet(
        tuple(replace(label, color=table[label.id]) if label.id < len(table) else label for label in labels)
    )


def rules_by_names(names: Iterable[str]) -> RoiRules:
    """Return the rules by which every structure is a label of its own name.

    Examples
    --------
    >>> rules_by_names(["Tumour", "GTV_2", "tumour "]).patterns
    (('GTV_2', 1), ('Tumour', 2))
    """
    first: dict[str, str] = {}
    for name in sorted(name.strip() for name in names):
        first.setdefault(plain_name(name), name)
    return RoiRules.from_labels(LabelSet.from_names(dict(enumerate((first[key] for key in sorted(first)), start=1))))


def _by_names(dataset: Dataset, found: Iterable[tuple[int | str, ...]]) -> Dataset:
    if any(isinstance(name, int) for names in found for name in names):
        raise InputError(
            "some references are masks of numbers, others have named structures",
            expected="labels that say which number is which name",
            where=str(dataset.root),
            remedy="Put a labels.yaml beside the data, such as 'GTV*: 1'",
        )
    rules = rules_by_names(str(name) for names in found for name in names)
    cases = tuple(replace(case, rules=rules) for case in dataset.cases)
    return replace(dataset, labels=rules.labels, cases=cases)


def _named(case: Case) -> tuple[int | str, ...]:
    """Return the names of a reference's structures, or the values of a mask that has none."""
    if case.reference is None:
        return ()
    names = structure_names(case.reference)
    return read_segmentation(case.reference, ignore=case.ignore).labels.ids if names is None else names
