"""Which cases are of one patient: as the data set says it, else as the headers of DICOM do.

What the headers say is compared in memory, as hashes; findings and groups speak of cases alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.datasets.each import for_each
from medseg.datasets.findings import DatasetFinding, finding
from medseg.io import is_dicom
from medseg.io.dicom import origin_of
from medseg.progress import ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.case import Case, Dataset
    from medseg.io.dicom import Origin
    from medseg.progress import Progress

_SHOWN = 6


def with_patients(dataset: Dataset, *, progress: Progress = ignore) -> Dataset:
    """Return the data set with all cases of one DICOM study in one group, so that no split parts them.

    A group that the data set names stays as it is, and takes in the cases of its study that have none.
    """
    origins = for_each(origin_of_case, dataset.cases, stage="patients", progress=progress)
    groups = groups_of(dataset.cases, origins)
    cases = tuple(replace(case, group=group) for case, group in zip(dataset.cases, groups, strict=True))
    return replace(dataset, cases=cases)


def origin_of_case(case: Case) -> Origin | None:
    """Return the marks of the study and patient a case is of; ``None`` where its image is no DICOM."""
    return origin_of(case.images[0]) if is_dicom(case.images[0]) else None


def groups_of(cases: Sequence[Case], origins: Sequence[Origin | None]) -> tuple[str, ...]:
    """Return the group of each case: its own, else one for all cases of its study.

    Examples
    --------
    >>> from pathlib import Path
    >>> from medseg.case import Case
    >>> from medseg.io.dicom import Origin
    >>> cases = [Case(name, (Path(name),)) for name in ("ct", "mr", "other")]
    >>> groups_of(cases, [Origin("s", "p"), Origin("s", "p"), Origin("t", "p")])
    ('ct', 'ct', 'other')
    """
    of_study: dict[str, str] = {}
    pairs = [(case, origin.study if origin is not None else "") for case, origin in zip(cases, origins, strict=True)]
    for case, study in sorted(pairs, key=lambda pair: (_is_alone(pair[0]), pair[0].group)):
        of_study.setdefault(study, case.group)
    return tuple(of_study[study] if study and _is_alone(case) else case.group for case, study in pairs)


def patient_findings(cases: Sequence[Case], origins: Sequence[Origin | None]) -> list[DatasetFinding]:
    """Return which cases count as one patient by their study, and which of one patient are in several groups."""
    groups = groups_of(cases, origins)
    of_study: dict[str, list[int]] = defaultdict(list)
    of_patient: dict[str, list[int]] = defaultdict(list)
    for n, origin in enumerate(origins):
        if origin is not None:
            of_study[origin.study].append(n)
            of_patient[origin.patient or origin.study].append(n)
    of_study.pop("", None)
    of_patient.pop("", None)
    split = {tuple(members) for members in (*of_patient.values(), *of_study.values()) if _groups(members, groups) > 1}
    joined = [members for members in of_study.values() if any(groups[n] != cases[n].group for n in members)]
    return [
        *(_split(_names(members, cases)) for members in sorted(split)),
        *(_joined(_names(members, cases)) for members in joined if _groups(members, groups) == 1),
    ]


def _is_alone(case: Case) -> bool:
    return case.group == case.id


def _groups(members: Iterable[int], groups: Sequence[str]) -> int:
    return len({groups[n] for n in members})


def _names(members: Iterable[int], cases: Sequence[Case]) -> str:
    names = [cases[n].id for n in members]
    listed = ", ".join(names[:_SHOWN])
    return f"{listed} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else listed


def _split(names: str) -> DatasetFinding:
    remedy = (
        "Give them one value in the column 'group' of a CSV table, or a model may be validated on a patient it was "
        "trained on; right if all patients were given one id"
    )
    return finding(
        "split-patient", f"the headers of the cases {names} name one patient, but they are in several groups", remedy
    )


def _joined(names: str) -> DatasetFinding:
    remedy = "Nothing to do, or name their groups in the column 'group' of a CSV table"
    return finding("one-patient", f"the cases {names} are of one study, so they count as one patient", remedy)
