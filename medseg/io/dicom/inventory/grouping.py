"""Which files make one volume: grouped by series, kind, image type, size and orientation, then by position.

UIDs alone are not trusted: files without a series UID are grouped by folder, copies of one instance are dropped, and
one series UID may hold several volumes. A multi-frame object or a mosaic is parted into its frames or tiles first; it
stays in one group all the same, as a file belongs to one item.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.header.mosaic import tiles_of
from medseg.io.dicom.header.multiframe import frames_of
from medseg.io.dicom.inventory.copies import without_copies
from medseg.io.dicom.inventory.positions import stack
from medseg.io.dicom.inventory.scans import scans_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.io.dicom.header.reading import Header

_SAME_COSINE = 2e-3  # 0.1 degrees between two directions
_MEANING = 3  # values of ImageType whose meaning the standard fixes
_SAME_SPACING = 1e-3  # relative


@dataclass
class Group:
    """Slices that may make one volume, or several on one grid.

    Attributes
    ----------
    headers : list of Header
        One per slice, in no order yet; those of one file stand together.
    copies : list of Header
        Further files with the same instances, which are dropped.
    findings : list of Finding
        What was noticed on the way here.
    """

    headers: list[Header]
    copies: list[Header] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def first(self) -> Header:
        """A header for what is the same in all."""
        return self.headers[0]

    @property
    def files(self) -> list[Header]:
        """The header of each file, without its copies."""
        return list({h.path: h.of_file for h in self.headers}.values())


def group(headers: Iterable[Header]) -> list[Group]:
    """Sort slices into groups that may each make a volume.

    Parameters
    ----------
    headers : iterable of Header
        Of files that hold slices, in a stable order.
    """
    series: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        place = () if header.series_uid else (str(header.path.parent), header.modality)
        series[header.series_uid, header.study_uid, *place].append(header)
    return [g for key, members in series.items() for g in _volumes_of(members, has_uid=bool(key[0]))]


def singles(headers: Iterable[Header]) -> list[Group]:
    """Put each two-dimensional image into a group of its own, with the copies of it.

    Parameters
    ----------
    headers : iterable of Header
        Images in a stable order.
    """
    kept, copies = without_copies(list(headers))
    groups = []
    for header in kept:
        g = Group([header], [copy for copy, twin in copies if twin is header])
        g.findings.extend(_copied(g))
        groups.append(g)
    return groups


def _volumes_of(members: list[Header], *, has_uid: bool) -> list[Group]:
    """Split one series into the volumes it may hold."""
    kept, copies = without_copies(members)
    groups: list[Group] = []
    scattered: list[Group] = []
    for header in kept:
        slices = [tile for frame in frames_of(header) for tile in tiles_of(frame)]
        stray = next((s for s in slices if not _fits(slices[0], s)), None)
        if stray is not None:
            scattered.append(Group(slices, findings=[_scattered(slices[0], stray)]))
            continue
        home = next((g for g in groups if _fits(g.first, slices[0])), None)
        if home is None:
            groups.append(Group(slices))
        else:
            home.headers.extend(slices)
    groups = _rejoined(groups)
    notes = _differences(groups)
    scans = [(scan, g.findings) for g in groups for scan in scans_of(g.headers)]
    groups = [*(Group(scan.headers, findings=[*found, *scan.findings]) for scan, found in scans), *scattered]
    for g in groups:
        g.findings.extend(notes)
        own = {header.path for header in g.headers}
        g.copies.extend(copy for copy, twin in copies if twin.path in own)
        g.findings.extend(_identity(g, has_uid=has_uid))
    return groups


def _rejoined(groups: list[Group]) -> list[Group]:
    """Put groups together that differ in the later values of ImageType alone and make one stack, with each place once.

    The first three values say whether pixels are original, whether they are primary, and what they show (PS3.3 section
    C.7.6.1.1.2); behind them vendors note what they like, for one slice and not for the next.
    """
    joined: list[Group] = []
    for alike in _alike_but_for_remarks(groups):
        headers = [header for g in alike for header in g.headers]
        if len(alike) > 1 and _make_one_stack(headers):
            words = "the slices differ in the later values of ImageType; by their positions they are one scan"
            joined.append(Group(headers, findings=[finding("mixed-type", words)]))
        else:
            joined.extend(alike)
    return joined


def _alike_but_for_remarks(groups: Sequence[Group]) -> list[list[Group]]:
    alike: list[list[Group]] = []
    for g in groups:
        plain = _without_remarks(g.first)
        home = next((others for others in alike if _fits(plain, _without_remarks(others[0].first))), None)
        if home is None:
            alike.append([g])
        else:
            home.append(g)
    return alike


def _without_remarks(header: Header) -> Header:
    return replace(header, image_type=header.image_type[:_MEANING])


def _make_one_stack(headers: Sequence[Header]) -> bool:
    if not headers[0].has_geometry:
        return False
    whole = stack([h.position or () for h in headers], headers[0].orientation or ())
    return whole.is_regular and len(whole.places) == len(headers)


def _identity(g: Group, *, has_uid: bool) -> list[Finding]:
    found = _copied(g)
    if not has_uid:
        found.append(finding("empty-uid", "no SeriesInstanceUID: files of one folder are taken as one series"))
    elif not all(h.sop_instance for h in g.files) or len({h.sop_instance for h in g.files}) < len(g.files):
        found.append(finding("empty-uid", "slices without a SOPInstanceUID of their own"))
    return found


def _copied(g: Group) -> list[Finding]:
    if not g.copies:
        return []
    words = f"{len(g.copies)} further file{'s' * (len(g.copies) > 1)} with an instance that is there already"
    return [finding("duplicate-instance", words)]


def _fits(a: Header, b: Header) -> bool:
    return _frame(a) == _frame(b) and _same_orientation(a, b) and _same_spacing(a, b)


def _frame(h: Header) -> tuple[object, ...]:
    return h.sop_class, h.modality, h.image_type, h.kernel, h.rows, h.columns, h.is_colour, h.position is None


def _same_orientation(a: Header, b: Header) -> bool:
    if a.orientation is None or b.orientation is None:
        return a.orientation is b.orientation
    return all(abs(x - y) <= _SAME_COSINE for x, y in zip(a.orientation, b.orientation, strict=True))


def _same_spacing(a: Header, b: Header) -> bool:
    if a.pixel_spacing is None or b.pixel_spacing is None:
        return a.pixel_spacing is b.pixel_spacing
    return all(math.isclose(x, y, rel_tol=_SAME_SPACING) for x, y in zip(a.pixel_spacing, b.pixel_spacing, strict=True))


def _scattered(a: Header, b: Header) -> Finding:
    """Say why the frames of one object make no volume: two of them lie on grids of different kinds."""
    remedy = "Convert the object to single-frame DICOM, whose images are sorted into series of one orientation and size"
    if not _same_orientation(a, b):
        words = "the frames of one object have several orientations"
        return finding("mixed-orientation", words, effect="refused", remedy=remedy)
    if not _same_spacing(a, b):
        words = "the frames of one object have several pixel spacings"
        return finding("mixed-size", words, effect="refused", remedy=remedy)
    return finding("no-geometry", "some frames of the object have a position, others have none", remedy=remedy)


def _differences(groups: Sequence[Group]) -> list[Finding]:
    """Say why one series makes several items."""
    found = []
    types = {(g.first.sop_class, g.first.image_type) for g in groups}
    if len(types) > 1:
        found.append(finding("mixed-type", "the series holds several image types; each is an item of its own"))
    if len({(g.first.sop_class, g.first.image_type, g.first.kernel) for g in groups}) > len(types):
        words = "the series holds several reconstructions (ConvolutionKernel); each is an item of its own"
        found.append(finding("mixed-type", words))
    if len({(g.first.rows, g.first.columns, g.first.pixel_spacing) for g in groups}) > 1:
        found.append(finding("mixed-size", "the series holds several image sizes; each is an item of its own"))
    unplaced = sum(len(g.headers) for g in groups if not g.first.has_geometry)
    if 0 < unplaced < sum(len(g.headers) for g in groups):
        words = f"{unplaced} of the series' images do not say where they lie; they are an item of their own"
        found.append(finding("no-geometry", words, effect="ok", remedy=""))
    placed = [g.first for g in groups if g.first.orientation is not None]
    if any(not _same_orientation(placed[0], first) for first in placed[1:]):
        found.append(finding("mixed-orientation", "the series holds several orientations; each is an item of its own"))
    return found
