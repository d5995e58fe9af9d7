from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import PlanError
from medseg.plan import InferPlan, InferRecipe
from medseg.selection import FIELDS, NUMBERS, TEXTS, WORDS, Condition, Fact, Rule, either, parse

T1: dict[str, Fact] = {
    "id": "mr-12ab",
    "modality": "MR",
    "description": "T1 post GD",
    "protocol": "",
    "body_part": "BRAIN",
    "plane": "axial",
    "kind": "series",
    "spacing": 6.5,
    "pixel": 0.4297,
    "slices": 22.0,
    "volumes": 1.0,
}
NIFTI: dict[str, Fact] = dict.fromkeys(TEXTS, "") | {"id": "a", "kind": "volume", "spacing": None}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", True),
        ("  ", True),
        ("modality=MR", True),
        ("MODALITY = mr", True),
        ("modality=MRI", True),
        ("modality=CT", False),
        ("modality!=CT", True),
        ("description=T1", False),
        ("description='t1 POST gd'", True),
        ('description="T1 post GD"', True),
        ("description~post", True),
        ("description~T1*GD", True),
        ("description~T1?post", True),
        ("description~T2", False),
        ("description!~T2", True),
        ("description~'t1 p'", True),
        ("protocol~T1", False),
        ("protocol!~T1", True),
        ("protocol=''", True),
        ("body_part=Brain", True),
        ("plane=axial", True),
        ("plane=Sagittal", False),
        ("kind!=image", True),
        ("slices>22", False),
        ("slices>=22", True),
        ("slices<=22", True),
        ("slices<22", False),
        ("slices!=22", False),
        ("slices=22.0", True),
        ("spacing>2", True),
        ("spacing<2", False),
        ("spacing <= 6.5", True),
        ("pixel=0.43", True),
        ("pixel!=0.45", True),
        ("modality=MR slices>10", True),
        ("modality=MR slices>30", False),
        ("description~'[T1]'", False),
        ("description~'T[12]'", False),
        ("modality=CT or slices>10", True),
        ("modality=CT OR slices>30", False),
        ("modality=CT slices>10 or modality=MR spacing>5", True),
        ("id~12ab", True),
    ],
)
def test_a_rule_takes_what_it_says(text: str, taken: bool) -> None:
    assert (not parse(text).unmet(T1)) is taken


def test_a_bracket_is_a_letter() -> None:
    facts: dict[str, Fact] = {"description": "AX T2 [FS] 3mm"}
    assert not parse("description~'t2 [fs]'").unmet(facts)
    assert parse("description~'[xf]'").unmet(facts)


def test_what_is_not_known_meets_negations_only() -> None:
    for text in ("modality=MR", "description~a", "spacing<2", "spacing>=0", "spacing=1", "body_part=''  modality=CT"):
        assert parse(text).unmet(NIFTI), text
    for text in ("modality!=MR", "description!~a", "spacing!=2", "body_part=''"):
        assert not parse(text).unmet(NIFTI), text


def test_what_cannot_be_judged_stands_in_nobodys_way() -> None:
    assert parse("modality=CT slices>5").unmet({"id": "x"}) == ()
    assert parse("id=y modality=CT").unmet({"id": "x"}) == (Condition("id", "=", "y"),)


def test_every_alternative_says_what_was_missing() -> None:
    rule = parse("modality=MR slices>30 or modality=CT or description~secret")
    assert [str(c) for c in rule.unmet(T1)] == ["slices>30", "modality=CT", "description~secret"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour=red", "no field 'colour'.*description, protocol, body_part"),
        ("modality", "'modality' is no condition.*such as modality=MR"),
        ("modality=", "'modality=' is no condition"),
        ("modality=MR HCrop", "'HCrop' is no condition"),
        ("modality=MR, slices>3 =2", "'=2' is no condition"),
        ("description='open", r"open.*is no condition.*quotes"),
        ("modality<CT", "modality cannot be compared by <; expected one of = != ~ !~"),
        ("slices~3", "slices cannot be compared by ~"),
        ("plane~axial", "plane cannot be compared by ~"),
        ("plane=diagonal", "no plane 'diagonal'; expected one of axial"),
        ("slices>many", "slices was compared with 'many'; expected a number"),
        ("spacing<nan", "a number"),
        ("spacing<1e999", "a number"),
        ("or", "'or'"),
        ("modality=MR or", "'or'"),
        ("or modality=MR", "'or'"),
        ("modality=MR or or modality=CT", "'or'"),
        ("id=" + "a" * 3000, "3003 characters"),
        ("__import__('os')", "is no condition"),
    ],
)
def test_what_is_no_rule_is_named_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_a_sentence(text: str) -> None:
    try:
        rule = parse(text)
    except PlanError as error:
        said = str(error)
    else:
        said = f"{rule}."
        assert parse(str(rule)) == rule
        assert isinstance(rule.unmet(T1), tuple)
    assert said.endswith(".")


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\"'"), max_size=8) | st.sampled_from(
    ["it's", 'a "b"']
)
CONDITIONS = st.one_of(
    st.builds(Condition, st.sampled_from(TEXTS), st.sampled_from(("=", "!=", "~", "!~")), VALUES),
    st.builds(Condition, st.sampled_from(NUMBERS), st.sampled_from(("<", ">=", "!=")), st.floats(0, 9).map(str)),
    st.builds(Condition, st.just("plane"), st.sampled_from(("=", "!=")), st.sampled_from(WORDS["plane"])),
)


@given(st.lists(st.lists(CONDITIONS, min_size=1, max_size=3), max_size=3))
def test_rules_are_written_as_they_are_read(conditions: list[list[Condition]]) -> None:
    rule = Rule(tuple(tuple(c) for c in conditions))
    assert parse(str(rule)) == rule


def test_several_rules_are_alternatives_and_an_empty_one_is_all() -> None:
    assert not parse(either(["modality=CT", "slices>10"])).unmet(T1)
    assert parse(either(["modality=CT", "slices>30"])).unmet(T1)
    assert either(["modality=CT", ""]) == either([]) == ""


def test_a_pattern_of_many_stars_comes_to_an_end() -> None:
    rule = parse("description~" + "*a" * 500 + "b")  # tried one way after the other, this would never end
    assert rule.unmet({"description": "a" * 2000})


def test_recipe_and_plan_hold_a_rule_and_refuse_what_is_none() -> None:
    assert InferRecipe().select == InferPlan().select == ""
    assert InferPlan(select="Modality = MR").select == "modality=MR"
    for part in (InferRecipe, InferPlan):
        with pytest.raises(PlanError, match=r"select: .*no field 'colour'"):
            part.from_document({"select": "colour=red"})


def test_the_fields_are_told_apart() -> None:
    assert len(set(FIELDS)) == len(FIELDS) == 11
