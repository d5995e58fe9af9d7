from __future__ import annotations

from collections import defaultdict

import pytest
from pydicom.sr._concepts_dict import concepts

from medseg.io.dicom.codes.anatomy import ANATOMY
from medseg.io.dicom.codes.concepts import ABNORMAL, MUSCLES, NAMES, PARTS, SIDES, TISSUES
from medseg.io.dicom.codes.naming import ABNORMAL_STRUCTURE, ANATOMICAL_STRUCTURE, TISSUE, concept_of
from medseg.labels import Code, Label


@pytest.fixture(scope="module")
def known_values():
    """Return the meanings of every SNOMED CT value in pydicom's dictionary."""
    known = defaultdict(set)
    for by_value in concepts["SCT"].values():
        for value, (meaning, _) in by_value.items():
            known[value].add(meaning)
    return known


@pytest.mark.parametrize("table", [ANATOMY, TISSUES, ABNORMAL, SIDES, PARTS])
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
        ("hippocampus_left_posterior", "Hippocampus", "Left"),
        ("vertebrae_S1", "Sacrum", None),
        ("T12", "T12 vertebra", None),
        ("rib7_right", "Rib", "Right"),
        ("disc L4/L5", "L4/L5 disc", None),
        ("urinary_bladder", "Bladder", None),
        ("clavicula_right", "Clavicle", "Right"),
        ("lung_left_upper_lobe", "Upper lobe of lung", "Left"),
        ("kidney_cyst_left", "Cyst", "Left"),
        ("liver tumours", "Neoplasm", None),
        ("left ventricle", "Left ventricle", None),
        ("LV_myocardium", "Left Ventricle Myocardium", None),
        ("Left-Lateral-Ventricle", "Lateral Ventricle", "Left"),
        ("ventricle", "Brain ventricle", None),
        ("3rd-Ventricle", "Third ventricle", None),
        ("ctx-rh-superiorfrontal", "Cerebral cortex", "Right"),
        ("ctx-lh-insula", "Insula", "Left"),
        ("CC_Mid_Anterior", "Corpus callosum", "Anterior"),
        ("gluteus_maximus_left", "Skeletal muscle", "Left"),
        ("thigh_posterior_compartment_left", "Skeletal muscle", "Left"),
        ("inferior vena cava", "Inferior vena cava", None),
        ("internal_carotid_artery_left", "Internal carotid artery", "Left"),
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


VERTEBRAE = [f"{region}{n}" for region, last in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, last + 1)]
TOTALSEGMENTATOR = [
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "liver",
    "stomach",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "esophagus",
    "trachea",
    "thyroid_gland",
    "small_bowel",
    "duodenum",
    "colon",
    "urinary_bladder",
    "prostate",
    "kidney_cyst_left",
    "kidney_cyst_right",
    "sacrum",
    "vertebrae_S1",
    "heart",
    "aorta",
    "pulmonary_vein",
    "brachiocephalic_trunk",
    "subclavian_artery_right",
    "subclavian_artery_left",
    "common_carotid_artery_right",
    "common_carotid_artery_left",
    "brachiocephalic_vein_left",
    "brachiocephalic_vein_right",
    "atrial_appendage_left",
    "superior_vena_cava",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    "iliac_artery_left",
    "iliac_artery_right",
    "iliac_vena_left",
    "iliac_vena_right",
    "humerus_left",
    "humerus_right",
    "scapula_left",
    "scapula_right",
    "clavicula_left",
    "clavicula_right",
    "femur_left",
    "femur_right",
    "hip_left",
    "hip_right",
    "spinal_cord",
    "gluteus_maximus_left",
    "gluteus_maximus_right",
    "gluteus_medius_left",
    "gluteus_medius_right",
    "gluteus_minimus_left",
    "gluteus_minimus_right",
    "autochthon_left",
    "autochthon_right",
    "iliopsoas_left",
    "iliopsoas_right",
    "brain",
    "skull",
    "sternum",
    "costal_cartilages",
]
TOTALSEGMENTATOR += [f"vertebrae_{v}" for v in VERTEBRAE]
TOTALSEGMENTATOR += [f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)]


def test_every_class_of_totalsegmentator_has_a_concept_and_its_side():
    assert len(TOTALSEGMENTATOR) == 117
    concepts_found = {name: concept_of(Label(1, name, (0, 0, 0))) for name in TOTALSEGMENTATOR}
    assert [name for name, concept in concepts_found.items() if concept.type == TISSUE] == []
    for name, concept in concepts_found.items():
        for side in ("Left", "Right"):
            if name.endswith(side.lower()) or f"_{side.lower()}_" in name:
                assert side in (concept.type.meaning.split()[0], getattr(concept.modifier, "meaning", ""))


@pytest.mark.parametrize("vertebra", VERTEBRAE)
def test_vertebrae_are_told_apart(vertebra):
    meanings = {concept_of(Label(1, n, (0, 0, 0))).type.meaning for n in (vertebra, f"vertebrae_{vertebra}")}
    assert meanings == {f"{vertebra} vertebra"}


def test_no_two_names_are_one_set_of_words():
    names = [*ANATOMY, *TISSUES, *ABNORMAL, *MUSCLES, *NAMES]
    keys = defaultdict(list)
    for name in names:
        keys[tuple(sorted(w for w in name.split() if w not in {"of", "and"}))].append(name)
    assert [same for same in keys.values() if len(same) > 1] == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_other_name_leads_to_a_concept(name):
    assert concept_of(Label(1, name, (0, 0, 0))).type != TISSUE


def test_every_name_of_the_tables_finds_its_own_concept():
    wrong = {
        name: found.type.meaning
        for table in (ANATOMY, TISSUES, ABNORMAL)
        for name, (value, _) in table.items()
        if (found := concept_of(Label(1, name, (0, 0, 0)))).type.value != value
    }
    assert wrong == {}
