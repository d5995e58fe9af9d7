"""TID 1500 out: the volume of every label as a structured report (PS3.16 TID 1500) on the segmentation it belongs to.

Each label that is there is a group of TID 1411 with its volume, the method, what and where it is in codes, and the
segment it was measured in; its tracking UID is the segment's. A label that is not there has no region to refer to: it
is a group of TID 1501 with a volume of 0, so that the report of an empty mask says that nothing was found, and of what.
The observer is the program, no person; the document is complete, preliminary and unverified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.valuerep import DA, TM

from medseg import __version__
from medseg.errors import InputError, OutputError
from medseg.io.atomic import atomic_path
from medseg.io.dicom.codes.naming import ABNORMAL_STRUCTURE, Concept, concept_of
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.referring import reference_datasets
from medseg.io.dicom.texts import as_text
from medseg.io.dicom.uids import derived_uid
from medseg.labels import Code

if TYPE_CHECKING:
    from pathlib import Path

    import highdicom as hd
    from pydicom.dataset import Dataset

    from medseg.io.dicom.identity import Identity, Tracking
    from medseg.io.dicom.source import SourceSeries
    from medseg.labels import Label
    from medseg.volume import Segmentation

_DECIMALS_ML = 6
_VOLUME = Code("SCT", "118565006", "Volume")
_MILLILITRE = Code("UCUM", "cm3", "cubic centimeter")  # CID 7462
_SUM_OF_VOXELS = Code("DCM", "126030", "Sum of segmented voxel method for volume")  # CID 7474
_DEVICE = Code("DCM", "121007", "Device")
_ARTIFICIAL_INTELLIGENCE = Code("DCM", "123110", "Artificial Intelligence")
_PROCEDURE = Code("SCT", "363679005", "Imaging procedure")
_PROCEDURES = (  # CID 100
    ("CT", Code("LN", "25045-6", "CT unspecified body region")),
    ("MR", Code("LN", "25056-3", "MRI unspecified body region")),
    ("PT", Code("LN", "44136-0", "PET unspecified body region")),
    ("NM", Code("LN", "49118-3", "NM unspecified body region")),
    ("CR", Code("LN", "43468-8", "XR unspecified body region")),
    ("DX", Code("LN", "43468-8", "XR unspecified body region")),
)
_SIDES = ("7771000", "24028007")  # left and right (CID 244); other modifiers are topographical


def write_sr(
    segmentation: Segmentation,
    path: Path,
    *,
    source: SourceSeries,
    seg: Path,
    identity: Identity,
    algorithm: str = "medseg",
) -> None:
    """Write the volumes of a mask as an Enhanced SR of template TID 1500.

    Parameters
    ----------
    segmentation : Segmentation
        The mask.
    path : Path
        The file to write.
    source : SourceSeries
        The series the mask was made from.
    seg : Path
        The DICOM SEG of the same mask, written by `medseg.io.dicom.write_seg` with the same `identity`; the report
        refers to its segments.
    identity : Identity
        UIDs and moment.
    algorithm : str
        What made the mask: the model's name.

    Raises
    ------
    InputError
        Where the series cannot be referred to (code ``format-not-applicable``), or `seg` is not the SEG of this mask.
    OutputError
        Where the file cannot be written, or did not read back as written.
    """
    with quiet():
        evidence = list({d.SOPInstanceUID: d for d in reference_datasets(source)}.values())
        header = _header(seg)
        try:
            report = _document(segmentation, header, evidence, identity=identity, algorithm=algorithm)
            with atomic_path(path, suffix=".dcm") as temporary:
                report.save_as(temporary)
                _check(temporary, segmentation, identity)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise OutputError(
                f"the series cannot be referred to by a DICOM SR ({type(error).__name__})", where=source.id
            ) from error


def read_sr_volumes(path: Path) -> dict[str, float]:
    """Return the volumes in a report of template TID 1500, in millilitres by tracking UID; pydicom alone reads it.

    Parameters
    ----------
    path : Path
        A DICOM SR.

    Raises
    ------
    InputError
        Where the file is no such report, or a volume is in another unit than cubic centimetres.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(path)
            (measurements,) = _items(dataset, "126010")
            groups = _items(measurements, "125007")
            return {str(_items(group, "112040")[0].UID): _volume_ml(group) for group in groups}
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OSError, EOFError) as error:
        raise InputError("the file is no TID 1500 report that can be read", where=path.name) from error


def _header(path: Path) -> Dataset:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        _numbers(header)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError("the file is no DICOM SEG to report on", where=path.name) from error
    return header


def _numbers(seg: Dataset) -> dict[str, int]:
    """Return the segment of each tracking UID."""
    return {str(s.TrackingUID): int(s.SegmentNumber) for s in seg.SegmentSequence if s.get("TrackingUID")}


def _document(
    segmentation: Segmentation, seg: Dataset, evidence: list[Dataset], *, identity: Identity, algorithm: str
) -> hd.sr.EnhancedSR:
    import highdicom as hd

    if not segmentation.labels:
        raise InputError("the label set is empty", expected="at least one label")
    numbers = _numbers(seg)
    if any(identity.tracking[i].uid not in numbers for i in segmentation.labels.ids):
        raise InputError("the DICOM SEG was written for another mask or in another run")
    first, name = evidence[0], as_text(algorithm) or "medseg"
    series = hd.sr.SourceSeriesForSegmentation(first.SeriesInstanceUID)
    groups = []
    for label, volume_ml in zip(segmentation.labels, segmentation.volumes_ml().values(), strict=True):
        tracking = identity.tracking[label.id]
        region = hd.sr.ReferencedSegment(
            seg.SOPClassUID, seg.SOPInstanceUID, segment_number=numbers[tracking.uid], source_series=series
        )
        groups.append(_group(label, volume_ml, tracking, region=region, algorithm=name))
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=_observer(name)),
        procedure_reported=_coded(dict(_PROCEDURES).get(str(first.get("Modality", "")), _PROCEDURE)),
        imaging_measurements=groups,
    )
    document = hd.sr.EnhancedSR(
        evidence=[*evidence, seg],
        content=content,
        series_instance_uid=identity.sr_series,
        series_number=_series_number(first),
        sop_instance_uid=identity.sr_instance,
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="medseg",
        software_versions=__version__,
        device_serial_number=__version__,
        series_description="Volumes of the segmentation",
        is_complete=True,
    )
    document.ContentDate, document.ContentTime = DA(identity.moment.date()), TM(identity.moment.time())
    return document


def _group(
    label: Label, volume_ml: float, tracking: Tracking, *, region: hd.sr.ReferencedSegment, algorithm: str
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations | hd.sr.MeasurementsAndQualitativeEvaluations:
    """Return what is said of one label: a measured region where it is there, else a measurement of none."""
    import highdicom as hd

    concept = concept_of(label)
    measured = hd.sr.Measurement(
        name=_coded(_VOLUME),
        value=round(volume_ml, _DECIMALS_ML),
        unit=_coded(_MILLILITRE),
        method=_coded(_SUM_OF_VOXELS),
        algorithm_id=hd.sr.AlgorithmIdentification(algorithm, __version__, family=_coded(_ARTIFICIAL_INTELLIGENCE)),
    )
    said: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(uid=tracking.uid, identifier=tracking.id),
        "finding_type": _coded(concept.type),
        "finding_category": _coded(concept.category),
        "finding_sites": [] if concept.category == ABNORMAL_STRUCTURE else [_site(concept)],
        "measurements": [measured],
    }
    if not volume_ml:
        return hd.sr.MeasurementsAndQualitativeEvaluations(**said)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=region, **said)


def _site(concept: Concept) -> hd.sr.FindingSite:
    import highdicom as hd

    place, modifier = _coded(concept.type), concept.modifier
    if modifier is None:
        return hd.sr.FindingSite(place)
    if modifier.value in _SIDES:
        return hd.sr.FindingSite(place, laterality=_coded(modifier))
    return hd.sr.FindingSite(place, topographical_modifier=_coded(modifier))


def _observer(name: str) -> hd.sr.ObserverContext:
    import highdicom as hd

    return hd.sr.ObserverContext(
        observer_type=_coded(_DEVICE),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", name, __version__),
            name=name,
            manufacturer_name="medseg",
            model_name="medseg",
            serial_number=__version__,
        ),
    )


def _series_number(first: Dataset) -> int:
    """Return a number that stands behind the source's in a list, where that has one."""
    number = first.get("SeriesNumber")
    return 100 * int(number) + 97 if number is not None and 0 < int(number) < 10**7 else 9997


def _coded(code: Code) -> hd.sr.CodedConcept:
    import highdicom as hd

    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _check(path: Path, segmentation: Segmentation, identity: Identity) -> None:
    expected = {
        identity.tracking[i].uid: round(volume, _DECIMALS_ML) for i, volume in segmentation.volumes_ml().items()
    }
    if read_sr_volumes(path) != expected:
        raise OutputError("the SR did not read back as it was written", expected="the same volumes")


def _items(parent: Dataset, value: str) -> list[Dataset]:
    """Return the content items of a concept of DICOM's own coding scheme, or of SNOMED CT."""
    return [i for i in parent.get("ContentSequence") or () if _concept(i) == value]


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""


def _volume_ml(group: Dataset) -> float:
    (item,) = _items(group, _VOLUME.value)
    measured = item.MeasuredValueSequence[0]
    if measured.MeasurementUnitsCodeSequence[0].CodeValue != _MILLILITRE.value:
        raise ValueError("unit")
    return float(measured.get("FloatingPointValue") or measured.NumericValue)
