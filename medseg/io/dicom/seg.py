"""DICOM SEG out: a mask as a Segmentation object (PS3.3 section A.51) that refers to the series it was made from.

The default is BINARY with empty frames left out; every frame is written where the mask is empty, or when asked for.
Before the file takes its name it is read back by other means than it was written by, and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.sequence import Sequence as DicomSequence

from medseg import __version__
from medseg.errors import GeometryError, InputError, OutputError
from medseg.io.atomic import atomic_path
from medseg.io.dicom.codes import concept_of
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_frames import frames_of
from medseg.io.dicom.seg_source import reference_datasets
from medseg.labels import Code

if TYPE_CHECKING:
    from pathlib import Path

    import highdicom as hd
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from medseg.geometry import Geometry
    from medseg.io.dicom.source import SourceSeries
    from medseg.labels import Label, LabelSet
    from medseg.volume import Segmentation

_TOLERANCE_MM = 1e-3
_LONGEST_LABEL = 64  # LO, PS3.5 section 6.2
_ARTIFICIAL_INTELLIGENCE = Code("DCM", "123110", "Artificial Intelligence")
_COSINE_DIGITS = 10  # keeps a decimal string within its 16 characters


def write_seg(
    segmentation: Segmentation,
    path: Path,
    *,
    source: SourceSeries,
    all_frames: bool = False,
    algorithm: str = "medseg",
    description: str = "Segmentation",
) -> None:
    """Write a mask as DICOM SEG (BINARY).

    Segments are numbered from 1 in the order of label ids, absent ones too, so that a number means the same in every
    case of a model.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of `source`.
    path : Path
        The file to write.
    source : SourceSeries
        The series it was made from; each frame refers to its slice.
    all_frames : bool
        Write empty frames, too. Always done where the whole mask is empty.
    algorithm : str
        What made the mask: the model's name.
    description : str
        Series description.

    Raises
    ------
    InputError
        Where the series cannot be referred to (code ``format-not-applicable``): UIDs missing beyond repair.
    GeometryError
        Where the mask is not on the grid of `source`.
    OutputError
        Where the file cannot be written, or did not read back as written.
    """
    if source.geometry is None or not source.geometry.same_grid(segmentation.geometry):
        raise GeometryError("the mask is not on the grid of the series", expected=str(source.geometry), where=source.id)
    if not len(segmentation.labels):
        raise InputError("the label set is empty", expected="at least one label", where=source.id)
    datasets = reference_datasets(source)
    numbers = _numbered(segmentation)
    try:
        with quiet():
            described = _described(segmentation.labels, algorithm)
            seg = _built(numbers, described, datasets, source.geometry, all_frames=all_frames)
            seg.SeriesDescription = description[:_LONGEST_LABEL]
            with atomic_path(path, suffix=".dcm") as temporary:
                seg.save_as(temporary)
                _check(temporary, numbers, datasets)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OutputError(
            f"the series cannot be referred to by a DICOM SEG ({type(error).__name__})", where=source.id
        ) from error


def _numbered(segmentation: Segmentation) -> NDArray[np.uint16]:
    """Return the mask with label ids replaced by segment numbers 1 to N."""
    numbers = np.zeros(max(segmentation.labels.ids) + 1, np.uint16)
    numbers[list(segmentation.labels.ids)] = np.arange(1, len(segmentation.labels) + 1)
    array: NDArray[np.uint16] = numbers[segmentation.array]
    return array


def _built(
    numbers_zyx: NDArray[np.uint16],
    described: list[hd.seg.SegmentDescription],
    datasets: list[Dataset],
    geometry: Geometry,
    *,
    all_frames: bool,
) -> hd.seg.Segmentation:
    """Return the object; frames refer to the slice of the same index and lie where that does."""
    import highdicom as hd

    directions, spacing = geometry.directions_lps, geometry.spacing_mm
    normal = np.cross(directions[:, 2], directions[:, 1])
    between = abs(float(normal @ geometry.affine[:3, 0]))
    return hd.seg.Segmentation(
        source_images=datasets,
        pixel_array=numbers_zyx if len(described) > 1 else numbers_zyx.astype(bool),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=_series_number(datasets[0]),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="medseg",
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="SEGMENTATION",
        content_description="Segmentation by a trained network",
        content_creator_name="medseg",
        omit_empty_frames=bool(numbers_zyx.any()) and not all_frames,
        # From the grid, not from nominal tags, which may be absent or another number:
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=spacing[1:], slice_thickness=between, spacing_between_slices=between
        ),
        plane_orientation=hd.PlaneOrientationSequence(
            hd.CoordinateSystemNames.PATIENT,
            [round(float(v), _COSINE_DIGITS) for v in (*directions[:, 2], *directions[:, 1])],
        ),
        plane_positions=[
            hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, [float(v) for v in d.ImagePositionPatient])
            for d in datasets
        ],
    )


def _series_number(first: Dataset) -> int:
    """Return a number that stands behind the source's in a list, where that has one."""
    number = first.get("SeriesNumber")
    return 100 * int(number) + 99 if number is not None and 0 < int(number) < 10**7 else 9999


def _described(labels: LabelSet, algorithm: str) -> list[hd.seg.SegmentDescription]:
    import highdicom as hd

    name = hd.AlgorithmIdentificationSequence(
        name=algorithm[:_LONGEST_LABEL], family=_coded(_ARTIFICIAL_INTELLIGENCE), version=__version__
    )
    return [_segment(number, label, name) for number, label in enumerate(labels, start=1)]


def _segment(number: int, label: Label, algorithm: hd.AlgorithmIdentificationSequence) -> hd.seg.SegmentDescription:
    import highdicom as hd

    concept = concept_of(label)
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name[:_LONGEST_LABEL],
        segmented_property_category=_coded(concept.category),
        segmented_property_type=_coded(concept.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*label.color),
    )
    if concept.modifier is not None:
        what = segment.SegmentedPropertyTypeCodeSequence[0]
        what.SegmentedPropertyTypeModifierCodeSequence = DicomSequence([_coded(concept.modifier)])
    return segment


def _coded(code: Code) -> hd.sr.CodedConcept:
    import highdicom as hd

    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _check(path: Path, numbers_zyx: NDArray[np.uint16], datasets: list[Dataset]) -> None:
    """Read the file back with pydicom alone; compare voxels, positions and references."""
    found = np.zeros_like(numbers_zyx)
    where = {str(d.SOPInstanceUID): z for z, d in enumerate(datasets)}
    for frame in frames_of(pydicom.dcmread(path)):
        slices = [where[uid] for uid in frame.source_uids if uid in where]
        if len(slices) != 1:
            raise OutputError(f"a frame refers to {len(slices)} slices", expected="1")
        expected = np.array([float(v) for v in datasets[slices[0]].ImagePositionPatient])
        off_mm = float(np.linalg.norm(frame.position_lps - expected))
        if off_mm > _TOLERANCE_MM:
            raise OutputError(f"a frame of the SEG lies {off_mm:.3g} mm off its slice")
        _add(found[slices[0]], frame.pixels_yx, frame.segment or 0)
    if not np.array_equal(found, numbers_zyx):
        raise OutputError("the SEG did not read back as it was written", expected="the same voxels")


def _add(plane_yx: NDArray[Any], pixels_yx: NDArray[Any], segment: int) -> None:
    plane_yx[pixels_yx != 0] = segment
