"""Coded concepts for segments (SNOMED CT), found by the names labels have.

A label's own code in `labels.yaml` goes before the shipped tables (`anatomy`, `concepts`). Words may stand in any order
and may be abbreviated or plural; what a concept does not say (which rib, which lobe of the cortex) the segment label
does. A name of which nothing is known becomes "Tissue".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from medseg.io.dicom.codes.anatomy import ANATOMY
from medseg.io.dicom.codes.concepts import ABNORMAL, MUSCLES, NAMES, PARTS, SIDES, TISSUES, WORDS
from medseg.labels import Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from medseg.labels import Label

__all__ = [
    "ABNORMAL",
    "ABNORMAL_STRUCTURE",
    "ANATOMICAL_STRUCTURE",
    "ANATOMY",
    "TISSUE",
    "TISSUES",
    "Concept",
    "concept_of",
]

ANATOMICAL_STRUCTURE = Code("SCT", "91723000", "Anatomical Structure")
TISSUE = Code("SCT", "85756007", "Tissue")
ABNORMAL_STRUCTURE = Code("SCT", "49755003", "Morphologically Abnormal Structure")

_FILLERS = frozenset({"the", "of", "part", "and"})
_VERTEBRA = re.compile(r"[ctl][1-9][0-9]?$")
_JOINED = re.compile(r"\b(rib)(?=[0-9])")
_CORTEX = "ctx"  # how FreeSurfer begins the names of its parcels of the cerebral cortex

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Concept:
    """What a segment is, in codes: category, type, and which side or part of it."""

    category: Code
    type: Code
    modifier: Code | None = None


def concept_of(label: Label) -> Concept:
    """Return the coded concept of a label: its own code where it has one, else by its name.

    Examples
    --------
    >>> from medseg.labels import Label
    >>> concept = concept_of(Label(2, "kidney_left", (0, 0, 0)))
    >>> concept.type.meaning, concept.modifier.meaning
    ('Kidney', 'Left')
    >>> concept_of(Label(3, "blob", (0, 0, 0))).type.meaning
    'Tissue'
    """
    words = _words(label.name)
    if label.code is not None:
        return Concept(_category_of(label.code.value), label.code, _modifier(words))
    for attempt in _attempts(words):
        found = _looked_up(attempt)
        if found is not None:
            lost = set(words) - set(attempt)
            return Concept(*found, _modifier([w for w in words if w in lost]))
    return Concept(*(_abnormal(words) or (TISSUE, TISSUE)), _modifier(words))


def _attempts(words: list[str]) -> Iterator[list[str]]:
    """Yield the words whole, then without sides, then without parts too, then as a parcel of the cortex."""
    yield words
    sideless = [w for w in words if w not in SIDES]
    yield sideless
    yield [w for w in sideless if w not in PARTS]
    if _CORTEX in words:
        yield [w for w in sideless if w != _CORTEX]
        yield ["cortex"]


def _words(name: str) -> list[str]:
    spaced = _JOINED.sub(r"\1 ", re.sub(r"[^a-z0-9]+", " ", name.lower()))
    words = [WORDS.get(word, word) for word in spaced.split() if word not in _FILLERS]
    return ["vertebra", *words] if len(words) == 1 and _VERTEBRA.match(words[0]) else words


def _modifier(words: list[str]) -> Code | None:
    """Return the side a name tells, or else the part, where it tells one only."""
    for table in (SIDES, PARTS):
        found = [word for word in words if word in table]
        if found:
            return Code("SCT", *table[found[0]]) if len(found) == 1 else None
    return None


def _looked_up(words: list[str]) -> tuple[Code, Code] | None:
    """Return category and type of a name: as it is, in the singular, without numbers (rib 7)."""
    singular = [_singular(w) for w in words]
    for attempt in (words, singular, [w for w in singular if not w.isdigit()]):
        key = _key(attempt)
        found = _KNOWN.get(_OTHER_NAMES.get(key, key))
        if found is not None:
            return found
    return None


def _abnormal(words: list[str]) -> tuple[Code, Code] | None:
    """Return what the last word for something abnormal says: the tumor of a liver is a tumor."""
    found = [_KNOWN[(w,)] for w in map(_singular, words) if w in ABNORMAL]
    return found[-1] if found else None


def _singular(word: str) -> str:
    return WORDS.get(word, word) if len(word) <= 3 else WORDS.get(word.removesuffix("s"), word.removesuffix("s"))


def _category_of(value: str) -> Code:
    if any(value == known for known, _ in ABNORMAL.values()):
        return ABNORMAL_STRUCTURE
    if value == TISSUE.value or any(value == known for known, _ in TISSUES.values()):
        return TISSUE
    return ANATOMICAL_STRUCTURE


def _key(words: Iterable[str]) -> Key:
    return tuple(sorted(word for word in words if word not in _FILLERS))


def _known() -> Mapping[Key, tuple[Code, Code]]:
    muscle = TISSUES["skeletal muscle"]
    known: dict[Key, tuple[Code, Code]] = {_key(name.split()): (TISSUE, Code("SCT", *muscle)) for name in MUSCLES}
    tables = ((ABNORMAL_STRUCTURE, ABNORMAL), (TISSUE, TISSUES), (ANATOMICAL_STRUCTURE, ANATOMY))
    for category, table in tables:
        known |= {_key(name.split()): (category, Code("SCT", *code)) for name, code in table.items()}
    return MappingProxyType(known)


_KNOWN = _known()
_OTHER_NAMES = MappingProxyType({_key(name.split()): _key(meant.split()) for name, meant in NAMES.items()})
