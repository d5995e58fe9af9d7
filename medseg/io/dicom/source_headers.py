"""The headers of a series, read for objects made from it: what is damaged removed, what is missing completed.

SOP class and instance that are empty in the data set are taken from the file meta information; type 2 attributes that
are absent or malformed become empty; an absent frame of reference is derived from the series. The first header lends
patient, study and equipment; of the others, nothing is read but what refers to them and places them.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import pydicom
from pydicom import config
from pydicom.tag import Tag
from pydicom.valuerep import DA, DT, TM, validate_value

from medseg.errors import InputError
from medseg.io.dicom.uids import derived_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pydicom.dataset import Dataset

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_PLACES = (
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "Rows",
    "Columns",
    "Modality",
    "SeriesNumber",
)
_OF_A_SLICE = [Tag(keyword) for keyword in (*UIDS, *_PLACES, *TYPE_2)]
_KEPT_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0040, 0x5200})
_COPIED_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0018, 0x0020})
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM"})
_FROM_META = (("SOPClassUID", "MediaStorageSOPClassUID"), ("SOPInstanceUID", "MediaStorageSOPInstanceUID"))
_UID = re.compile(r"[0-9.]{1,64}\Z")  # archives hold many with leading zeros, which only these very characters find
_TIMES: Mapping[str, Callable[[str], object]] = MappingProxyType({"DA": DA, "DT": DT, "TM": TM})
_DEEPEST = 8  # sequences within sequences


def whole_header(path: Path) -> Dataset:
    """Return the header of a file with all that is to be known of patient, study and equipment, in Unicode.

    Raises
    ------
    InputError
        Where the file cannot be read.
    """
    dataset = _read(path)
    for tag in [tag for tag in dataset.keys() if tag.group not in _KEPT_GROUPS]:  # noqa: SIM118  keys alone convert nothing
        del dataset[tag]
    _drop_unreadable(dataset)
    _in_unicode(dataset, path)
    _drop_malformed(dataset)
    return _completed(dataset)


def slice_header(path: Path) -> Dataset:
    """Return what refers to a file and places it.

    Raises
    ------
    InputError
        Where the file cannot be read.
    """
    dataset = _read(path, _OF_A_SLICE)
    _drop_unreadable(dataset)
    return _completed(dataset)


def _read(path: Path, tags: list[pydicom.tag.BaseTag] | None = None) -> Dataset:
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the DICOM header cannot be read", where=path.name, code="unreadable") from error
    _drop_unreadable(dataset.file_meta)
    return dataset


def _drop_unreadable(dataset: Dataset, depth: int = 0) -> None:
    """Remove the elements whose bytes are no value of their kind, and sequences nested beyond reason."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            items = list(element.value) if element.VR == "SQ" else []
        except Exception:  # noqa: BLE001  pydicom raises whatever its parsers raise; what cannot be read is left out
            del dataset[tag]
            continue
        if items and depth == _DEEPEST:
            del dataset[tag]
            continue
        for item in items:
            _drop_unreadable(item, depth + 1)


def _in_unicode(dataset: Dataset, path: Path) -> None:
    """Decode names and texts by the character set the file declares, and declare Unicode (PS3.3 section C.12.1.1.2).

    Declared sets are often malformed; what is written from here on is right in any language.
    """
    try:
        dataset.decode()
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError("the header's texts cannot be decoded", where=path.name, code="unreadable") from error
    dataset.SpecificCharacterSet = "ISO_IR 192"


def _drop_malformed(dataset: Dataset) -> None:
    """Remove what is told about patient, study and equipment in words that break their own representation."""
    for element in [e for e in dataset if e.tag.group in _COPIED_GROUPS]:
        if element.VR == "SQ":
            for item in element.value:
                _drop_malformed(item)
        elif element.VR in _TEXTS and not _is_well_formed(element):
            del dataset[element.tag]


def _is_well_formed(element: pydicom.DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            validate_value(element.VR, value, config.RAISE)
            if element.VR in _TIMES and value:
                _TIMES[element.VR](value)  # what has the form of a date may be on no calendar
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _completed(dataset: Dataset) -> Dataset:
    """Complete the UIDs of a header, as far as that is honest, and its attributes of type 2."""
    meta = getattr(dataset, "file_meta", None)
    for keyword in (*UIDS, "FrameOfReferenceUID"):
        if keyword in dataset and not _UID.match(str(dataset[keyword].value)):
            del dataset[keyword]
    for keyword, in_meta in _FROM_META:
        told = "" if meta is None else str(meta.get(in_meta) or "")
        if not dataset.get(keyword) and _UID.match(told):
            setattr(dataset, keyword, told)
    for keyword in TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if not dataset.get("FrameOfReferenceUID") and dataset.get("SeriesInstanceUID"):
        dataset.FrameOfReferenceUID = derived_uid("frame of reference", str(dataset.SeriesInstanceUID))
    return dataset
