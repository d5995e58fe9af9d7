"""The frames of a multi-frame object: where each lies and what it shows, from the functional groups (PS3.3 C.7.6.16).

What is the same in all frames stands in one group that they share, the rest frame by frame. Only the few groups that
tell place, size, order and rescale are read. `frames_of` makes of one file's header one header a frame, so that what
judges the slices of single files judges frames, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag

from medseg.io.dicom.header.attributes import Numbers, Pair, as_length, as_lengths, as_whole, cosines, finite
from medseg.io.dicom.header.sequences import Values, values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.io.dicom.header.parsing import Parsed
    from medseg.io.dicom.header.reading import Header
    from medseg.io.dicom.header.walk import Element, Walker

SHARED = 0x52009229
PER_FRAME = 0x52009230
MOST_FRAMES = 2**16

_GROUPS = frozenset(
    int(Tag(keyword))
    for keyword in (
        "FrameContentSequence",
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
        "MRImageFrameTypeSequence",
        "CTImageFrameTypeSequence",
        "PETFrameTypeSequence",
        "XRay3DFrameTypeSequence",
        "MREchoSequence",
        "MRDiffusionSequence",
        "TemporalPositionSequence",
        "CardiacSynchronizationSequence",
        "UnassignedSharedConvertedAttributesSequence",
        "UnassignedPerFrameConvertedAttributesSequence",
    )
)
_TAG_OF: Mapping[str, int] = MappingProxyType(
    {
        keyword: int(Tag(keyword))
        for keyword in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "SliceThickness",
            "SpacingBetweenSlices",
            "RescaleSlope",
            "RescaleIntercept",
            "FrameType",
            "ComplexImageComponent",
            "EffectiveEchoTime",
            "EchoTime",
            "DiffusionBValue",
            "TemporalPositionIndex",
            "TemporalPositionIdentifier",
            "TemporalPositionTimeOffset",
            "NominalCardiacTriggerDelayTime",
            "TriggerTime",
            "FrameAcquisitionNumber",
            "AcquisitionNumber",
            "DimensionIndexValues",
        )
    }
)
_LEAVES: Mapping[int, str] = MappingProxyType({tag: dictionary_VR(keyword) for keyword, tag in _TAG_OF.items()})
_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Frame:
    """What the functional groups say of one frame; ``None`` where they do not."""

    position: Numbers | None
    orientation: Numbers | None
    orientation_error: float | None
    pixel_spacing: Pair | None
    thickness: float | None
    spacing_between: float | None
    slope: float | None
    intercept: float | None
    frame_type: tuple[str, ...]
    temporal_position: int | None
    trigger_ms: float | None
    since_start_ms: float | None
    b_value: float | None
    echo_time: float | None
    acquisition: int | None
    dimension_index: tuple[int, ...]


def read_frames(parsed: Parsed, count: int) -> tuple[Frame, ...] | None:
    """Return what the functional groups say of each frame; ``None`` where there are none.

    There may be fewer frames than `count`, where the file describes fewer, or one more, where it describes more; no
    more than `MOST_FRAMES` are read.

    Raises
    ------
    ValueError
        Where the sequences are damaged.
    """
    shared, per_frame = parsed.located.get(SHARED), parsed.located.get(PER_FRAME)
    if shared is None and per_frame is None:
        return None
    walker = parsed.walker
    common: dict[int, Values] = {}
    if shared is not None:
        for start, end in walker.items(shared):
            common = _said(walker, start, end)
            break
    if per_frame is None:
        return (_frame(common),) if count == 1 else ()
    found: list[Frame] = []
    for start, end in walker.items(per_frame):
        if len(found) >= min(count + 1, MOST_FRAMES):
            break
        found.append(_frame({**common, **_said(walker, start, end)}))
    return tuple(found)


def is_described(header: Header) -> bool:
    """Whether the functional groups describe every frame of an object, so that `frames_of` can part it."""
    return header.groups is not None and len(header.groups) == header.frames


def frames_of(header: Header) -> tuple[Header, ...]:
    """Return one header for each frame of a multi-frame object, in the order of the file.

    Parameters
    ----------
    header : Header
        Of a file. One whose frames are not all described, or that has none, is returned as it is.
    """
    if header.groups is None or not is_described(header):
        return (header,)
    return tuple(_placed(header, frame, number) for number, frame in enumerate(header.groups))


def _placed(header: Header, frame: Frame, number: int) -> Header:
    """Return the header of one frame; what the groups do not say is taken from the file's own elements."""
    has_axes = frame.orientation is not None or frame.orientation_error is not None
    return replace(
        header,
        position=frame.position or header.position,
        orientation=frame.orientation if has_axes else header.orientation,
        orientation_error=frame.orientation_error if has_axes else header.orientation_error,
        pixel_spacing=frame.pixel_spacing or header.pixel_spacing,
        thickness=frame.thickness or header.thickness,
        spacing_between=frame.spacing_between or header.spacing_between,
        slope=header.slope if frame.slope is None else frame.slope,
        intercept=header.intercept if frame.intercept is None else frame.intercept,
        frame_type=frame.frame_type,
        temporal_position=frame.temporal_position or header.temporal_position,
        delays_ms=(frame.trigger_ms or header.delays_ms[0], frame.since_start_ms or header.delays_ms[1]),
        b_value=header.b_value if frame.b_value is None else frame.b_value,
        echo_time=frame.echo_time or header.echo_time,
        acquisition=header.acquisition if frame.acquisition is None else frame.acquisition,
        dimension_index=frame.dimension_index,
        frame=number,
        groups=None,
        whole=header,
    )


def _said(walker: Walker, start: int, end: int | None) -> dict[int, Values]:
    """Return the wanted values from the groups of one frame, or of all."""
    found: dict[int, Values] = {}
    for group in walker.elements(start, end):
        if group.tag in _GROUPS and group.vr in {"", "SQ", "UN"}:
            _add(walker, group, found)
    return found


def _add(walker: Walker, group: Element, found: dict[int, Values]) -> None:
    """Add the wanted values of a group, from its first item."""
    for number, (start, end) in enumerate(walker.items(group)):
        if number > 0:
            continue  # there is one; to go on to the end spares walking through it twice
        for leaf in walker.elements(start, end):
            vr = _LEAVES.get(leaf.tag)
            if vr is not None and leaf.tag not in found:
                found[leaf.tag] = values(walker, leaf, vr)


def _frame(said: Mapping[int, Values]) -> Frame:
    orientation, orientation_error = cosines(finite(_numbers(said, "ImageOrientationPatient"), 6))
    offset_s = _number(said, "TemporalPositionTimeOffset")
    return Frame(
        position=finite(_numbers(said, "ImagePositionPatient"), 3),
        orientation=orientation,
        orientation_error=orientation_error,
        pixel_spacing=as_lengths(finite(_numbers(said, "PixelSpacing"), 2)),
        thickness=as_length(_number(said, "SliceThickness")),
        spacing_between=as_length(_number(said, "SpacingBetweenSlices")),
        slope=(_numbers(said, "RescaleSlope") or (None,))[0],
        intercept=(_numbers(said, "RescaleIntercept") or (None,))[0],
        frame_type=(*_texts(said, "FrameType"), *_texts(said, "ComplexImageComponent")),
        temporal_position=as_whole(_number(said, "TemporalPositionIndex", "TemporalPositionIdentifier")),
        trigger_ms=_number(said, "NominalCardiacTriggerDelayTime", "TriggerTime"),
        since_start_ms=None if offset_s is None else offset_s * _MS_PER_S,
        b_value=_number(said, "DiffusionBValue"),
        echo_time=_number(said, "EffectiveEchoTime", "EchoTime"),
        acquisition=as_whole(_number(said, "FrameAcquisitionNumber", "AcquisitionNumber")),
        dimension_index=tuple(as_whole(v) or 0 for v in _numbers(said, "DimensionIndexValues") or ()),
    )


def _numbers(said: Mapping[int, Values], keyword: str) -> tuple[float, ...] | None:
    found = tuple(float(v) for v in said.get(_TAG_OF[keyword], ()) if not isinstance(v, str))
    return found or None


def _number(said: Mapping[int, Values], *keywords: str) -> float | None:
    for keyword in keywords:
        found = _numbers(said, keyword)
        if found and math.isfinite(found[0]):
            return found[0]
    return None


def _texts(said: Mapping[int, Values], keyword: str) -> tuple[str, ...]:
    return tuple(v for v in said.get(_TAG_OF[keyword], ()) if isinstance(v, str))
