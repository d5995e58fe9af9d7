"""Cases of one patient stay together: by the data set's groups, else by the study in DICOM headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.case import Case, Dataset
from medseg.datasets import with_patients
from medseg.datasets.patients import groups_of, patient_findings
from medseg.io.dicom import Origin
from medseg.labels import LabelSet


def cases(*names: str) -> list[Case]:
    """Cases by id, or by ``id:group``."""
    return [Case(name.partition(":")[0], (Path(name),), group=name.partition(":")[2]) for name in names]


def origins(*marks: str) -> list[Origin | None]:
    """Origins by ``study/patient``; ``-`` for an image that is no DICOM."""
    return [None if mark == "-" else Origin(*mark.split("/")) for mark in marks]


@pytest.mark.parametrize(
    ("given", "marks", "wanted", "codes"),
    [
        (["b", "a", "c"], ["s/p", "s/p", "t/q"], ("a", "a", "c"), ["one-patient"]),
        (["a", "b"], ["s/p", "t/q"], ("a", "b"), []),
        (["a", "b"], ["-", "-"], ("a", "b"), []),
        (["a", "b"], ["/", "/"], ("a", "b"), []),
        (["a:g", "b"], ["s/p", "s/p"], ("g", "g"), ["one-patient"]),
        (["a:g", "b:g"], ["s/p", "t/p"], ("g", "g"), []),
        (["a:g", "b:h"], ["s/p", "s/p"], ("g", "h"), ["split-patient"]),
        (["a:g", "b:h"], ["s/p", "s/q"], ("g", "h"), ["split-patient"]),
        (["a", "b"], ["s/p", "t/p"], ("a", "b"), ["split-patient"]),
        (["a", "b", "c"], ["s/p", "s/p", "t/p"], ("a", "a", "c"), ["split-patient", "one-patient"]),
        (["a", "b", "c"], ["s/p", "-", "s/p"], ("a", "b", "a"), ["one-patient"]),
    ],
)
def test_groups(given: list[str], marks: list[str], wanted: tuple[str, ...], codes: list[str]) -> None:
    assert groups_of(cases(*given), origins(*marks)) == wanted
    found = patient_findings(cases(*given), origins(*marks))
    assert [fault.code for fault in found] == codes
    assert all(
        "cases a, b" in fault.message or "cases b, a" in fault.message or "a, c" in fault.message for fault in found
    )


def test_long_lists_are_cut() -> None:
    (found,) = patient_findings(cases(*(f"c{n}" for n in range(20))), origins(*["s/p"] * 20))
    assert "c5 and 14 more" in found.message


def test_two_series_of_one_study_are_on_one_side(test_data: Path) -> None:
    root = test_data / "dicom" / "sarcoma"
    named = [(patient, kind) for patient in ("STS_002", "STS_025") for kind in ("CT", "MR_T1")]
    listed = tuple(Case(f"{p}_{k}", (root / p / "dicom" / k / "image",)) for p, k in named)
    dataset = with_patients(Dataset("sarcoma", listed, LabelSet.from_names({1: "GTV"})))
    assert dataset.patients == 2
    training, validation = dataset.split(0, n_folds=2)
    assert {len({case.id[:7] for case in side}) for side in (training, validation)} == {1}
    assert {case.group for case in dataset.cases} <= {case.id for case in dataset.cases}
