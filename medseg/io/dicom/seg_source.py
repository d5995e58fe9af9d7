"""The headers of a series as references of objects made from it: repaired where that is honest, refused where not.

SOP class and instance that are empty in the data set are taken from the file meta information; type 2 attributes that
are absent or malformed become empty; an absent frame of reference is derived from the series. Study and series UIDs
cannot be repaired: an object made with invented ones would belong to no study.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom
from pydicom import config
from pydicom.valuerep import DSfloat, validate_value

from medseg.errors import InputError
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.uids import derived_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from medseg.io.dicom.source import SourceSeries

_TYPE_2 = (
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
_COPIED_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0020})
_TEXTS = frozenset({"AS", "CS", "DA", "LO", "LT", "PN", "SH", "ST", "TM"})
_FROM_META = (("SOPClassUID", "MediaStorageSOPClassUID"), ("SOPInstanceUID", "MediaStorageSOPInstanceUID"))


def reference_datasets(source: SourceSeries) -> list[Dataset]:
    """Return the headers of a series, one per slice along z, fit to be referred to.

    Parameters
    ----------
    source : SourceSeries
        A series of one volume.

    Raises
    ------
    InputError
        Where UIDs are missing beyond repair (code ``format-not-applicable``), or a file cannot be read any more.
    """
    with quiet():
        datasets = [_repaired(_header(path)) for path in source.paths]
    obstacle = _obstacle(datasets)
    if obstacle:
        raise InputError(obstacle, where=source.id, code="format-not-applicable", remedy=_remedy())
    for dataset in datasets:
        if dataset.get("SliceThickness") is None and source.geometry is not None:
            dataset.SliceThickness = DSfloat(source.geometry.spacing_mm[0], auto_format=True)
    return datasets


def seg_obstacle(source: SourceSeries) -> Finding | None:
    """Return why no DICOM object can be made that refers to `source`; ``None`` where one can.

    Raises
    ------
    InputError
        Where a file cannot be read.
    """
    try:
        reference_datasets(source)
    except InputError as error:
        if error.code != "format-not-applicable":
            raise
        return finding(error.code, f"no DICOM object can refer to this series: {error.found}")
    return None


def _remedy() -> str:
    return "Ask for another format, or export the series with its UIDs"


def _header(path: pydicom.fileutil.PathType) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the DICOM header cannot be read", where=str(path), code="unreadable") from error


def _repaired(dataset: Dataset) -> Dataset:
    meta = getattr(dataset, "file_meta", None)
    for keyword, in_meta in _FROM_META:
        if not dataset.get(keyword) and meta is not None and meta.get(in_meta):
            setattr(dataset, keyword, meta.get(in_meta))
    _in_unicode(dataset)
    _drop_malformed(dataset)
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if not dataset.get("FrameOfReferenceUID") and dataset.get("SeriesInstanceUID"):
        dataset.FrameOfReferenceUID = derived_uid("frame of reference", str(dataset.SeriesInstanceUID))
    return dataset


def _in_unicode(dataset: Dataset) -> None:
    """Decode names and texts by the character set the file declares, and declare Unicode (PS3.3 section C.12.1.1.2).

    Declared sets are often malformed; what is written from here on is right in any language.
    """
    try:
        dataset.decode()
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError("the header's texts cannot be decoded", code="unreadable") from error
    dataset.SpecificCharacterSet = "ISO_IR 192"


def _drop_malformed(dataset: Dataset) -> None:
    """Remove texts about patient and study that break their own representation; they would be copied as they are."""
    for element in [e for e in dataset if e.tag.group in _COPIED_GROUPS and e.VR in _TEXTS]:
        values = element.value if element.VM > 1 else [element.value]
        try:
            for value in values:
                validate_value(element.VR, value, config.RAISE)
        except (ValueError, TypeError):
            del dataset[element.tag]


def _obstacle(datasets: list[Dataset]) -> str:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not all(d.get(keyword) for d in datasets):
            return f"the files hold no {keyword}"
    if not all(d.get("ImagePositionPatient") for d in datasets):
        return "the image has no place in the patient"
    if len({str(d.SOPInstanceUID) for d in datasets}) < len(datasets):
        return "several slices share one SOPInstanceUID"
    if len({str(d.StudyInstanceUID) for d in datasets}) > 1 or len({str(d.SeriesInstanceUID) for d in datasets}) > 1:
        return "the slices belong to several studies or series"
    return ""
