"""From a group of slices to one item: put in order, placed in the patient, and judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io.dicom.findings import Finding, finding, status_of
from medseg.io.dicom.header.attributes import NOT_ORTHONORMAL
from medseg.io.dicom.header.lengths import missing_bytes
from medseg.io.dicom.header.mosaic import mosaic_gap
from medseg.io.dicom.header.multiframe import MOST_FRAMES
from medseg.io.dicom.header.objects import is_enhanced, is_multi_frame
from medseg.io.dicom.inventory.positions import Stack, gap_between, oblique, slice_normal, stack
from medseg.io.dicom.inventory.repeats import Volumes, repeat_findings, volumes_of
from medseg.io.dicom.item import Item, Traits, id_of_series
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.regularise import plan_regular
from medseg.io.dicom.source import UNEVEN, Slice, SourceSeries
from medseg.io.dicom.voxels.pixels import has_decoder
from medseg.io.dicom.voxels.values import value_notes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.io.dicom.header.objects import Kind
    from medseg.io.dicom.header.reading import Header
    from medseg.io.dicom.inventory.grouping import Group

_MAX_SLICE_BYTES = 2**29  # a file of a few bytes may promise any size
_BITS = frozenset({8, 16, 32})
_MOST_ELEMENTS, _MOST_FRAME_ELEMENTS = 2**18, 1000  # nested ones, and of each frame: read whole, they take memory
_MOST_VALUE_FRAMES = 2**11  # frames whose rescale is read for a note on the values; all of it takes seconds
_MOSAIC = "a Siemens mosaic: every file is a whole volume, with its slices as tiles of one image"
_WHOLE = "Export the series again, whole; parts of it may be several scans"
_MOSAIC_REMEDY = "Export the series as single slices, or convert it with a tool that knows the scanner"


def series_item(group: Group, root: Path, about: Sequence[Finding] = ()) -> Item:
    """Return the item of a group of slices.

    Parameters
    ----------
    group : Group
        Slices of one series, type, size and orientation.
    root : Path
        What the item's paths are relative to.
    about : sequence of Finding
        What is known of the kind of object: a localizer, a projection.
    """
    first = group.first
    found = [*about, *group.findings, *_pixel_findings(group), *_axes_findings(group.headers)]
    obstacle = _obstacle(group)
    if obstacle is not None:
        found.extend(obstacle)
        item = _item(group, root, found, volumes=(tuple(group.headers),))
        return _with_frames(item, first)
    if first.orientation is None or first.position is None or first.pixel_spacing is None:
        return _item(group, root, [*found, _no_geometry(first)], volumes=(tuple(group.headers),))
    stacked = stack([h.position or () for h in group.headers], first.orientation)
    volumes = volumes_of(group.headers, stacked)
    geometry = _geometry(group.headers, stacked)
    if first.tile is not None:
        found.append(finding("mosaic", _MOSAIC))
    found.extend(repeat_findings(_stack_findings(first, stacked, geometry), volumes))
    found.extend(_value_findings(first.of_file, found))
    item = _item(group, root, found, volumes=volumes, geometry=geometry)
    return item if geometry is not None else _irregular(item, group.headers, stacked)


def _obstacle(group: Group) -> list[Finding] | None:
    """Return what keeps the slices of files from being told apart or placed; ``None`` where nothing does.

    The findings may be in the group already.
    """
    first = group.first
    if any(f.effect == "refused" for f in group.findings):
        return []
    if first.tile is None and "MOSAIC" in first.image_type and first.has_geometry:
        gap = mosaic_gap(first)
        return [finding("mosaic", f"{_MOSAIC}; {gap}", effect="refused", remedy=_MOSAIC_REMEDY)] if gap else None
    if first.whole is not None or not is_multi_frame(first):
        return None
    if not is_enhanced(first) and first.groups is None:
        return [finding("multi-frame", f"{first.frames} frames in one object that does not place them in the patient")]
    return [finding("no-geometry", _undescribed(first))]


def _undescribed(first: Header) -> str:
    if first.frames > MOST_FRAMES:
        return f"a multi-frame object of {first.frames} frames: more than are read"
    if first.groups is None:
        return (
            f"a multi-frame object of {first.frames} frames without functional groups "
            "(Shared and Per-Frame Functional Groups Sequence): where its frames lie is not known"
        )
    if len(first.groups) > first.frames:
        return f"the number of frames is {first.frames}, but the functional groups describe more of them"
    return f"a multi-frame object of {first.frames} frames whose functional groups describe {len(first.groups)}"


def image_item(group: Group, root: Path) -> Item:
    """Return the item of a two-dimensional image (X-ray, mammography, ultrasound), in a group of its own."""
    header = group.first
    found = [*group.findings, *_pixel_findings(group)]
    if header.frames > 1:
        found.append(finding("multi-frame", f"{header.frames} frames over time"))
    spacing, source = _flat_spacing(header)
    found.append(finding("two-dimensional", f"a two-dimensional image, without a place in the patient{source}"))
    if spacing is None:
        words = "no pixel spacing: lengths and areas can be told in pixels only"
        found.append(finding("no-geometry", words, effect="ok", remedy=""))
    found.extend(_value_findings(header, found))
    item = _item(group, root, found, volumes=((header,),), kind="image")
    return _flat(item, header, spacing)


def _item(
    group: Group,
    root: Path,
    found: Sequence[Finding],
    *,
    volumes: Volumes,
    geometry: Geometry | None = None,
    kind: Kind = "series",
) -> Item:
    first = group.first
    item_id = id_of_series(first.modality, *_identity(group, root))
    paths = dict.fromkeys(h.path for h in (*(h for volume in volumes for h in volume), *group.copies))
    slices = tuple(tuple(Slice(h.path, h.frame, h.tile) for h in volume) for volume in volumes)
    return Item(
        id=item_id,
        kind=kind,
        paths=tuple(path.relative_to(root).as_posix() for path in paths),
        root=root,
        modality=first.modality or None,
        transfer_syntax=first.transfer_syntax or None,
        shape=None if not first.is_image else (len(volumes[0]), first.rows, first.columns),
        volumes=len(volumes),
        spacing_mm=None if geometry is None else geometry.spacing_mm,
        geometry=geometry,
        findings=tuple(found),
        source=SourceSeries(item_id, first.modality, slices, geometry, tuple(found)),
        traits=Traits(
            first.description,
            first.body_part,
            protocol=first.protocol,
            study_uid=first.study_uid,
            frame_uid=_frame_uid(group.headers),
        ),
    )


def _identity(group: Group, root: Path) -> tuple[str, ...]:
    """Return what makes the item itself: the same wherever the files lie, unless they hold no UID at all."""
    first = group.first
    size = f"{first.rows}x{first.columns}"
    plane = ",".join(f"{v:.2f}" for v in first.orientation or ()).replace("-0.00", "0.00")
    uid = first.series_uid or min(h.sop_instance for h in group.headers)
    return uid or first.path.parent.relative_to(root).as_posix(), "/".join(first.image_type), size, plane


def _geometry(headers: Sequence[Header], stacked: Stack) -> Geometry | None:
    """Return the grid: in-plane axes from the tags, the slice axis as measured between first and last position."""
    first = headers[0]
    if not stacked.is_regular or not first.is_image or not first.orientation or not first.pixel_spacing:
        return None
    step = stacked.step_lps
    if step is None:
        step = slice_normal(first.orientation) * _depth_mm(first)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.array(first.orientation[3:]) * first.pixel_spacing[0]
    affine[:3, 2] = np.array(first.orientation[:3]) * first.pixel_spacing[1]
    affine[:3, 3] = headers[stacked.places[0][0]].position or ()
    try:
        return Geometry((len(stacked.places), first.rows, first.columns), affine, _frame_uid(headers) or None)
    except GeometryError:
        return None  # slices stacked within their own plane


def _frame_uid(headers: Sequence[Header]) -> str:
    """Return the one frame of reference that the slices name; empty where they name none, or several."""
    named = {h.frame_uid for h in headers if h.frame_uid}
    return named.pop() if len(named) == 1 else ""


def _stack_findings(first: Header, stacked: Stack, geometry: Geometry | None) -> list[Finding]:
    found = [*stacked.findings, *gap_between(first.thickness, stacked.spacing_mm)]
    if len(stacked.places) == 1:
        known = first.thickness or first.spacing_between
        source = "its thickness in the tags" if known else "not known, 1 mm is assumed"
        found.append(finding("single-slice", f"a single slice: its depth is {source}"))
    if geometry is None and stacked.is_regular and first.is_image:
        found.append(finding("no-geometry", "the slices are stacked within their own plane"))
    if geometry is not None:
        found.extend(oblique(geometry))
    return found


def _depth_mm(header: Header) -> float:
    return header.thickness or header.spacing_between or 1.0


def _no_geometry(first: Header) -> Finding:
    tags = (("PixelSpacing", first.pixel_spacing), ("ImagePositionPatient", first.position))
    absent = [name for name, value in (*tags, ("ImageOrientationPatient", first.orientation)) if value is None]
    words = f"without a usable {', '.join(absent)}: where the image lies is not known"
    if first.orientation is None and first.orientation_error is not None:
        words += " (the directions of rows and columns are not at right angles, or not of unit length)"
    return finding("no-geometry", words)


def _axes_findings(headers: Sequence[Header]) -> list[Finding]:
    """Return a note where the directions of rows and columns had to be put right."""
    worst = max((h.orientation_error or 0.0 for h in headers if h.orientation is not None), default=0.0)
    if worst <= NOT_ORTHONORMAL:
        return []
    words = f"directions of rows and columns are off unit length or the right angle by {worst:.2g}; put right"
    return [finding("not-orthonormal", words)]


def _pixel_findings(group: Group) -> list[Finding]:
    headers = group.files
    first = headers[0]
    found = []
    if first.is_colour:
        found.append(finding("colour", f"colour pixels ({first.photometric or 'several samples a pixel'})"))
    short = [h for h in headers if missing_bytes(h)]
    if short:
        words = f"{len(short)} of {len(headers)} files end before their pixel data do, {short[0].path.name} first"
        found.append(finding("truncated", words))
    if any(h.elements > _MOST_ELEMENTS + _MOST_FRAME_ELEMENTS * len(h.groups or ()) for h in headers):
        found.append(finding("unreadable", "the header holds more nested elements than that of an image does"))
    found.extend(_coding_findings(headers))
    if any(h.has_modality_lut for h in headers):
        found.append(finding("modality-lut", "stored values become physical ones by a table"))
    if any(h.slope == 0 or not _finite(h.slope) or not _finite(h.intercept) for h in group.headers):
        found.append(finding("bad-rescale", "RescaleSlope or RescaleIntercept is zero or not a number"))
    unscaled = [h for h in group.headers if h.slope is None and h.intercept is None]
    if unscaled and any(not _is_identity(h) for h in group.headers):
        words = (
            f"{len(unscaled)} of {len(group.headers)} slices lack the RescaleSlope and RescaleIntercept of the others"
        )
        found.append(finding("bad-rescale", f"{words}, {unscaled[0].path.name} first"))
    return found


def _is_identity(h: Header) -> bool:
    return h.slope in (None, 1.0) and h.intercept in (None, 0.0)


def _value_findings(first: Header, found: Sequence[Finding]) -> list[Finding]:
    """Return what is worth saying about the values of an image and is not said yet."""
    if not first.is_image or status_of(found) == "refused" or len(first.groups or ()) > _MOST_VALUE_FRAMES:
        return []
    said = {f.code for f in found}
    try:
        with quiet():
            return [f for f in value_notes(first.path) if f.code not in said]
    except InputError as error:
        return [finding("unreadable", error.found)]


def _coding_findings(headers: Sequence[Header]) -> list[Finding]:
    first = headers[0]
    if not first.is_image:
        return []
    if any(h.bits_allocated not in _BITS for h in headers):
        return [finding("undecodable", f"{first.bits_allocated} bits a pixel, where 8, 16 or 32 are known")]
    if first.raw_bytes // first.frames > _MAX_SLICE_BYTES:
        return [finding("undecodable", f"one image of {first.rows} x {first.columns} pixels: larger than is read")]
    lacking = {h.syntax_name for h in headers if not has_decoder(h.transfer_syntax)}
    if lacking:
        return [finding("undecodable", f"no decoder for the transfer syntax {', '.join(sorted(lacking))}")]
    return []


def _finite(value: float | None) -> bool:
    return value is None or bool(np.isfinite(value))


def _irregular(item: Item, headers: Sequence[Header], stacked: Stack) -> Item:
    """Return the item of an irregular series with its usual spacing, and the grid it may be interpolated onto."""
    first = headers[0]
    if first.pixel_spacing is None or first.orientation is None or stacked.spacing_mm is None or item.source is None:
        return item
    shape = item.shape and (len(stacked.places), *item.shape[1:])
    irregular = None
    if shape is not None and item.status == "repairable":
        irregular = plan_regular(
            [headers[place[0]].position or () for place in stacked.places],
            orientation=first.orientation,
            pixel_spacing=first.pixel_spacing,
            size=(first.rows, first.columns),
            usual_mm=stacked.spacing_mm,
            frame_uid=_frame_uid(headers),
        )
    found = item.findings if irregular is not None else tuple(map(_beyond_repair, item.findings))
    return replace(
        item,
        shape=shape,
        spacing_mm=(stacked.spacing_mm, *first.pixel_spacing),
        findings=found,
        source=replace(item.source, irregular=irregular, findings=found),
    )


def _beyond_repair(about: Finding) -> Finding:
    """Return a finding on uneven slices that no regular grid may replace."""
    if about.code not in UNEVEN or about.effect != "repairable":
        return about
    return finding(about.code, f"{about.message}, too few to interpolate between", effect="refused", remedy=_WHOLE)


def _with_frames(item: Item, first: Header) -> Item:
    """Return the item of an object that is not parted, with as many slices as it has frames."""
    if item.shape is None or first.whole is not None:
        return item
    return replace(item, shape=(first.frames, *item.shape[1:]))


def _flat_spacing(header: Header) -> tuple[tuple[float, float] | None, str]:
    """Return the pixel size of a two-dimensional image, and in words where it is from, if that matters."""
    if header.pixel_spacing is not None:
        return header.pixel_spacing, ""
    if header.region_spacing is not None:
        return header.region_spacing, "; its pixel size is that of its calibrated regions"
    if header.imager_spacing is not None:
        return header.imager_spacing, "; its pixel size is measured at the detector, where the body appears magnified"
    return None, ""


def _flat(item: Item, header: Header, spacing: tuple[float, float] | None) -> Item:
    """Return the item of a flat image; its grid has a size but no place, so that only the reader sees it."""
    if item.source is None or not header.is_image:
        return item
    row_mm, column_mm = spacing or (1.0, 1.0)
    affine = np.array([[0, 0, column_mm, 0], [0, row_mm, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    grid = Geometry((1, header.rows, header.columns), affine)
    return replace(item, spacing_mm=spacing and (1.0, row_mm, column_mm), source=replace(item.source, geometry=grid))
