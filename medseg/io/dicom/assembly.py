"""From a group of slices to one item: put in order, placed in the patient, and judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.geometry import Geometry
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.item import Item, Traits, id_of_series
from medseg.io.dicom.lengths import missing_bytes
from medseg.io.dicom.objects import is_multi_frame
from medseg.io.dicom.pixels import has_decoder
from medseg.io.dicom.positions import Stack, gap_between, oblique, slice_normal, stack
from medseg.io.dicom.source import Slice, SourceSeries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.io.dicom.grouping import Group
    from medseg.io.dicom.headers import Header
    from medseg.io.dicom.objects import Kind

_MAX_SLICE_BYTES = 2**29  # a file of a few bytes may promise any size
_BITS = frozenset({8, 16, 32})


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
    found = [*about, *group.findings, *_pixel_findings(group.headers)]
    if is_multi_frame(first):
        words = f"a multi-frame object of {first.frames} frames, whose geometry stands frame by frame"
        found.append(finding("multi-frame", words))
        return _item(group, root, found, volumes=(tuple(group.headers),))
    if first.orientation is None or first.position is None or first.pixel_spacing is None:
        found.append(_no_geometry(first))
        return _item(group, root, found, volumes=(tuple(group.headers),))
    stacked = stack([h.position or () for h in group.headers], first.orientation)
    is_mosaic = "MOSAIC" in first.image_type
    geometry = None if is_mosaic else _geometry(group.headers, stacked)
    found.extend(_mosaic_findings() if is_mosaic else _stack_findings(first, stacked, geometry))
    item = _item(group, root, found, volumes=_volumes(group.headers, stacked), geometry=geometry)
    return item if geometry is not None or is_mosaic else _with_usual_spacing(item, first, stacked)


def image_item(group: Group, root: Path) -> Item:
    """Return the item of a two-dimensional image (X-ray, mammography, ultrasound), in a group of its own."""
    header = group.first
    found = [*group.findings, *_pixel_findings([header])]
    found.append(finding("two-dimensional", "a two-dimensional image, without a place in the patient"))
    if header.frames > 1:
        found.append(finding("multi-frame", f"{header.frames} frames over time"))
    spacing = header.pixel_spacing or header.imager_spacing
    if spacing is None:
        words = "no pixel spacing: lengths and areas can be told in pixels only"
        found.append(finding("no-geometry", words, effect="ok", remedy=""))
    item = _item(group, root, found, volumes=((header,),), kind="image")
    return _flat(item, header, spacing)


def _item(
    group: Group,
    root: Path,
    found: Sequence[Finding],
    *,
    volumes: tuple[tuple[Header, ...], ...],
    geometry: Geometry | None = None,
    kind: Kind = "series",
) -> Item:
    first = group.first
    item_id = id_of_series(first.modality, *_identity(group, root))
    paths = [h.path for h in (*(h for volume in volumes for h in volume), *group.copies)]
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
        source=SourceSeries(
            item_id, first.modality, tuple(tuple(Slice(h.path) for h in v) for v in volumes), geometry, tuple(found)
        ),
        traits=Traits(
            first.description,
            first.body_part,
            protocol=first.protocol,
            study_uid=first.study_uid,
            frame_uid=first.frame_uid,
        ),
    )


def _identity(group: Group, root: Path) -> tuple[str, ...]:
    """Return what makes the item itself: the same wherever the files lie, unless they hold no UID at all."""
    first = group.first
    size = f"{first.rows}x{first.columns}"
    plane = ",".join(f"{v:.2f}" for v in first.orientation or ()).replace("-0.00", "0.00")
    uid = first.series_uid or min(h.sop_instance for h in group.headers)
    return uid or first.path.parent.relative_to(root).as_posix(), "/".join(first.image_type), size, plane


def _volumes(headers: Sequence[Header], stacked: Stack) -> tuple[tuple[Header, ...], ...]:
    """Return the slices by volume and place: repeats at one place are ordered by time, echo, acquisition, number."""
    if len({len(place) for place in stacked.places}) > 1:  # no volume can be told: all slices, in order
        return (tuple(headers[i] for place in stacked.places for i in place),)
    ordered = [sorted((headers[i] for i in place), key=_repeat_order) for place in stacked.places]
    return tuple(zip(*ordered, strict=True))


def _repeat_order(h: Header) -> tuple[object, ...]:
    return h.temporal_position, h.echo_time, h.acquisition or 0, h.instance_number, str(h.path)


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
        return Geometry((len(stacked.places), first.rows, first.columns), affine, first.frame_uid or None)
    except GeometryError:
        return None  # slices stacked within their own plane


def _stack_findings(first: Header, stacked: Stack, geometry: Geometry | None) -> list[Finding]:
    found = [*stacked.findings, *gap_between(first.thickness, stacked.spacing_mm)]
    if len(stacked.places) == 1:
        known = first.thickness or first.spacing_between
        source = "its thickness in the tags" if known else "not known, 1 mm is assumed"
        found.append(finding("single-slice", f"a single slice: its depth is {source}"))
    if geometry is None and stacked.is_regular:
        found.append(finding("no-geometry", "the slices are stacked within their own plane"))
    if geometry is not None:
        found.extend(oblique(geometry))
    return found


def _mosaic_findings() -> list[Finding]:
    words = "a Siemens mosaic: every file is a whole volume, with its slices as tiles of one image"
    return [finding("mosaic", words)]


def _depth_mm(header: Header) -> float:
    return header.thickness or header.spacing_between or 1.0


def _no_geometry(first: Header) -> Finding:
    tags = (("PixelSpacing", first.pixel_spacing), ("ImagePositionPatient", first.position))
    absent = [name for name, value in (*tags, ("ImageOrientationPatient", first.orientation)) if value is None]
    return finding("no-geometry", f"without a usable {', '.join(absent)}: where the image lies is not known")


def _pixel_findings(headers: Sequence[Header]) -> list[Finding]:
    first = headers[0]
    found = []
    if first.is_colour:
        found.append(finding("colour", f"colour pixels ({first.photometric or 'several samples a pixel'})"))
    short = [h for h in headers if missing_bytes(h)]
    if short:
        words = f"{len(short)} of {len(headers)} files end before their pixel data do, {short[0].path.name} first"
        found.append(finding("truncated", words))
    found.extend(_coding_findings(headers))
    if any(h.has_modality_lut for h in headers):
        found.append(finding("modality-lut", "stored values become physical ones by a table"))
    if any(h.slope == 0 or not _finite(h.slope) or not _finite(h.intercept) for h in headers):
        found.append(finding("bad-rescale", "RescaleSlope or RescaleIntercept is zero or not a number"))
    return found


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


def _with_usual_spacing(item: Item, first: Header, stacked: Stack) -> Item:
    """Return the item of an irregular series with the spacing most of its slices have."""
    if first.pixel_spacing is None or stacked.spacing_mm is None:
        return item
    shape = item.shape and (len(stacked.places), *item.shape[1:])
    return replace(item, shape=shape, spacing_mm=(stacked.spacing_mm, *first.pixel_spacing))


def _flat(item: Item, header: Header, spacing: tuple[float, float] | None) -> Item:
    """Return the item of a flat image; its grid has a size but no place, so that only the reader sees it."""
    if item.source is None or not header.is_image:
        return item
    row_mm, column_mm = spacing or (1.0, 1.0)
    affine = np.array([[0, 0, column_mm, 0], [0, row_mm, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    grid = Geometry((1, header.rows, header.columns), affine)
    return replace(item, spacing_mm=spacing and (1.0, row_mm, column_mm), source=replace(item.source, geometry=grid))
