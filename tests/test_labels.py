"""Labels: unique, within what masks and DICOM hold, and told from a document in words where they are wrong."""

from __future__ import annotations

import pytest

from medseg.errors import PlanError
from medseg.labels import Code, Label, LabelSet, distinct_color

LIVER = Code("SCT", "10200004", "Liver")


@pytest.mark.parametrize("label_id", [0, -1, 65536])
def test_ids_a_mask_cannot_hold_are_refused(label_id: int):
    with pytest.raises(PlanError, match=f"id {label_id}"):
        Label(label_id, "x", (0, 0, 0))


def test_names_and_colours_are_checked():
    with pytest.raises(PlanError, match="no name"):
        Label(1, " \t", (0, 0, 0))
    for color in ((256, 0, 0), (0, -1, 0)):
        with pytest.raises(PlanError, match="colour"):
            Label(1, "x", color)


@pytest.mark.parametrize(
    "fields", [("", "1", "m"), ("S" * 17, "1", "m"), ("SCT", "", "m"), ("SCT", "1" * 17, "m"), ("SCT", "1", "m" * 65)]
)
def test_codes_dicom_cannot_hold_are_refused(fields: tuple):
    with pytest.raises(PlanError):
        Code(*fields)


def test_ids_and_names_occur_once():
    with pytest.raises(PlanError, match="id 2 occurs twice"):
        LabelSet((Label(2, "a", (0, 0, 0)), Label(2, "b", (0, 0, 0))))
    with pytest.raises(PlanError, match="name a occurs twice"):
        LabelSet((Label(1, "a", (0, 0, 0)), Label(2, "a", (0, 0, 0))))


def test_a_set_is_ordered_and_looked_up():
    labels = LabelSet.from_names({0: "background", 7: "b", 3: "a"})
    assert (labels.ids, labels.names, len(labels)) == ((3, 7), ("a", "b"), 2)
    assert labels.by_name("b") is labels[7]
    assert [label.id for label in labels] == [3, 7]
    for wrong in (
        lambda: labels[0],
        lambda: labels[4],
        lambda: labels.by_name("c"),
        lambda: labels.by_name("background"),
    ):
        with pytest.raises(PlanError):
            wrong()
    assert hash(labels) == hash(LabelSet.from_names({0: "background", 7: "b", 3: "a"}))


def test_a_set_of_every_possible_id():
    labels = LabelSet.from_names({i: f"label_{i}" for i in range(1, 65536)})  # minutes, were it quadratic
    assert len(labels) == 65535


@pytest.mark.parametrize(
    "name",
    ["kidney_left", "Left-Hippocampus", "right lung", "LeftVentricle", "lungLeft", "leftlung", "lungright",
     "KidneyL", "kidney_R", "hippocampus (L)", "lh.cortex", "rein gauche", "linke Niere",
     "rechte_niere", "riñón izquierdo", "RIGHT_ATRIUM"],
)  # fmt: skip
def test_sides_are_found(name: str):
    assert Label(1, name, (0, 0, 0)).is_lateral
    assert LabelSet.from_names({1: "liver", 2: name}).has_sides


@pytest.mark.parametrize(
    "name",
    [
        "liver",
        "bright_spot",
        "cleft",
        "vertebrae_L1",
        "upright",
        "rectum",
        "colon",
        "T1",
        "R2star",
        "lesion",
        "anterior",
    ],
)
def test_other_words_are_no_sides(name: str):
    assert not Label(1, name, (0, 0, 0)).is_lateral


def test_a_document_comes_back():
    labels = LabelSet((Label(1, "liver", (1, 2, 3), LIVER), Label(60000, "größte", (255, 0, 9))))
    assert LabelSet.from_json(labels.to_json()) == labels


def test_colours_are_given_where_none_are():
    (label,) = LabelSet.from_json([{"id": 5, "name": "x"}])
    assert label.color == distinct_color(0)
    colors = [distinct_color(i) for i in range(50)]
    assert len(set(colors)) == 50


@pytest.mark.parametrize(
    "entry",
    [
        5, None, "liver", ["id", 1],
        {}, {"id": 1}, {"name": "x"}, {"id": "1", "name": "x"}, {"id": True, "name": "x"}, {"id": 1.0, "name": "x"},
        {"id": 1, "name": 5}, {"id": 1, "name": ""}, {"id": 1, "name": "x", "colour": [1, 2, 3]},
        {"id": 1, "name": "x", "color": "red"}, {"id": 1, "name": "x", "color": [1, 2]},
        {"id": 1, "name": "x", "color": ["a", "b", "c"]}, {"id": 1, "name": "x", "color": [1.5, 2, 3]},
        {"id": 1, "name": "x", "color": [1, 2, 999]}, {"id": 1, "name": "x", "color": 7},
        {"id": 1, "name": "x", "code": "SCT"}, {"id": 1, "name": "x", "code": {"scheme": "SCT"}},
        {"id": 1, "name": "x", "code": {"scheme": "SCT", "value": 10200004, "meaning": "Liver"}},
        {"id": 1, "name": "x", "code": {"scheme": "SCT", "value": "1", "meaning": "m", "version": "2"}},
        {"id": 1, "name": "x", "code": ["SCT", "1", "m"]},
    ],
)  # fmt: skip
def test_a_document_that_is_none_is_refused_in_words(entry: object):
    with pytest.raises(PlanError):
        LabelSet.from_json([entry])


def test_an_unquoted_code_is_told_what_to_do():
    with pytest.raises(PlanError, match="Put it in quotes"):
        LabelSet.from_json([{"id": 1, "name": "x", "code": {"scheme": "SCT", "value": 1, "meaning": "m"}}])
