"""Cases and splits: no patient on both sides, on every machine the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.case import Case, Dataset
from medseg.errors import InputError, PlanError
from medseg.labels import LabelSet

LABELS = LabelSet.from_names({1: "a"})


def dataset(groups: dict[str, str], splits: tuple = ()) -> Dataset:
    cases = tuple(Case(i, (Path(f"{i}.nii.gz"),), group=group) for i, group in groups.items())
    return Dataset("d", cases, LABELS, splits=splits)


@pytest.mark.parametrize("case_id", ["", ".", "..", "a/b", "../a", "a\\b", "C:a", "a\nb", "a\0b"])
def test_an_id_that_is_no_folder_name_is_refused(case_id: str):
    with pytest.raises(InputError):
        Case(case_id, (Path("a.nii"),))


def test_a_case_has_an_image_and_a_group():
    with pytest.raises(InputError, match="no image"):
        Case("a", ())
    assert Case("a", (Path("a.nii"),)).group == "a"
    assert Case("a", (Path("a.nii"),), group="p").group == "p"


def test_ids_occur_once_and_are_ordered():
    assert [c.id for c in dataset({"b": "", "a": ""}).cases] == ["a", "b"]
    case = Case("a", (Path("a.nii"),))
    with pytest.raises(InputError, match=r"a occurs twice"):
        Dataset("d", (case, case), LABELS)
    with pytest.raises(InputError, match="no case"):
        Dataset("d", (), LABELS)


@given(
    groups=st.dictionaries(st.text("abcdef123", min_size=1, max_size=4), st.sampled_from("pqrstuvw"), min_size=8),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 100),
)
def test_folds_part_the_patients(groups: dict[str, str], n_folds: int, seed: int):
    data = dataset(groups)
    if len(set(groups.values())) < n_folds:
        with pytest.raises(PlanError, match="cannot be parted"):
            data.split(0, n_folds=n_folds, seed=seed)
        return
    validated = []
    for fold in range(n_folds):
        training, validation = data.split(fold, n_folds=n_folds, seed=seed)
        assert training
        assert validation
        assert {c.id for c in training} | {c.id for c in validation} == set(groups)
        assert not {c.group for c in training} & {c.group for c in validation}
        validated += [c.id for c in validation]
    assert sorted(validated) == sorted(groups)


def test_a_split_depends_on_names_alone():
    ids = {f"case_{i:02d}": "" for i in range(20)}
    forwards, backwards = dataset(ids), dataset(dict(reversed(ids.items())))
    assert forwards.split(3) == backwards.split(3)
    assert forwards.split(0, seed=1) != forwards.split(0, seed=2)
    assert [c.id for c in forwards.split(0)[1]] == ["case_02", "case_06", "case_10", "case_19"]  # on every machine


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_is_not_there(fold: int):
    with pytest.raises(PlanError, match="does not exist"):
        dataset({f"c{i}": "" for i in range(9)}).split(fold)


def test_the_data_sets_own_split_goes_first():
    data = dataset({"a": "p", "b": "q", "c": "r"}, (("a",), ("b", "c")))
    assert [c.id for c in data.split(1)[1]] == ["b", "c"]
    assert [c.id for c in data.split(0)[0]] == ["b", "c"]
    for fold in (-1, 2):
        with pytest.raises(PlanError, match="does not exist"):
            data.split(fold)


def test_an_own_split_that_parts_a_patient_is_refused():
    with pytest.raises(PlanError, match="one patient on both sides"):
        dataset({"a": "p", "b": "p", "c": "q"}, (("a",),)).split(0)


@pytest.mark.parametrize("held_out", [(), ("zzz",), ("a", "b", "c")])
def test_an_own_split_with_an_empty_side_is_refused(held_out: tuple):
    with pytest.raises(PlanError, match="leaves no case"):
        dataset({"a": "", "b": "", "c": ""}, (held_out,)).split(0)
