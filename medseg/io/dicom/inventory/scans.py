"""Several scans under one series UID: parted where their slices make no one stack.

Neither numbers nor UIDs are trusted where the positions speak: the same positions repeated are a 4-D series, and
acquisitions end to end are one volume, whatever the numbers say.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.inventory.positions import SAME_PLACE_MM, Stack, slice_normal, stack

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from medseg.io.dicom.header.reading import Header

_APART = 4.0  # spacings between two acquisitions beyond which they are two scans, not one with slices missing


@dataclass
class Scan:
    """The slices of one scan, and why it stands alone."""

    headers: list[Header]
    findings: list[Finding] = field(default_factory=list)


def scans_of(headers: list[Header]) -> list[Scan]:
    """Part slices of one kind, size and orientation into scans, each of which may make a volume, or several.

    Parameters
    ----------
    headers : list of Header
        One per slice. The slices of one file stay together, as a file belongs to one item.
    """
    if headers[0].orientation is None or headers[0].position is None:
        return [Scan(headers)]
    return [
        Scan(part.headers, [*scan.findings, *part.findings])
        for scan in _by_frame_of_reference(headers)
        for part in _by_number(scan.headers)
    ]


def _by_frame_of_reference(headers: list[Header]) -> list[Scan]:
    """Part slices that lie in several coordinate systems, unless they make one stack all the same.

    All images of a series share one frame of reference (PS3.3 section C.7.4.1); some anonymisers give each file a UID
    of its own. A file that names none is taken to lie where the others do.
    """
    frames = {h.frame_uid for h in headers if h.frame_uid}
    if len(frames) < 2:
        return [Scan(headers)]
    whole = _stacked(headers)
    is_one_stack = whole.is_regular and len(whole.places) == len(headers) > 1
    if is_one_stack or len(frames) == len(headers) > 2:
        words = f"the slices name {len(frames)} frames of reference; by their positions they are taken as one scan"
        return [Scan(headers, [finding("mixed-frame", words)])]
    words = f"the series has {len(frames)} frames of reference; each is an item of its own"
    return [Scan(part, [finding("mixed-frame", words)]) for part in _parts(headers, lambda h: h.frame_uid)]


def _by_number(headers: list[Header]) -> list[Scan]:
    """Part slices that are no stack by acquisition, or else by time point or folder, where that makes stacks.

    Folders are the last resort: so a person can part what no header tells apart.
    """
    whole = _stacked(headers)
    if whole.is_regular:
        return [Scan(headers)]
    for name, of, fewest in _NUMBERS:
        parts = _parts(headers, of)
        if len(parts) < 2 or min(map(len, parts)) < fewest or _cuts_a_file(parts):
            continue
        if not all(_stacked(part).is_regular for part in parts):
            continue
        scans = _alike(parts) if _overlap(parts) else _far_apart(parts, whole)
        if len(scans) > 1:
            words = f"{len(parts)} {name} at different positions in one series; those at the same ones make an item"
            return [Scan(scan, [finding("several-acquisitions", words)]) for scan in scans]
    return [Scan(headers)]


_NUMBERS: tuple[tuple[str, Callable[[Header], Hashable], int], ...] = (
    ("acquisitions", lambda h: h.acquisition, 1),
    ("time points", lambda h: h.temporal_position, 1),
    ("folders", lambda h: h.path.parent, 3),  # archives spread the files of one scan over folders by chance
)
"""What may number scans: its name, where it stands, and the slices that each part must have at least."""


def _cuts_a_file(parts: Sequence[Sequence[Header]]) -> bool:
    """Tell whether slices of one file are in several parts."""
    files = [{header.path for header in part} for part in parts]
    return sum(map(len, files)) > len(set().union(*files))


def _parts(headers: Sequence[Header], of: Callable[[Header], Hashable]) -> list[list[Header]]:
    parts: dict[Hashable, list[Header]] = defaultdict(list)
    for header in headers:
        parts[of(header)].append(header)
    return list(parts.values())


def _stacked(headers: Sequence[Header]) -> Stack:
    return stack([h.position or () for h in headers], headers[0].orientation or ())


def _alike(parts: Sequence[list[Header]]) -> list[list[Header]]:
    """Put parts at the same places together; all in one where every part is a single slice, which tells nothing."""
    if all(len(_stacked(part).places) == 1 for part in parts):
        return [list(itertools.chain.from_iterable(parts))]
    alike: list[list[Header]] = []
    for part in parts:
        home = next((other for other in alike if _same_places(part, other)), None)
        if home is None:
            alike.append(list(part))
        else:
            home.extend(part)
    return alike


def _same_places(a: Sequence[Header], b: Sequence[Header]) -> bool:
    places = [np.array([members[place[0]].position for place in _stacked(members).places]) for members in (a, b)]
    return places[0].shape == places[1].shape and bool(np.abs(places[0] - places[1]).max() <= SAME_PLACE_MM)


def _far_apart(parts: Sequence[list[Header]], whole: Stack) -> list[list[Header]]:
    """Put parts that follow each other together; start anew behind a wide gap over which the numbers of images go on.

    Where the numbers leap, too, images are lost, and what is left is no two scans.
    """
    ordered = sorted(parts, key=_range)
    scans = [list(ordered[0])]
    for before, part in itertools.pairwise(ordered):
        is_wide = _range(part)[0] - _range(before)[1] > _APART * (whole.spacing_mm or 0.0)
        if is_wide and _leap(before, part) <= 1:
            scans.append(list(part))
        else:
            scans[-1].extend(part)
    return scans


def _leap(a: Sequence[Header], b: Sequence[Header]) -> int:
    """Return how far apart the numbers of two parts' images are; 1 where one goes on from the other."""
    numbers = [[h.instance_number for h in part] for part in (a, b)]
    return max(min(numbers[1]) - max(numbers[0]), min(numbers[0]) - max(numbers[1]))


def _overlap(parts: Sequence[Sequence[Header]]) -> bool:
    """Tell whether any two parts share a stretch of the slice axis."""
    ranges = sorted(map(_range, parts))
    return any(later[0] <= earlier[1] for earlier, later in itertools.pairwise(ranges))


def _range(headers: Sequence[Header]) -> tuple[float, float]:
    normal = slice_normal(headers[0].orientation or ())
    along = [float(normal @ list(h.position or ())) for h in headers]
    return min(along), max(along)
