"""A DICOM SEG object from a mask on the slices of a series, by highdicom.

highdicom takes positions, patient and references from the images it is given, and asks more of them than files hold:
one orientation for all frames, a plane position at a known place, an SOP class it knows. It is therefore given a plain
stand-in for each slice, and the references are then made those of the slices themselves. So single-frame, multi-frame
and mosaic sources, tilted and irregular ones go one way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.utils import compress
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import DSfloat

from medseg import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    import highdicom as hd
    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.io.dicom.identity import Identity
    from medseg.io.dicom.referring import Reference
    from medseg.io.dicom.source import SourceSeries

Kind = Literal["binary", "labelmap"]

_RLE_BY = "pydicom"  # GDCM, which highdicom would take, ends the process on some image sizes
_COSINE_DIGITS = 10  # keeps a decimal string within its 16 characters
_ELSEWHERE = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "NumberOfFrames",
    "ImageOrientationSlide",
    "ImageCenterPointCoordinatesSequence",
    "SpacingBetweenSlices",
)


@dataclass(frozen=True, eq=False)
class Sources:
    """The slices a mask was made from.

    Attributes
    ----------
    series : SourceSeries
    first : Dataset
        Header of its first slice: patient, study, equipment.
    references : tuple of Reference
        One per slice along z.
    """

    series: SourceSeries
    first: Dataset
    references: tuple[Reference, ...]


def build_seg(
    numbers_zyx: NDArray[np.unsignedinteger],
    described: list[hd.seg.SegmentDescription],
    sources: Sources,
    *,
    kind: Kind,
    all_frames: bool,
    identity: Identity,
) -> hd.seg.Segmentation:
    """Return the object; each frame refers to the slice of the same index and lies where that does.

    Parameters
    ----------
    numbers_zyx : (n, Y, X) unsigned integer
        Segment numbers, one plane per slice.
    described : list of SegmentDescription
        By rising number.
    sources : Sources
        The slices.
    kind : {"binary", "labelmap"}
        One frame per slice and segment, or one per slice.
    all_frames : bool
        Keep empty frames. Always done where the mask is empty.
    identity : Identity
        UIDs and moment.
    """
    import highdicom as hd

    images = _stand_ins(sources)
    is_binary = kind == "binary"
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=numbers_zyx.astype(bool) if is_binary and len(described) == 1 else numbers_zyx,
        segmentation_type=kind.upper(),
        segment_descriptions=described,
        series_instance_uid=identity.seg_series,
        series_number=_series_number(sources.first),
        sop_instance_uid=identity.seg_instance,
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="medseg",
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="SEGMENTATION",
        content_description="Segmentation by a trained network",
        content_creator_name="medseg",
        omit_empty_frames=not all_frames and bool(numbers_zyx.any()),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    if not is_binary:
        compress(seg, RLELossless, encoding_plugin=_RLE_BY, generate_instance_uid=False)
    _date(seg, identity)
    _refer(seg, [str(image.SOPInstanceUID) for image in images], sources)
    return seg


def _stand_ins(sources: Sources) -> list[Dataset]:
    """Return a plain image per slice: single-frame, on the grid, at the slice's place; the first holds the header."""
    import highdicom as hd

    geometry = sources.series.geometry
    if geometry is None:  # pragma: no cover - write_seg refuses it before
        raise ValueError("no grid")
    plain = _plane(geometry, is_even=_is_even(sources.series))
    plain.StudyInstanceUID = sources.first.StudyInstanceUID
    plain.SeriesInstanceUID = sources.first.SeriesInstanceUID
    plain.FrameOfReferenceUID = sources.first.FrameOfReferenceUID
    plain.SOPClassUID = CTImageStorage
    images = []
    for z, reference in enumerate(sources.references):
        image = Dataset()
        if z == 0:
            image.update({e.tag: e for e in sources.first if e.keyword not in _ELSEWHERE})
        image.update(plain)
        image.SOPInstanceUID = hd.UID()
        image.ImagePositionPatient = [DSfloat(v, auto_format=True) for v in reference.position_lps]
        images.append(image)
    return images


def _plane(geometry: Geometry, *, is_even: bool) -> Dataset:
    """Return what all slices share, from the grid: nominal tags may be absent or other numbers."""
    directions, spacing = geometry.directions_lps, geometry.spacing_mm
    normal = np.cross(directions[:, 2], directions[:, 1])
    between = DSfloat(abs(float(normal @ geometry.affine[:3, 0])), auto_format=True)
    plane = Dataset()
    plane.Rows, plane.Columns = geometry.shape[1:]
    plane.PixelSpacing = [DSfloat(v, auto_format=True) for v in spacing[1:]]
    plane.SliceThickness = between
    if is_even:
        plane.SpacingBetweenSlices = between
    cosines = (*directions[:, 2], *directions[:, 1])
    plane.ImageOrientationPatient = [DSfloat(round(float(v), _COSINE_DIGITS) + 0.0, auto_format=True) for v in cosines]
    return plane


def _is_even(series: SourceSeries) -> bool:
    """Return whether all slices lie on an even grid, some missing perhaps."""
    return series.irregular is None or all(s.is_integer() for s in series.irregular.stations)


def _series_number(first: Dataset) -> int:
    """Return a number that stands behind the source's in a list, where that has one."""
    number = first.get("SeriesNumber")
    return 100 * int(number) + 99 if number is not None and 0 < int(number) < 10**7 else 9999


def _date(seg: Dataset, identity: Identity) -> None:
    date, time = identity.moment.strftime("%Y%m%d"), identity.moment.strftime("%H%M%S")
    seg.SeriesDate = seg.ContentDate = seg.InstanceCreationDate = date
    seg.SeriesTime = seg.ContentTime = seg.InstanceCreationTime = time


def _refer(seg: Dataset, stood_in: Sequence[str], sources: Sources) -> None:
    """Make every reference to a stand-in one to its slice (PS3.3 sections C.7.6.16.2.6 and C.12.2)."""
    of_stand_in = dict(zip(stood_in, sources.references, strict=True))
    for group in seg.PerFrameFunctionalGroupsSequence:
        for image in group.DerivationImageSequence[0].SourceImageSequence:
            reference = of_stand_in.get(str(image.ReferencedSOPInstanceUID))
            if reference is None:
                continue  # frames of several segments on one slice share the item, which is done already
            image.ReferencedSOPClassUID = reference.sop_class
            image.ReferencedSOPInstanceUID = reference.sop_instance
            if reference.frame is not None:
                image.ReferencedFrameNumber = reference.frame
            if not reference.is_whole:
                image.SpatialLocationsPreserved = "NO"
    instances = DicomSequence(
        [_instance(*pair) for pair in dict.fromkeys((r.sop_class, r.sop_instance) for r in sources.references)]
    )
    seg.SourceImageSequence = instances
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = instances


def _instance(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    return item
