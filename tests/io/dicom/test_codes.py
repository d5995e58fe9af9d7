from __future__ import annotations

from collections import defaultdict

import pytest
from pydicom.sr._concepts_dict import concepts

from medseg.io.dicom.codes import (
    ABNORMAL,
    ABNORMAL_STRUCTURE,
    ANATOMICAL_STRUCTURE,
    ANATOMY,
    MODIFIERS,
    TISSUE,
    TISSUES,
    concept_of,
)
from medseg.labels import Code, Label


@pytest.fixture(scope="module")
def known_values():
    """Return the meanings of every SNOMED CT value in pydicom's dictionary."""
    known = defaultdict(set)
    for by_value in concepts["SCT"].values():
        for value, (meaning, _) in by_value.items():
            known[value].add(meaning)
    return known


@pytest.mark.parametrize("table", [ANATOMY, TISSUES, ABNORMAL, MODIFIERS])
def test_every_code_is_in_the_dictionary_with_its_meaning(table, known_values):
    wrong = {name: code for name, code in table.items() if code[1] not in known_values.get(code[0], ())}
    assert wrong == {}


def test_the_categories_are_in_the_dictionary(known_values):
    for code in (ANATOMICAL_STRUCTURE, TISSUE, ABNORMAL_STRUCTURE):
        assert code.meaning in known_values[code.value]


@pytest.mark.parametrize(
    ("name", "kind", "side"),
    [
        ("liver", "Liver", None),
        ("Kidney_Left", "Kidney", "Left"),
        ("kidney-r", "Kidney", "Right"),
        ("Hippocampus anterior", "Hippocampus", "Anterior"),
        ("hippocampus_post", "Hippocampus", "Posterior"),
        ("vertebrae_L3", "L3 vertebra", None),
        ("rib_left_7", "Rib", "Left"),
        ("lung_upper_lobe_right", "Upper lobe of lung", "Right"),
        ("heart_atrium_left", "Left atrium", None),
        ("lungs", "Lung", None),
        ("Tumour", "Neoplasm", None),
        ("GTV", "Gross tumor volume (observable entity)", None),
        ("anterior", "Tissue", "Anterior"),
        ("class 7", "Tissue", None),
        ("left right", "Tissue", None),
    ],
)
def test_names_find_their_concepts(name, kind, side):
    concept = concept_of(Label(1, name, (0, 0, 0)))
    assert concept.type.meaning == kind
    assert (concept.modifier.meaning if concept.modifier else None) == side


def test_categories_follow_the_kind():
    assert concept_of(Label(1, "liver", (0, 0, 0))).category == ANATOMICAL_STRUCTURE
    assert concept_of(Label(1, "fat", (0, 0, 0))).category == TISSUE
    assert concept_of(Label(1, "edema", (0, 0, 0))).category == ABNORMAL_STRUCTURE


def test_a_labels_own_code_goes_first():
    own = Code("99ACME", "X1", "Our thing")
    concept = concept_of(Label(1, "liver_left", (0, 0, 0), own))
    assert concept.type == own
    assert concept.modifier.meaning == "Left"
