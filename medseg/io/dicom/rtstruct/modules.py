"""The parts of an RTSTRUCT beside its contours: whose it is, what it refers to, what each structure is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from pydicom.valuerep import DSfloat

from medseg import __version__
from medseg.io.dicom.codes.naming import ABNORMAL, ANATOMICAL_STRUCTURE, concept_of
from medseg.io.dicom.texts import as_text
from medseg.labels import Code

if TYPE_CHECKING:
    from medseg.io.dicom.identity import Identity
    from medseg.io.dicom.referring import Reference
    from medseg.labels import Label
    from medseg.volume import Segmentation

_COPIED = (  # patient, study and frame of reference, as PS3.3 section A.19.3 lists the modules
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "ReferringPhysicianName",
    "AccessionNumber",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management (retired): what readers expect here
_ARTIFICIAL_INTELLIGENCE = Code("DCM", "123110", "Artificial Intelligence")
_GROSS_TUMOR = ABNORMAL["gross tumor volume"][0]


def rtstruct_header(first: Dataset, identity: Identity, description: str) -> Dataset:
    """Return patient, study, series, equipment, approval and the head of the structure set."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for keyword in _COPIED:
        if keyword in first:
            dataset[keyword] = first[keyword]
    date, time = identity.moment.strftime("%Y%m%d"), identity.moment.strftime("%H%M%S")
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = identity.rtstruct_instance
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = identity.rtstruct_series
    dataset.SeriesNumber = _series_number(first)
    dataset.SeriesDate, dataset.SeriesTime = date, time
    dataset.SeriesDescription = as_text(description)
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.Manufacturer = dataset.ManufacturerModelName = "medseg"
    dataset.SoftwareVersions = dataset.DeviceSerialNumber = __version__
    dataset.StructureSetLabel = "SEGMENTATION"
    dataset.StructureSetName = as_text(description)
    dataset.StructureSetDate, dataset.StructureSetTime = date, time
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _series_number(first: Dataset) -> int:
    """Return a number that stands behind the source's in a list, where that has one; the SEG's is the next."""
    number = first.get("SeriesNumber")
    return 100 * int(number) + 98 if number is not None and 0 < int(number) < 10**7 else 9998


def add_references(dataset: Dataset, references: tuple[Reference, ...], first: Dataset) -> None:
    """Name the study, the series and all its images (PS3.3 section C.8.8.5)."""
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    images = {(r.sop_instance, r.frame): r for r in references}  # the tiles of a mosaic are one image
    series.ContourImageSequence = Sequence(image_reference(r) for r in images.values())
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = Sequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = Sequence([study])
    dataset.ReferencedFrameOfReferenceSequence = Sequence([frame])


def image_reference(reference: Reference) -> Dataset:
    """Return an item that names the image of a slice, and its frame (PS3.3 section 10.3)."""
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class
    item.ReferencedSOPInstanceUID = reference.sop_instance
    if reference.frame is not None:
        item.ReferencedFrameNumber = reference.frame
    return item


def add_structures(dataset: Dataset, segmentation: Segmentation, algorithm: str) -> None:
    """Describe each structure: name, volume and origin (PS3.3 section C.8.8.5), and what it is (C.8.8.8)."""
    labels = segmentation.labels
    voxels = np.zeros(max(labels.ids) + 1, np.int64)
    for plane_yx in segmentation.array:  # counting makes 64 bits of each voxel
        voxels += np.bincount(plane_yx.ravel(), minlength=len(voxels))
    described, observed = [], []
    for number, label in enumerate(labels, start=1):
        item = Dataset()
        item.ROINumber = number
        item.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
        item.ROIName = as_text(label.name)
        item.ROIVolume = DSfloat(float(voxels[label.id]) * segmentation.geometry.voxel_ml, auto_format=True)
        item.ROIGenerationAlgorithm = "AUTOMATIC"
        item.ROIGenerationDescription = as_text(algorithm) or "medseg"
        item.ROIDerivationAlgorithmIdentificationSequence = Sequence([_algorithm(algorithm)])
        described.append(item)
        observed.append(_observed(number, label))
    dataset.StructureSetROISequence = Sequence(described)
    dataset.RTROIObservationsSequence = Sequence(observed)


def _algorithm(name: str) -> Dataset:
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = Sequence([_coded(_ARTIFICIAL_INTELLIGENCE)])
    item.AlgorithmName = as_text(name) or "medseg"
    item.AlgorithmVersion = __version__
    return item


def _observed(number: int, label: Label) -> Dataset:
    concept = concept_of(label)
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.SegmentedPropertyCategoryCodeSequence = Sequence([_coded(concept.category)])
    what = _coded(concept.type)
    if concept.modifier is not None:
        what.SegmentedPropertyTypeModifierCodeSequence = Sequence([_coded(concept.modifier)])
    item.RTROIIdentificationCodeSequence = Sequence([what])
    item.RTROIInterpretedType = _interpreted(concept.category, concept.type)
    item.ROIInterpreter = ""
    return item


def _interpreted(category: Code, kind: Code) -> str:
    """Return the role in radiotherapy, as far as it follows from what the structure is (PS3.3 section C.8.8.8.1)."""
    if kind.value == _GROSS_TUMOR:
        return "GTV"
    return "ORGAN" if category == ANATOMICAL_STRUCTURE else ""


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
