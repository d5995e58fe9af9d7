"""What training leaves out of SEG and RTSTRUCT references: structures for no label, and labels without a structure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from medseg.datasets.each import for_each
from medseg.datasets.reading import rules_of
from medseg.io import structure_names
from medseg.progress import ignore

if TYPE_CHECKING:
    from medseg.case import Case, Dataset
    from medseg.progress import Progress
    from medseg.rois import Assignment

_SHOWN = 8


def left_out(dataset: Dataset, *, progress: Progress = ignore) -> tuple[str, ...]:
    """Return what the references hold that no label is made of, and labels that structures are missing for.

    Parameters
    ----------
    dataset : Dataset
        With labels.
    progress : Progress
        Told after every case.

    Raises
    ------
    InputError
        Where a reference cannot be read.
    """
    found = for_each(lambda case: _assigned(case, dataset), dataset.cases, stage="structures", progress=progress)
    drawn = [assigned for assigned in found if assigned is not None]
    unmapped = Counter(name for assigned in drawn for name in dict.fromkeys(assigned.unmapped))
    missing = Counter(name for assigned in drawn for name in assigned.missing)
    sentences = []
    if unmapped:
        sentences.append(f"Structures for no label, learned as background: {_listed(unmapped)}.")
    if missing:
        sentences.append(f"Labels without a structure: {_listed(missing)}.")
    return tuple(sentences)


def _assigned(case: Case, dataset: Dataset) -> Assignment | None:
    rules = rules_of(case.rules, dataset.labels)
    names = structure_names(case.reference) if case.reference is not None else None
    return None if names is None or rules is None else rules.assign(names)


def _listed(counts: Counter[str]) -> str:
    entries = [f"{name!r} ({count} case{'s' if count > 1 else ''})" for name, count in counts.most_common(_SHOWN)]
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return ", ".join(entries) + more
