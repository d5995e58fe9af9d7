"""Rules of structures: which name is which label, and what a voxel in several structures is."""

from __future__ import annotations

import pytest

from medseg.errors import InputError, PlanError
from medseg.labels import LabelSet
from medseg.rois import RoiRules, name_of_pattern

TWO = LabelSet.from_names({1: "liver", 2: "tumour"})
NESTED = RoiRules(
    LabelSet.from_names({1: "edema", 2: "necrosis", 3: "enhancing"}),
    regions=(("whole*", (1, 2, 3)), ("core*", (2, 3)), ("TC", (2, 3)), ("enhancing*", (3,))),
)


def taken(rules: RoiRules, *names: str) -> dict[str, str]:
    patterns = [pattern for pattern, _ in rules.regions or rules.patterns]
    return {names[structure]: patterns[rule] for structure, rule in rules.assign(names).taken}


def test_letters_with_marks_are_equal_however_they_are_stored() -> None:
    labels = LabelSet.from_names({1: "x"})
    assert RoiRules(labels, (("Lebér_GRÜN*", 1),)).assign(["Lebe\u0301r_gru\u0308n 2"]).taken == ((0, 0),)


def test_case_and_blanks_do_not_count_and_wildcards_do() -> None:
    rules = RoiRules(TWO, (("Liver", 1), ("GTV_?*", 2), ("tum[ou]*r", 2)))
    assert taken(rules, " LIVER ", "gtv_1", "Tumor", "GTV_") == {
        " LIVER ": "Liver",
        "gtv_1": "GTV_?*",
        "Tumor": "tum[ou]*r",
    }
    assert rules.assign(["GTV_", "gtv_1"]).unmapped == ("GTV_",)
    assert rules.assign(["gtv_1"]).missing == ("liver",)


def test_a_whole_name_goes_before_wildcards() -> None:
    rules = RoiRules(TWO, (("liver*", 1), ("liver tumour", 2), ("dose [Gy]", 2)))
    assert taken(rules, "Liver tumour", "dose [gy]") == {"Liver tumour": "liver tumour", "dose [gy]": "dose [Gy]"}


def test_a_name_that_two_labels_claim_is_refused_naming_the_patterns() -> None:
    with pytest.raises(InputError, match=r"'GTVn' fits 'GTV\*' and '\*n'"):
        RoiRules(TWO, (("GTV*", 1), ("*n", 2))).assign(["GTVn"])
    assert RoiRules(TWO, (("GTV*", 1), ("*n", 1))).assign(["GTVn"]).taken == ((0, 0),)


def test_zero_leaves_out_knowingly() -> None:
    rules = RoiRules(TWO, (("liver", 1), ("body", 0)))
    found = rules.assign(["BODY", "couch"])
    assert (found.taken, found.unmapped) == ((), ("couch",))
    assert rules.take(["body"]) == ()
    with pytest.raises(InputError, match="no structure is for a label: 'couch'"):
        rules.take(["body", "couch"])


def test_structures_come_in_the_order_of_the_rules() -> None:
    rules = RoiRules(TWO, (("b*", 1), ("a*", 2)))
    assert rules.assign(["a1", "b1", "a2", "b2"]).taken == ((1, 0), (3, 0), (0, 1), (2, 1))


def test_overlap_is_refused_naming_the_pair_unless_an_order_is_declared() -> None:
    patterns = (("liver", 1), ("liver right", 1), ("tumour", 2))
    with pytest.raises(InputError, match="'liver' and 'tumour' overlap") as error:
        RoiRules(TWO, patterns).label_of([0, 1, 2], ["liver", "liver right", "tumour"])
    assert "later wins" in error.value.remedy
    assert RoiRules(TWO, patterns).label_of([0, 1], ["liver", "liver right"]) == 1
    assert RoiRules(TWO, patterns, overlap="later wins").label_of([0, 2], ["liver", "tumour"]) == 2


def test_a_voxel_has_the_label_of_exactly_its_regions() -> None:
    assert [NESTED.label_of(r, ["x"] * len(r)) for r in ([0], [0, 1], [0, 2], [0, 1, 2], [0, 1, 3])] == [1, 2, 2, 2, 3]
    with pytest.raises(InputError, match="'core' and in no other region"):
        NESTED.label_of([1], ["core"])
    assert NESTED.assign(["whole tumour", "tc"]).missing == ("enhancing*",)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"patterns": (("a", 3),)}, "'a' is for 3"),
        ({"patterns": ((" ", 1),)}, "is for"),
        ({"patterns": (("a", 1),), "regions": (("b", (1,)),)}, "both rois and regions"),
        ({"regions": (("b", (1,)),)}, "tumour is in no region"),
        ({"regions": (("b", (1, 2)),)}, "tumour is covered by the same regions as liver"),
        ({"threshold": 0.0}, "threshold is 0"),
        ({"threshold": float("nan")}, "threshold"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(more: dict, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        RoiRules(TWO, **more)


def test_what_decides_a_mask_is_told() -> None:
    assert RoiRules(TWO, (("a", 1),)).to_json() != RoiRules(TWO, (("a", 2),)).to_json()
    assert RoiRules(TWO, (("a", 1),)).to_json() != RoiRules(TWO, (("a", 1),), overlap="later wins").to_json()
    assert NESTED.to_json()["regions"][1] == ["core*", [2, 3]]


@pytest.mark.parametrize(("pattern", "name"), [("GTV_Mass*", "GTV_Mass"), ("*_liver-[ab]?", "liver"), ("??", "")])
def test_a_label_is_called_as_its_pattern_without_wildcards(pattern: str, name: str) -> None:
    assert name_of_pattern(pattern) == name
