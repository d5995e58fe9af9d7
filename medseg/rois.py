"""Which structure of a DICOM reference is which label: patterns of names, and what a voxel in several of them is."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, Self

from medseg.errors import InputError, PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelSet

Overlap = Literal["refuse", "later wins"]
_SHOWN = 6
_WILD = re.compile(r"\[[^\]]*\]|[*?]")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What becomes of the structures of one file.

    Attributes
    ----------
    taken : tuple of (int, int)
        Position of a structure in the file, and position of the rule it falls under; in the order of the rules.
    unmapped : tuple of str
        Names no rule speaks of.
    missing : tuple of str
        Labels (with regions: regions) that no structure of the file is for.
    """

    taken: tuple[tuple[int, int], ...]
    unmapped: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoiRules:
    """How the named structures of a SEG or RTSTRUCT become labels.

    Names are compared without regard to case and outer blanks; ``*``, ``?`` and ``[...]`` are wildcards. A pattern that
    is a structure's whole name goes before one with wildcards.

    Parameters
    ----------
    labels : LabelSet
        What the mask may hold.
    patterns : tuple of (str, int)
        Pattern and label id, in the order of painting; id 0 leaves a structure out knowingly.
    regions : tuple of (str, tuple of int), optional
        In place of `patterns`: pattern, and the labels that its structure covers, rising. A voxel has the label whose
        regions are exactly those it lies in.
    overlap : {"refuse", "later wins"}
        What a voxel in structures of different labels is: a fault, or of the pattern listed later.
    threshold : float, optional
        From which fraction (above 0, up to 1) on a voxel of a fractional SEG is inside; without it such are refused.

    Raises
    ------
    PlanError
        Where the rules contradict themselves.

    Examples
    --------
    >>> from medseg.labels import LabelSet
    >>> rules = RoiRules(LabelSet.from_names({1: "GTV"}), (("GTV_Mass*", 1), ("body", 0)))
    >>> rules.assign(["BODY", "gtv_mass_2", "Couch"])
    Assignment(taken=((1, 0),), unmapped=('Couch',), missing=())
    """

    labels: LabelSet
    patterns: tuple[tuple[str, int], ...] = ()
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    overlap: Overlap = "refuse"
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse rules that name no label, or that no voxel could fulfil."""
        if self.patterns and self.regions:
            raise PlanError("both rois and regions are declared", expected="one of them")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise PlanError(f"the threshold is {self.threshold:g}", expected="above 0 and up to 1")
        known = {0, *self.labels.ids}
        for pattern, ids in (*((p, (i,)) for p, i in self.patterns), *self.regions):
            strange = [i for i in ids if i not in known]
            if strange or not pattern.strip() or not ids:
                found = f"the pattern {pattern!r} is for {strange[0] if strange else 'nothing'}"
                raise PlanError(found, expected=f"one of the labels {', '.join(map(str, self.labels.ids))}")
        if self.regions:
            self._check_regions()

    @classmethod
    def from_labels(cls, labels: LabelSet) -> Self:
        """Return the rules by which a structure is the label of its name."""
        return cls(labels, tuple((label.name, label.id) for label in labels))

    def to_json(self) -> dict[str, Any]:
        """Return plain values: everything that decides what a mask read by these rules holds."""
        return {
            "ids": list(self.labels.ids),
            "rois": [list(pair) for pair in self.patterns],
            "regions": [[pattern, list(ids)] for pattern, ids in self.regions],
            "overlap": self.overlap,
            "threshold": self.threshold,
        }

    def assign(self, names: Sequence[str]) -> Assignment:
        """Return which structure falls under which rule.

        Parameters
        ----------
        names : sequence of str
            Of all structures in a file; a name may occur twice.

        Raises
        ------
        InputError
            Where patterns for different labels claim one structure.
        """
        found = [self._rule_of(name) for name in names]
        left_out = {n for n, (_, label_id) in enumerate(self.patterns) if label_id == 0}
        taken = [(at, rule) for at, rule in enumerate(found) if rule is not None and rule not in left_out]
        taken.sort(key=lambda pair: (pair[1], pair[0]))
        unmapped = tuple(name for name, rule in zip(names, found, strict=True) if rule is None)
        return Assignment(tuple(taken), unmapped, self._missing({rule for _, rule in taken}))

    def take(self, names: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Return structures and their rules as `assign` does, or refuse a file whose structures are all unknown.

        Raises
        ------
        InputError
            Where there are structures, none is for a label, and not all are left out knowingly.
        """
        assigned = self.assign(names)
        if assigned.unmapped and not assigned.taken:
            raise InputError(
                f"no structure is for a label: {_shortened(assigned.unmapped)}",
                expected=_shortened([pattern for pattern, _ in self.regions or self.patterns]),
                remedy="Map them in labels.yaml, such as 'GTV*: 1', or to 0 to leave them out",
                code="no-mapped-roi",
            )
        return assigned.taken

    def label_of(self, rules: Sequence[int], names: Sequence[str]) -> int:
        """Return the label of a voxel that lies in several structures.

        Parameters
        ----------
        rules : sequence of int
            Positions of the rules they fall under, rising, as `assign` gives them.
        names : sequence of str
            The structures, for the sentence.

        Raises
        ------
        InputError
            Where the rules do not say; the sentence names the structures.
        """
        if self.regions:
            label_id = self._by_regions().get(frozenset(self.regions[rule][1] for rule in rules))
            if label_id is None:
                raise InputError(
                    f"a voxel lies in {_listed(names)} and in no other region, which no label explains",
                    remedy="Correct the regions in labels.yaml, or the contours",
                    code="overlap",
                )
            return label_id
        ids = [self.patterns[rule][1] for rule in rules]
        if len(set(ids)) > 1 and self.overlap == "refuse":
            other = next(n for n, label_id in enumerate(ids) if label_id != ids[0])
            raise InputError(
                f"the structures {names[0]!r} and {names[other]!r} overlap",
                expected="one label per voxel",
                remedy="Declare 'overlap: later wins' or 'regions' in labels.yaml",
                code="overlap",
            )
        return ids[-1]

    def _rule_of(self, name: str) -> int | None:
        rules = self.regions or self.patterns
        plain = plain_name(name)
        exact = [n for n, (pattern, _) in enumerate(rules) if plain_name(pattern) == plain]
        found = exact or [n for n, (pattern, _) in enumerate(rules) if fnmatchcase(plain, plain_name(pattern))]
        if len({rules[n][1] for n in found}) > 1:
            raise InputError(
                f"the structure {name!r} fits {rules[found[0]][0]!r} and {rules[found[1]][0]!r}",
                expected="patterns of one label",
                remedy="Make the patterns in labels.yaml narrower, or name the structure in full",
                code="ambiguous-roi",
            )
        return found[0] if found else None

    def _missing(self, rules: set[int]) -> tuple[str, ...]:
        if self.regions:
            seen = {self.regions[n][1] for n in rules}
            return tuple(pattern for pattern, ids in self.regions if ids not in seen)
        drawn = {self.patterns[n][1] for n in rules}
        return tuple(label.name for label in self.labels if label.id not in drawn)

    def _check_regions(self) -> None:
        sets: dict[frozenset[tuple[int, ...]], str] = {}
        for label in self.labels:
            regions = self._around(label.id)
            if not regions or regions in sets:
                other = f"covered by the same regions as {sets[regions]}" if regions else "in no region"
                raise PlanError(f"the label {label.name} is {other}", expected="a set of regions of its own")
            sets[regions] = label.name

    def _by_regions(self) -> dict[frozenset[tuple[int, ...]], int]:
        return {self._around(label.id): label.id for label in self.labels}

    def _around(self, label_id: int) -> frozenset[tuple[int, ...]]:
        """Return the regions a label is part of; a region is the set of its labels, whatever its patterns."""
        return frozenset(ids for _, ids in self.regions if label_id in ids)


def name_of_pattern(pattern: str) -> str:
    """Return what a pattern is called as a label: the text without wildcards, without what joined them.

    Examples
    --------
    >>> name_of_pattern("GTV_Mass*"), name_of_pattern("liver"), name_of_pattern("*")
    ('GTV_Mass', 'liver', '')
    """
    return _WILD.sub("", pattern).strip(" _-")


def plain_name(name: str) -> str:
    """Return what is compared of a structure's name: no outer blanks, no case, one way of storing its letters.

    Examples
    --------
    >>> plain_name(" Größe") == plain_name("GRO\u0308SSE")
    True
    """
    return unicodedata.normalize("NFC", name.strip().casefold())


def _listed(names: Sequence[str]) -> str:
    return " and ".join(repr(name) for name in dict.fromkeys(names))


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
