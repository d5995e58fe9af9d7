"""SNOMED CT concepts of tissues and abnormal structures, of sides, and other names for all that has a concept.

Values and meanings are those of the DICOM context groups (PS3.16), as pydicom's code dictionary lists them; a test
compares them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.io.dicom.codes.anatomy import Table

SIDES: Table = MappingProxyType({"left": ("7771000", "Left"), "right": ("24028007", "Right")})
PARTS: Table = MappingProxyType({"anterior": ("255549009", "Anterior"), "posterior": ("255551008", "Posterior")})
ABNORMAL: Table = MappingProxyType(
    {
        "aneurysm": ("85659009", "aneurysm"),
        "calcification": ("18115005", "pathologic calcification"),
        "cyst": ("367643001", "Cyst"),
        "edema": ("79654002", "Edema"),
        "effusion": ("41699000", "Effusion"),
        "embolism": ("55584005", "embolism"),
        "embolus": ("55584005", "Embolus"),
        "gross tumor volume": ("228791009", "Gross tumor volume (observable entity)"),
        "hematoma": ("35566002", "Hematoma"),
        "hemorrhage": ("50960005", "Hemorrhage"),
        "lesion": ("52988006", "Lesion"),
        "mass": ("4147007", "Mass"),
        "metastasis": ("14799000", "Neoplasm, metastatic (morphologic abnormality)"),
        "necrosis": ("6574001", "Necrosis"),
        "neoplasm": ("108369006", "Neoplasm"),
        "nodule": ("27925004", "Nodule"),
        "pericardial effusion": ("373945007", "Pericardial effusion"),
        "plaque": ("1522000", "plaque"),
        "pleural effusion": ("60046008", "Pleural effusion"),
        "pneumothorax": ("36118008", "Pneumothorax"),
        "primary tumor": ("372087000", "Neoplasm, Primary"),
        "pulmonary embolism": ("59282003", "Pulmonary embolism"),
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
        "ligament": ("52082005", "Ligament"),
        "muscle": ("127954009", "Skeletal muscle"),
        "skeletal muscle": ("127954009", "Skeletal muscle"),
        "skin": ("39937001", "Skin"),
        "soft tissue": ("87784001", "Soft tissue"),
        "subcutaneous fat": ("71966008", "Subcutaneous tissue"),
        "tendon": ("13024002", "Tendon"),
        "white matter": ("389080008", "White Matter"),
    }
)

# Muscles without a concept of their own in the context groups: they are skeletal muscle, and the label says which.
MUSCLES = (
    "adductor",
    "biceps",
    "digastric",
    "gastrocnemius",
    "gluteus maximus",
    "gluteus medius",
    "gluteus minimus",
    "hamstring",
    "iliacus",
    "iliopsoas",
    "lateral pterygoid",
    "masseter",
    "medial pterygoid",
    "platysma",
    "psoas",
    "psoas major",
    "quadratus lumborum",
    "quadriceps",
    "quadriceps femoris",
    "rectus abdominis",
    "sartorius",
    "soleus",
    "subscapularis",
    "superior pharyngeal constrictor",
    "temporalis",
    "thigh medial compartment",
    "thigh posterior compartment",
    "tibialis anterior",
    "triceps",
)
# Words that mean another.
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "ant": "anterior",
        "arteries": "artery",
        "bleed": "hemorrhage",
        "bronchi": "bronchus",
        "bronchia": "bronchus",
        "clavicula": "clavicle",
        "cysts": "cyst",
        "gray": "grey",
        "hematomas": "hematoma",
        "haematoma": "hematoma",
        "haemorrhage": "hemorrhage",
        "l": "left",
        "lh": "left",
        "metastases": "metastasis",
        "oedema": "edema",
        "oesophagus": "esophagus",
        "post": "posterior",
        "r": "right",
        "rh": "right",
        "teeth": "tooth",
        "tumour": "tumor",
        "vertebrae": "vertebra",
    }
)
# Names that mean another.
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "3rd ventricle": "third ventricle",
        "4th ventricle": "fourth ventricle",
        "5th ventricle": "fifth ventricle",
        "accumbens": "nucleus accumbens",
        "accumbens area": "nucleus accumbens",
        "airway": "trachea and bronchus",
        "atrial septum": "interatrial septum",
        "atrium left appendage": "atrial appendage left",
        "bladder": "urinary bladder",
        "body extremity": "extremity",
        "body extremities": "extremity",
        "body trunc": "trunk",
        "brain stem": "brainstem",
        "caudate nucleus": "caudate",
        "cc": "corpus callosum",
        "cc central": "corpus callosum",
        "cc mid": "corpus callosum",
        "celiac artery": "celiac trunk",
        "cricoid cartilage": "cartilage",
        "csf": "cerebrospinal fluid",
        "entorhinal": "entorhinal cortex",
        "eye lens": "lens",
        "fat intermuscular": "fat",
        "fat torso": "fat",
        "fat visceral": "fat",
        "globus pallidus": "pallidum",
        "gtv": "gross tumor volume",
        "hyoid": "hyoid bone",
        "inf lat vent": "inferior horn lateral ventricle",
        "insular cortex": "insula",
        "intestine": "small bowel",
        "la": "atrium left",
        "large bowel": "large intestine",
        "liver vessel": "blood vessel",
        "lung trachea bronchus": "trachea and bronchus",
        "lung vessel": "blood vessel",
        "lv": "ventricle left",
        "lv myocardium": "left ventricle myocardium",
        "myocardium": "heart myocardium",
        "optic tract chiasm": "optic chiasm",
        "pulmonary trunk artery": "pulmonary trunk",
        "ra": "atrium right",
        "rv": "ventricle right",
        "sacrum s1": "sacrum",
        "small intestine": "small bowel",
        "spinalcord": "spinal cord",
        "thalamus proper": "thalamus",
        "thyroid cartilage": "cartilage",
        "ventraldc": "diencephalon",
        "ventricular septum": "interventricular septum",
        "vertebra s1": "sacrum",
        "vessel": "blood vessel",
    }
)
