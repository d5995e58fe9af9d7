"""DICOM SEG out: a mask as a Segmentation object (PS3.3 section A.51) that refers to the series it was made from.

The default is BINARY with empty frames left out; every frame is written where the mask is empty, or when asked for.
Frames lie on the slices that were acquired: on a tilted stack, on tilted ones; of a series that was interpolated onto
a regular grid, on the uneven ones. Before the file takes its name it is read back by other means than it was written
by, and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.sequence import Sequence as DicomSequence

from medseg import __version__
from medseg.errors import InputError, OutputError
from medseg.io.atomic import atomic_path
from medseg.io.dicom.codes.naming import concept_of
from medseg.io.dicom.identity import Identity
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.referring import reference_datasets, references_of
from medseg.io.dicom.regularise import on_slices
from medseg.io.dicom.seg.build import Kind, Sources, build_seg
from medseg.io.dicom.seg.frames import Frame, frames_of
from medseg.io.dicom.texts import as_text
from medseg.labels import Code

if TYPE_CHECKING:
    from pathlib import Path

    import highdicom as hd
    from numpy.typing import NDArray

    from medseg.io.dicom.referring import Reference
    from medseg.io.dicom.source import SourceSeries
    from medseg.labels import Label, LabelSet
    from medseg.volume import Segmentation

_TOLERANCE_MM = 1e-3
_ARTIFICIAL_INTELLIGENCE = Code("DCM", "123110", "Artificial Intelligence")


def write_seg(  # noqa: PLR0913  what a person can ask of a SEG, each by its name
    segmentation: Segmentation,
    path: Path,
    *,
    source: SourceSeries,
    all_frames: bool = False,
    kind: Kind = "binary",
    algorithm: str = "medseg",
    description: str = "Segmentation",
    identity: Identity | None = None,
) -> None:
    """Write a mask as DICOM SEG, BINARY or as a label map.

    In a BINARY segmentation, segments are numbered from 1 in the order of label ids, absent ones too, so that a number
    means the same in every case of a model. In a label map (LABELMAP, RLE Lossless; PS3.3 section C.8.20.2), segment
    numbers and pixel values are the label ids, and 0 is described as background.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of `source`.
    path : Path
        The file to write.
    source : SourceSeries
        The series it was made from; each frame refers to its slice, or frame, and lies where that does.
    all_frames : bool
        Write empty frames, too. Always done where the whole mask is empty.
    kind : {"binary", "labelmap"}
        Label maps are much smaller where there are many labels; fewer programs read them.
    algorithm : str
        What made the mask: the model's name.
    description : str
        Series description.
    identity : Identity, optional
        UIDs and moment; by default new ones.

    Raises
    ------
    InputError
        Where the series cannot be referred to (code ``format-not-applicable``): UIDs missing beyond repair, or an image
        without a place in the patient.
    GeometryError
        Where the mask is not on the grid of `source`.
    OutputError
        Where the file cannot be written, or did not read back as written.
    """
    if not len(segmentation.labels):
        raise InputError("the label set is empty", expected="at least one label", where=source.id)
    mask = on_slices(segmentation, source)
    datasets = reference_datasets(source)
    sources = Sources(source, datasets[0], references_of(source, datasets))
    identity = identity or Identity.new(segmentation.labels)
    numbers = segment_numbers(segmentation.labels, kind)
    numbered = _numbered(mask, numbers)
    try:
        with quiet():
            described = _described(segmentation.labels, numbers, algorithm=algorithm, identity=identity)
            seg = build_seg(numbered, described, sources, kind=kind, all_frames=all_frames, identity=identity)
            seg.SeriesDescription = as_text(description)
            with atomic_path(path, suffix=".dcm") as temporary:
                seg.save_as(temporary)
                del seg
                _check(temporary, numbered, sources.references)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, NotImplementedError) as error:
        raise OutputError(
            f"the series cannot be referred to by a DICOM SEG ({type(error).__name__})", where=source.id
        ) from error


def segment_numbers(labels: LabelSet, kind: Kind) -> dict[int, int]:
    """Return the segment number of each label id, by rising id.

    Examples
    --------
    >>> from medseg.labels import LabelSet
    >>> labels = LabelSet.from_names({5: "liver", 2: "spleen"})
    >>> segment_numbers(labels, "binary"), segment_numbers(labels, "labelmap")
    ({2: 1, 5: 2}, {2: 2, 5: 5})
    """
    return {i: n if kind == "binary" else i for n, i in enumerate(labels.ids, start=1)}


def _numbered(mask_zyx: NDArray[Any], numbers: dict[int, int]) -> NDArray[np.unsignedinteger[Any]]:
    """Return the mask with label ids replaced by segment numbers, in the smallest type that holds them."""
    dtype = np.uint8 if max(numbers.values()) <= np.iinfo(np.uint8).max else np.uint16
    if all(i == n for i, n in numbers.items()):
        return mask_zyx.astype(dtype, copy=False)
    table = np.zeros(max(numbers) + 1, dtype)
    table[list(numbers)] = list(numbers.values())
    numbered = np.empty(mask_zyx.shape, dtype)
    for target_yx, plane_yx in zip(numbered, mask_zyx, strict=True):  # an index is 64 bits: no whole mask of them
        target_yx[...] = table[plane_yx]
    return numbered


def _described(
    labels: LabelSet, numbers: dict[int, int], *, algorithm: str, identity: Identity
) -> list[hd.seg.SegmentDescription]:
    import highdicom as hd

    name = hd.AlgorithmIdentificationSequence(
        name=as_text(algorithm) or "medseg", family=_coded(_ARTIFICIAL_INTELLIGENCE), version=__version__
    )
    return [_segment(numbers[label.id], label, name, identity) for label in labels]


def _segment(
    number: int, label: Label, algorithm: hd.AlgorithmIdentificationSequence, identity: Identity
) -> hd.seg.SegmentDescription:
    import highdicom as hd

    concept = concept_of(label)
    tracking = identity.tracking[label.id]
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=as_text(label.name),
        segmented_property_category=_coded(concept.category),
        segmented_property_type=_coded(concept.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_id=tracking.id,
        tracking_uid=tracking.uid,
        display_color=hd.color.CIELabColor.from_rgb(*label.color),
    )
    if concept.modifier is not None:
        what = segment.SegmentedPropertyTypeCodeSequence[0]
        what.SegmentedPropertyTypeModifierCodeSequence = DicomSequence([_coded(concept.modifier)])
    return segment


def _coded(code: Code) -> hd.sr.CodedConcept:
    import highdicom as hd

    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _check(path: Path, numbered_zyx: NDArray[Any], references: tuple[Reference, ...]) -> None:
    """Read the file back with pydicom alone; compare positions, references and voxels, frame by frame."""
    places = np.array([r.position_lps for r in references])
    inside = 0
    for frame in frames_of(pydicom.dcmread(path)):
        off_mm = np.linalg.norm(places - frame.position_lps, axis=1)
        z = int(off_mm.argmin())
        if off_mm[z] > _TOLERANCE_MM:
            raise OutputError(f"a frame of the SEG lies {off_mm[z]:.3g} mm off its slice")
        if frame.sources != ((references[z].sop_instance, references[z].frame),):
            raise OutputError("a frame of the SEG does not refer to its slice alone")
        if not _shows(frame, numbered_zyx[z]):
            raise OutputError("the SEG did not read back as it was written", expected="the same voxels")
        inside += int(np.count_nonzero(frame.pixels_yx))
    if inside != np.count_nonzero(numbered_zyx):
        raise OutputError("the SEG did not read back as it was written", expected="a frame for each slice with labels")


def _shows(frame: Frame, numbers_yx: NDArray[Any]) -> bool:
    if frame.segment is None:
        return np.array_equal(frame.pixels_yx, numbers_yx)
    return np.array_equal(frame.pixels_yx != 0, numbers_yx == frame.segment)
