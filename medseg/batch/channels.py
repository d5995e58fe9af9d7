"""Which series of a study are the channels of one case: exactly one for each rule, on one frame of reference."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.batch.selection import meets
from medseg.errors import PlanError
from medseg.io.dicom.findings import Finding, finding
from medseg.selection import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.io.dicom import Item
    from medseg.selection import Rule


@dataclass(frozen=True, eq=False)
class Match:
    """What a study offers for the channels of a model.

    Attributes
    ----------
    candidates : tuple of tuple of Item
        For each channel, the series that meet its rule.
    spare : tuple of Item
        What meets none.
    faults : tuple of Finding
        Why this is no case; empty where each channel has one series of its own.
    """

    candidates: tuple[tuple[Item, ...], ...]
    spare: tuple[Item, ...]
    faults: tuple[Finding, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All series that meet a rule, the first channel's first, each once."""
        return tuple({item.id: item for items in self.candidates for item in items}.values())


def rules_in_order(asked: Sequence[tuple[str, str]], channels: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rule of every channel of a model.

    Parameters
    ----------
    asked : sequence of (str, str)
        Name (or number, counted from 0) and rule.
    channels : sequence of str
        The model's channels.

    Raises
    ------
    PlanError
        Where a name is no channel, or a channel has no rule or two.

    Examples
    --------
    >>> [str(rule) for rule in rules_in_order([("T2", "id~b"), ("0", "id~a")], ["T1", "T2"])]
    ['id~a', 'id~b']
    """
    numbers = {str(n): n for n in range(len(channels))} | {name.casefold(): n for n, name in enumerate(channels)}
    rules: dict[int, Rule] = {}
    for name, text in asked:
        number = numbers.get(name.casefold())
        if number is None:
            raise PlanError(f"the model has no channel {name!r}", expected=f"one of {', '.join(channels)}")
        if number in rules:
            raise PlanError(f"the channel {name!r} has several rules", expected="one --channel for each")
        rules[number] = parse(text)
    without = [name for n, name in enumerate(channels) if n not in rules]
    if without:
        raise PlanError(f"the channel {without[0]!r} has no rule", remedy=f"Add --channel {without[0]}='RULE'")
    return tuple(rules[n] for n in range(len(channels)))


def studies(items: Iterable[Item]) -> tuple[tuple[Item, ...], ...]:
    """Return series by study; those without a study's UID belong together where they lie under one INPUT."""
    found: Mapping[str, list[Item]] = defaultdict(list)
    for item in items:
        found[item.traits.study_uid or f"under {item.root}"].append(item)
    return tuple(tuple(members) for members in found.values())


def match(study: Sequence[Item], rules: Sequence[Rule], channels: Sequence[str]) -> Match:
    """Return which series of a study meet which channel's rule."""
    candidates = tuple(tuple(item for item in study if meets(item, rule)) for rule in rules)
    used = {item.id for items in candidates for item in items}
    spare = tuple(item for item in study if item.id not in used)
    return Match(candidates, spare, tuple(_faults(candidates, channels)))


def apart(items: Sequence[Item]) -> Finding | None:
    """Return why series cannot be taken for channels of one scan: other frames of reference, or no common place."""
    first = items[0]
    for item in items[1:]:
        if not item.traits.frame_uid or item.traits.frame_uid != first.traits.frame_uid:
            return finding("not-registered", f"the series {item.id} is not in the frame of reference of {first.id}")
        if first.geometry and item.geometry and not _overlap(first.geometry, item.geometry):
            return finding("not-registered", f"the series {item.id} lies apart from {first.id}")
    return None


def _faults(candidates: Sequence[Sequence[Item]], channels: Sequence[str]) -> Iterable[Finding]:
    taken: dict[str, str] = {}
    for name, items in zip(channels, candidates, strict=True):
        if not items:
            yield finding("missing-channel", f"no series of the study meets the rule of the channel {name}")
        elif len(items) > 1:
            ids = ", ".join(item.id for item in items)
            yield finding("ambiguous-channel", f"{len(items)} series meet the rule of the channel {name}: {ids}")
        elif items[0].id in taken:
            words = f"the series {items[0].id} meets the rules of the channels {taken[items[0].id]} and {name}"
            yield finding("ambiguous-channel", words)
        else:
            taken[items[0].id] = name


def _overlap(a: Geometry, b: Geometry) -> bool:
    """Tell whether the boxes around two grids, along the patient's axes, have a point in common."""
    (a_low, a_high), (b_low, b_high) = _box(a), _box(b)
    return bool(np.all(a_low <= b_high) and np.all(b_low <= a_high))


def _box(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest corner in LPS mm, half the longest side of a voxel added."""
    corners, more = geometry.corners_lps, max(geometry.spacing_mm) / 2
    return corners.min(axis=0) - more, corners.max(axis=0) + more
