"""Which DICOM objects are images to segment: SOP classes and image types, sorted into kinds."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydicom import uid

from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.header.multiframe import frames_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.io.dicom.header.reading import Header

Kind = Literal["series", "volume", "image", "seg", "rtstruct", "other", "unreadable"]

_SLICES = frozenset({uid.CTImageStorage, uid.MRImageStorage, uid.PositronEmissionTomographyImageStorage})
_MULTI_FRAME = frozenset(
    {
        uid.EnhancedCTImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedPETImageStorage,
        uid.EnhancedMRColorImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.XRay3DAngiographicImageStorage,
        uid.XRay3DCraniofacialImageStorage,
        uid.BreastTomosynthesisImageStorage,
        uid.EnhancedUSVolumeStorage,
    }
)
_FLAT = frozenset(
    {
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.DigitalIntraOralXRayImageStorageForPresentation,
        uid.DigitalIntraOralXRayImageStorageForProcessing,
        uid.XRayAngiographicImageStorage,
        uid.XRayRadiofluoroscopicImageStorage,
        uid.UltrasoundImageStorage,
        uid.UltrasoundMultiFrameImageStorage,
        uid.RTImageStorage,
    }
)
_SECONDARY_CAPTURE = frozenset(
    {
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
_PROJECTIONS = frozenset({"PROJECTION IMAGE", "MIP", "MINIP"})
_LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"  # pydicom 3.0 has no name for it
_OWN_KIND: Mapping[str, tuple[Kind, str]] = MappingProxyType(
    {
        uid.SegmentationStorage: ("seg", "a segmentation (DICOM SEG)"),
        _LABEL_MAP_STORAGE: ("seg", "a segmentation (DICOM label map)"),
        uid.RTStructureSetStorage: ("rtstruct", "contours (RTSTRUCT)"),
        uid.RTDoseStorage: ("other", "a dose distribution (RTDOSE)"),
        uid.ParametricMapStorage: ("other", "a parametric map"),
    }
)


def kind_of(header: Header) -> tuple[Kind, tuple[Finding, ...]]:
    """Return what `header` describes, and why it is left out where it is no image to segment."""
    if header.sop_class in _OWN_KIND:
        kind, words = _OWN_KIND[header.sop_class]
        return kind, (finding("derived-object", f"{words}, not an image to segment"),)
    if not header.is_image:
        return _without_pixels(header)
    if header.sop_class in _SECONDARY_CAPTURE and not frames_of(header)[0].has_geometry:
        return "other", _capture(header)
    if header.sop_class in _FLAT or (header.sop_class not in _MULTI_FRAME and header.modality in _FLAT_MODALITIES):
        return "image", ()
    return "series", _by_image_type(header)


_FLAT_MODALITIES = frozenset({"CR", "DX", "MG", "IO", "PX", "US", "XA", "RF", "RG"})


def is_enhanced(header: Header) -> bool:
    """Whether the object is of a kind that holds its geometry frame by frame, in functional groups."""
    return header.sop_class in _MULTI_FRAME


def is_multi_frame(header: Header) -> bool:
    """Whether the object holds several frames, or is of a kind that may."""
    return is_enhanced(header) or header.frames > 1


def _without_pixels(header: Header) -> tuple[Kind, tuple[Finding, ...]]:
    if header.sop_class == uid.MediaStorageDirectoryStorage:
        return "other", (finding("dicomdir", "the directory of a storage medium"),)
    if header.sop_class in _SLICES | _MULTI_FRAME | _FLAT:
        if header.pixels is not None or (header.rows and header.columns):
            lacking = "size (Rows, Columns)" if header.pixels is not None else "pixel data"
            return "series", (finding("no-pixel-data", f"an image without its {lacking}"),)
        if header.series_uid:  # cut off: a slice of a scan is lost, which must not pass for a foreign file
            return "series", (finding("no-pixel-data", "the header of an image that ends before its size and pixels"),)
        words = "the header of an image alone, without size and pixels"
        return "other", (finding("no-pixel-data", words, effect="ignored"),)
    name = uid.UID(header.sop_class).name if header.sop_class else ""
    known = name and name != header.sop_class
    words = f"DICOM object without an image ({name})" if known else "DICOM object without an image"
    return "other", (finding("not-an-image", words),)


def _capture(header: Header) -> tuple[Finding, ...]:
    """Return why a secondary capture without a place in the patient is left out."""
    words = "a secondary capture (screen capture, dose sheet, rendering), not an image of a scanner"
    found = [finding("derived-object", words)]
    if header.is_colour:
        found.append(finding("colour", f"colour pixels ({header.photometric})", effect="ignored", remedy=""))
    found.append(finding("no-geometry", "no pixel spacing, position or orientation", effect="ignored", remedy=""))
    return tuple(found)


def _by_image_type(header: Header) -> tuple[Finding, ...]:
    if "LOCALIZER" in header.image_type:
        return (finding("localizer", "a localizer (scout) image, made to plan the scan"),)
    if not _PROJECTIONS.isdisjoint(header.image_type):
        return (finding("derived-object", "a projection computed from a scan, not a slice of it"),)
    return ()
