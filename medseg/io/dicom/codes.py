"""SNOMED CT concepts of common structures by the names labels have, for coded segments.

Values and meanings are those of the DICOM context groups, as pydicom's code dictionary lists them (a test compares
them). A label's own code in `labels.yaml` goes before this table; an unknown name becomes "Tissue", with the name as
segment label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from medseg.labels import Code

if TYPE_CHECKING:
    from medseg.labels import Label

Table = Mapping[str, tuple[str, str]]

ANATOMICAL_STRUCTURE = Code("SCT", "91723000", "Anatomical Structure")
TISSUE = Code("SCT", "85756007", "Tissue")
ABNORMAL_STRUCTURE = Code("SCT", "49755003", "Morphologically Abnormal Structure")

MODIFIERS: Table = MappingProxyType(
    {
        "left": ("7771000", "Left"),
        "right": ("24028007", "Right"),
        "anterior": ("255549009", "Anterior"),
        "posterior": ("255551008", "Posterior"),
    }
)
ABNORMAL: Table = MappingProxyType(
    {
        "aneurysm": ("85659009", "aneurysm"),
        "cyst": ("367643001", "Cyst"),
        "edema": ("79654002", "Edema"),
        "effusion": ("41699000", "Effusion"),
        "gross tumor volume": ("228791009", "Gross tumor volume (observable entity)"),
        "hemorrhage": ("50960005", "Hemorrhage"),
        "lesion": ("52988006", "Lesion"),
        "mass": ("4147007", "Mass"),
        "metastasis": ("14799000", "Neoplasm, metastatic (morphologic abnormality)"),
        "necrosis": ("6574001", "Necrosis"),
        "nodule": ("27925004", "Nodule"),
        "plaque": ("1522000", "plaque"),
        "pleural effusion": ("60046008", "Pleural effusion"),
        "primary tumor": ("372087000", "Neoplasm, Primary"),
        "thrombus": ("396339007", "Thrombus"),
        "tumor": ("108369006", "Neoplasm"),
    }
)
TISSUES: Table = MappingProxyType(
    {
        "bone": ("272673000", "Bone"),
        "bone marrow": ("14016003", "Bone Marrow"),
        "cartilage": ("309312004", "Cartilage"),
        "cerebrospinal fluid": ("65216001", "Cerebrospinal Fluid"),
        "fat": ("256674009", "Fat"),
        "grey matter": ("389081007", "Gray Matter"),
        "muscle": ("127954009", "Skeletal muscle"),
        "skeletal muscle": ("127954009", "Skeletal muscle"),
        "skin": ("39937001", "Skin"),
        "soft tissue": ("87784001", "Soft tissue"),
        "subcutaneous fat": ("71966008", "Subcutaneous tissue"),
        "white matter": ("389080008", "White Matter"),
    }
)
ANATOMY: Table = MappingProxyType(
    {
        "adrenal gland": ("23451007", "Adrenal gland"),
        "amygdala": ("4958002", "Amygdala"),
        "aorta": ("15825003", "Aorta"),
        "aortic arch": ("57034009", "Aortic arch"),
        "artery": ("51114001", "Artery"),
        "atrial appendage left": ("33626005", "Left auricular appendage"),
        "autochthon": ("44947003", "Erector spinae muscle"),
        "blood vessel": ("59820001", "Blood Vessel"),
        "body": ("38266002", "Entire body"),
        "brachiocephalic trunk": ("12691009", "brachiocephalic trunk"),
        "brachiocephalic vein": ("8887007", "Brachiocephalic vein"),
        "brain": ("12738006", "Brain"),
        "brainstem": ("119238007", "Brain Stem"),
        "breast": ("76752008", "Breast"),
        "bronchus": ("955009", "Bronchus"),
        "carotid artery": ("69105007", "Carotid Artery"),
        "caudate": ("11000004", "Caudate Nucleus"),
        "cerebellum": ("113305005", "Cerebellum"),
        "cervix": ("71252005", "Cervix"),
        "clavicle": ("51299004", "Clavicle"),
        "coccyx": ("64688005", "Coccyx"),
        "colon": ("71854001", "Colon"),
        "common carotid artery": ("32062004", "Common carotid artery"),
        "cortex": ("40146001", "Cerebral cortex"),
        "costal cartilage": ("50016007", "Costal Cartilage"),
        "diaphragm": ("5798000", "Diaphragm"),
        "duodenum": ("38848004", "Duodenum"),
        "esophagus": ("32849002", "Esophagus"),
        "eye": ("81745001", "Eye"),
        "eyeball": ("79652003", "Eyeball"),
        "femur": ("71341001", "Femur"),
        "fibula": ("87342007", "Fibula"),
        "gallbladder": ("28231008", "Gallbladder"),
        "heart": ("80891009", "Heart"),
        "heart atrium left": ("82471001", "Left atrium"),
        "heart atrium right": ("73829009", "Right atrium"),
        "heart ventricle left": ("87878005", "Left ventricle"),
        "heart ventricle right": ("53085002", "Right ventricle"),
        "hepatic vessel": ("8993003", "Hepatic vein"),
        "hip": ("29836001", "Hip"),
        "hippocampus": ("5366008", "Hippocampus"),
        "humerus": ("85050009", "Humerus"),
        "iliac artery": ("73634005", "Common iliac artery"),
        "iliac vein": ("46027005", "Common iliac vein"),
        "iliac vena": ("46027005", "Common iliac vein"),
        "inferior vena cava": ("64131007", "Inferior vena cava"),
        "kidney": ("64033007", "Kidney"),
        "larynx": ("4596009", "Larynx"),
        "lens": ("78076003", "Structure of lens of eye (body structure)"),
        "liver": ("10200004", "Liver"),
        "lung": ("39607008", "Lung"),
        "lung lower lobe": ("90572001", "Lower lobe of lung"),
        "lung middle lobe": ("72481006", "Middle lobe of right lung"),
        "lung upper lobe": ("45653009", "Upper lobe of lung"),
        "lymph node": ("59441001", "Lymph Node"),
        "mandible": ("91609006", "Mandible"),
        "optic chiasm": ("244453006", "Optic chiasm"),
        "optic nerve": ("18234004", "optic nerve"),
        "ovary": ("15497006", "Ovary"),
        "pallidum": ("14738005", "Globus Pallidus"),
        "pancreas": ("15776009", "Pancreas"),
        "parotid gland": ("45289007", "Parotid gland"),
        "patella": ("64234005", "Patella"),
        "pelvis": ("816092008", "Pelvis"),
        "penis": ("18911002", "Penis"),
        "pericardium": ("76848001", "Pericardium"),
        "pharynx": ("54066008", "Pharynx"),
        "pituitary": ("56329008", "Pituitary"),
        "portal vein": ("32764006", "Portal vein"),
        "portal vein and splenic vein": ("32764006", "Portal vein"),
        "prostate": ("41216001", "Prostate"),
        "pulmonary artery": ("81040000", "Pulmonary artery"),
        "pulmonary vein": ("122972007", "Pulmonary vein"),
        "putamen": ("89278009", "Putamen"),
        "radius": ("131190003", "Radius"),
        "rectum": ("34402009", "Rectum"),
        "rib": ("113197003", "Rib"),
        "sacrum": ("54735007", "Sacrum"),
        "scapula": ("79601000", "Scapula"),
        "seminal vesicle": ("64739004", "Seminal Vesicle"),
        "skull": ("89546000", "Skull"),
        "small bowel": ("30315005", "Small intestine"),
        "spinal canal": ("61853006", "Vertebral canal"),
        "spinal cord": ("2748008", "Spinal cord"),
        "spine": ("421060004", "Spine"),
        "spleen": ("78961009", "Spleen"),
        "sternum": ("56873002", "Sternum"),
        "stomach": ("69695003", "Stomach"),
        "subclavian artery": ("36765005", "Subclavian artery"),
        "submandibular gland": ("54019009", "Submandibular gland"),
        "superior vena cava": ("48345005", "Superior vena cava"),
        "testis": ("40689003", "Testis"),
        "thalamus": ("42695009", "Thalamus"),
        "thymus": ("9875009", "Thymus"),
        "thyroid gland": ("69748006", "Thyroid"),
        "tibia": ("12611008", "Tibia"),
        "tongue": ("21974007", "Tongue"),
        "trachea": ("44567001", "Trachea"),
        "ulna": ("23416004", "Ulna"),
        "ureter": ("87953007", "Ureter"),
        "urethra": ("13648007", "Urethra"),
        "urinary bladder": ("89837001", "Bladder"),
        "uterus": ("35039007", "Uterus"),
        "vagina": ("76784001", "Vagina"),
        "vein": ("29092000", "Vein"),
        "ventricle": ("35764002", "Brain ventricle"),
        "vertebra": ("51282000", "Vertebra"),
        "vertebra c1": ("14806007", "C1 vertebra"),
        "vertebra c2": ("39976000", "C2 vertebra"),
        "vertebra c3": ("113205007", "C3 vertebra"),
        "vertebra c4": ("5329002", "C4 vertebra"),
        "vertebra c5": ("36978003", "C5 vertebra"),
        "vertebra c6": ("36054005", "C6 vertebra"),
        "vertebra c7": ("87391001", "C7 vertebra"),
        "vertebra l1": ("66794005", "L1 vertebra"),
        "vertebra l2": ("14293000", "L2 vertebra"),
        "vertebra l3": ("36470004", "L3 vertebra"),
        "vertebra l4": ("11994002", "L4 vertebra"),
        "vertebra l5": ("49668003", "L5 vertebra"),
        "vertebra t1": ("64864005", "T1 vertebra"),
        "vertebra t10": ("7610001", "T10 vertebra"),
        "vertebra t11": ("12989004", "T11 vertebra"),
        "vertebra t12": ("23215003", "T12 vertebra"),
        "vertebra t2": ("53733008", "T2 vertebra"),
        "vertebra t3": ("1626008", "T3 vertebra"),
        "vertebra t4": ("73071006", "T4 vertebra"),
        "vertebra t5": ("56401006", "T5 vertebra"),
        "vertebra t6": ("45296009", "T6 vertebra"),
        "vertebra t7": ("62487009", "T7 vertebra"),
        "vertebra t8": ("11068009", "T8 vertebra"),
        "vertebra t9": ("82687006", "T9 vertebra"),
    }
)

_SAME = MappingProxyType(
    {
        "bladder": "urinary bladder",
        "csf": "cerebrospinal fluid",
        "gray matter": "grey matter",
        "gtv": "gross tumor volume",
        "hematoma": "hemorrhage",
        "intestine": "small bowel",
        "lungs": "lung",
        "metastases": "metastasis",
        "oesophagus": "esophagus",
        "oedema": "edema",
        "small intestine": "small bowel",
        "tumour": "tumor",
        "vertebrae": "vertebra",
    }
)
_SIDE = MappingProxyType(
    {"l": "left", "r": "right", "lh": "left", "rh": "right", "ant": "anterior", "post": "posterior"}
)
_FILLERS = frozenset({"the", "of", "part"})


@dataclass(frozen=True, slots=True)
class Concept:
    """What a segment is, in codes: category, type, and which side or part of it."""

    category: Code
    type: Code
    modifier: Code | None = None


def concept_of(label: Label) -> Concept:
    """Return the coded concept of a label: its own code where it has one, else by its name.

    Examples
    --------
    >>> from medseg.labels import Label
    >>> concept = concept_of(Label(2, "kidney_left", (0, 0, 0)))
    >>> concept.type.meaning, concept.modifier.meaning
    ('Kidney', 'Left')
    >>> concept_of(Label(3, "blob", (0, 0, 0))).type.meaning
    'Tissue'
    """
    words = _words(label.name)
    if label.code is not None:
        return Concept(_category_of(label.code.value), label.code, _modifier(words))
    found = _looked_up(words)
    if found is not None:
        return Concept(_category_of(found.value), found)
    rest = [word for word in words if word not in MODIFIERS]
    return Concept(*_known_or_tissue(_looked_up(rest)), _modifier(words))


def _known_or_tissue(found: Code | None) -> tuple[Code, Code]:
    return (TISSUE, TISSUE) if found is None else (_category_of(found.value), found)


def _words(name: str) -> list[str]:
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    return [_SIDE.get(word, word) for word in words if word not in _FILLERS]


def _modifier(words: list[str]) -> Code | None:
    """Return the side or part a name tells, where it tells one only."""
    found = [word for word in words if word in MODIFIERS]
    return Code("SCT", *MODIFIERS[found[0]]) if len(found) == 1 else None


def _looked_up(words: list[str]) -> Code | None:
    """Return the concept of a name: as it is, then without numbers (rib 7), then in the singular."""
    for attempt in (words, [w for w in words if not w.isdigit()], [w.removesuffix("s") for w in words]):
        name = " ".join(_SAME.get(word, word) for word in attempt)
        name = _SAME.get(name, name)
        for table in (ANATOMY, TISSUES, ABNORMAL):
            if name in table:
                return Code("SCT", *table[name])
    return None


def _category_of(value: str) -> Code:
    if any(value == known for known, _ in ABNORMAL.values()):
        return ABNORMAL_STRUCTURE
    if value == TISSUE.value or any(value == known for known, _ in TISSUES.values()):
        return TISSUE
    return ANATOMICAL_STRUCTURE
