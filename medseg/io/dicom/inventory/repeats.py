"""Several volumes on one grid: in which order they stand, and what tells one from the next.

The order of a 4-D series, which `--volume N` counts in: what is imaged (original before derived; magnitude, phase,
real, imaginary), temporal position, b-value, echo time, time within the heart beat or scan, acquisition number,
dimension index, instance number, file name, frame.
"""

from __future__ import annotations

import itertools
import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from medseg.io.dicom.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medseg.io.dicom.header.reading import Header
    from medseg.io.dicom.inventory.positions import Stack

Volumes = tuple[tuple["Header", ...], ...]

_SAME = 1e-3  # relative: echo times and b-values within one volume
_MOST_SHOWN = 8
_COMPONENTS: Mapping[str, int] = MappingProxyType(
    {"MAGNITUDE": 0, "M": 0, "PHASE": 1, "P": 1, "REAL": 2, "R": 2, "IMAGINARY": 3, "I": 3}
)


def volumes_of(headers: Sequence[Header], stacked: Stack) -> Volumes:
    """Return the slices by volume and place.

    Parameters
    ----------
    headers : sequence of Header
        One per slice.
    stacked : Stack
        Where they lie.

    Returns
    -------
    tuple of tuple of Header
        For each volume its slices, rising. Where some places hold more slices than others no volume can be told: all
        slices stand in one, in order.
    """
    if len({len(place) for place in stacked.places}) > 1:
        return (tuple(headers[i] for place in stacked.places for i in place),)
    ordered = [sorted((headers[i] for i in place), key=_order) for place in stacked.places]
    return tuple(zip(*ordered, strict=True))


def repeat_findings(found: Sequence[Finding], volumes: Volumes) -> list[Finding]:
    """Return the findings of a stack, with what tells its volumes apart said where there are several.

    Where the slices of one volume differ in what is to tell volumes apart, the volumes cannot be told: a finding
    duplicate-position says so.
    """
    if len(volumes) < 2:
        return list(found)
    if len(volumes[0]) > 1 and any(_cannot_be_told(place) for place in zip(*volumes, strict=True)):
        words = f"every position occurs {len(volumes)} times, and nothing tells which slice belongs to which volume"
        return [
            *(f for f in found if f.code != "four-d"),
            finding("duplicate-position", words, remedy="Put each volume into a folder of its own"),
        ]
    for name, of in _MARKS:
        if any(not _same(of(volume[0]), of(h)) for volume in volumes for h in volume):
            words = f"every position occurs {len(volumes)} times, but not with the same {name}"
            return [f for f in found if f.code != "four-d"] + [finding("duplicate-position", words)]
    words = _differences(volumes)
    return [finding(f.code, f"{f.message}{words}") if f.code == "four-d" else f for f in found]


def _order(h: Header) -> tuple[object, ...]:
    return *_told(h), str(h.path), h.frame


def _told(h: Header) -> tuple[object, ...]:
    """Return what orders images by what their headers say."""
    when = h.temporal_position, h.b_value, h.echo_time, h.delays_ms, h.acquisition or 0
    return *_imaged(h), *when, h.dimension_index, h.instance_number


def _cannot_be_told(place: Sequence[Header]) -> bool:
    """Tell whether two slices at one place differ in nothing but the names of their files in one folder.

    Folders part volumes, and so do files that hold many slices.
    """
    marks = [(_told(h), h.path.parent if h.whole is None else h.path, h.frame) for h in place]
    return any(a == b for a, b in itertools.pairwise(marks))


def _imaged(h: Header) -> tuple[object, ...]:
    """Return what orders images by what they show: original first, then by component."""
    component = min((_COMPONENTS[word] for word in h.frame_type[2:] if word in _COMPONENTS), default=len(_COMPONENTS))
    return h.frame_type[:1] != ("ORIGINAL",), component, h.frame_type


_MARKS: tuple[tuple[str, Callable[[Header], object]], ...] = (
    ("image types", lambda h: h.frame_type),
    ("b-values", lambda h: h.b_value),
    ("echo times", lambda h: h.echo_time),
)


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME)
    return a == b


def _differences(volumes: Volumes) -> str:
    """Return in words what differs from volume to volume."""
    said = []
    types = list(dict.fromkeys(v[0].frame_type for v in volumes))
    if len(types) > 1:
        said.append(f"{len(types)} image types")
    times = {v[0].temporal_position for v in volumes}
    if len(times) > 1:
        said.append(f"{len(times)} time points")
    for name, numbers in (
        ("times after the R wave in ms", [v[0].delays_ms[0] for v in volumes]),
        ("times in ms", [v[0].delays_ms[1] for v in volumes]),
        ("b-values", [v[0].b_value for v in volumes]),
        ("echo times in ms", [v[0].echo_time for v in volumes]),
    ):
        distinct = list(dict.fromkeys(f"{n:g}" for n in numbers))
        if len(distinct) > 1:
            said.append(f"{name} {', '.join(distinct[:_MOST_SHOWN])}{' ...' * (len(distinct) > _MOST_SHOWN)}")
    return f" ({'; '.join(said)})" if said else ""
