"""Selection rules: which series and files of a folder are meant, in words such as ``modality=MR description~HCrop``.

A rule is conditions with spaces between them, all of which must hold; the word ``or`` parts alternatives. A condition
is a field, an operator and a value, in quotes where it holds spaces:

==================================================  ====================  ===========================================
fields                                              operators             the value
==================================================  ====================  ===========================================
``id modality description protocol body_part``      ``= !=``              the whole text, upper and lower case alike
                                                    ``~ !~``              a part of it; ``*`` any text, ``?`` a letter
``plane kind``                                      ``= !=``              one of a few words
``spacing pixel slices volumes``                    ``= != < <= > >=``    a number
==================================================  ====================  ===========================================

``spacing`` is the distance between slices in mm, ``pixel`` the longer side of a pixel in mm. What a file does not say
meets ``!=`` and ``!~`` and nothing else: a NIfTI file has neither description, protocol nor body part.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fnmatch import translate
from types import MappingProxyType
from typing import TYPE_CHECKING

from medseg.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Fact = str | float | None

TEXTS = ("id", "modality", "description", "protocol", "body_part")
NUMBERS = ("spacing", "pixel", "slices", "volumes")
WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "plane": ("axial", "coronal", "sagittal", "oblique", "none"),
        "kind": ("series", "volume", "image", "seg", "rtstruct", "other", "unreadable"),
    }
)
FIELDS = (*TEXTS, *WORDS, *NUMBERS)
DICOM_WORDS: Mapping[str, str] = MappingProxyType({"MRI": "MR", "PET": "PT"})
"""What data sets write for a modality, and DICOM's word for it (PS3.3 C.7.3.1.1.1)."""

_LONGEST = 2000  # characters of a rule
_EQUAL = 1e-3  # numbers closer than this are equal: headers hold 0.9766 and 0.976562
_CONDITION = re.compile(r"""([A-Za-z_]+)\s*(!=|!~|<=|>=|=|~|<|>)\s*("[^"]*"|'[^']*'|[^\s"']+)(?=\s|$)""")
_OR = re.compile(r"or(?=\s|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Condition:
    """A field, an operator and a value, as text.

    Attributes
    ----------
    field, operator, value : str
    """

    field: str
    operator: str
    value: str

    def __str__(self) -> str:
        """Return the condition as it is written in a rule."""
        if not re.search(r"[\s\"']", self.value) and self.value:
            return f"{self.field}{self.operator}{self.value}"
        mark = "'" if '"' in self.value else '"'
        return f"{self.field}{self.operator}{mark}{self.value}{mark}"

    def holds(self, fact: Fact) -> bool:
        """Tell whether a fact meets the condition; None and an empty text are facts that are not known."""
        if fact is None or fact == "":
            return self.operator in {"!=", "!~"} or (self.operator == "=" and self.value == "")
        if isinstance(fact, str):
            return self._holds_text(fact)
        return self._holds_number(float(fact))

    def _holds_text(self, fact: str) -> bool:
        wanted = DICOM_WORDS.get(self.value.upper(), self.value) if self.field == "modality" else self.value
        match self.operator:
            case "=":
                return fact.casefold() == wanted.casefold()
            case "!=":
                return fact.casefold() != wanted.casefold()
            case "~":
                return _contains(fact, wanted)
            case _:
                return not _contains(fact, wanted)

    def _holds_number(self, fact: float) -> bool:
        limit = float(self.value)
        if abs(fact - limit) <= _EQUAL:
            return self.operator in {"=", "<=", ">="}
        return self.operator == "!=" or self.operator.startswith("<" if fact < limit else ">")


@dataclass(frozen=True, slots=True)
class Rule:
    """Alternatives, each a number of conditions that must hold together; without any, everything is meant.

    Attributes
    ----------
    alternatives : tuple of tuple of Condition
    """

    alternatives: tuple[tuple[Condition, ...], ...] = ()

    def __str__(self) -> str:
        """Return the rule as text that `parse` reads."""
        return " or ".join(" ".join(str(c) for c in conditions) for conditions in self.alternatives)

    def unmet(self, facts: Mapping[str, Fact]) -> tuple[Condition, ...]:
        """Return what stands in the way: nothing where the rule holds, else one condition of every alternative.

        Parameters
        ----------
        facts : mapping
            By field. A condition on a field that is not in it cannot be judged, and counts as met.

        Examples
        --------
        >>> rule = parse("modality=MR slices>10 or modality=CT")
        >>> [str(c) for c in rule.unmet({"modality": "MR", "slices": 4.0})]
        ['slices>10', 'modality=CT']
        >>> rule.unmet({"modality": "ct", "slices": 4.0})
        ()
        """
        failed = [_first_unmet(conditions, facts) for conditions in self.alternatives]
        return () if None in failed else tuple(c for c in failed if c is not None)


def parse(text: str) -> Rule:
    """Return the rule a text describes; one without a condition means everything.

    Raises
    ------
    PlanError
        Where the text is no rule; the sentence names the part that is not understood.

    Examples
    --------
    >>> str(parse("Modality = MR description~'T1 post*'  or spacing<2"))
    'modality=MR description~"T1 post*" or spacing<2'
    >>> parse("colour=red")
    Traceback (most recent call last):
    medseg.errors.PlanError: there is no field 'colour' to select by; expected one of id, modality, description, ...
    """
    if len(text) > _LONGEST:
        raise PlanError(f"the rule is {len(text)} characters long", expected=f"at most {_LONGEST}")
    alternatives: list[list[Condition]] = [[]]
    rest = text.strip()
    while rest:
        if word := _OR.match(rest):
            alternatives.append([])
            rest = rest[word.end() :].lstrip()
            continue
        found = _CONDITION.match(rest)
        if found is None:
            raise _not_understood(rest)
        alternatives[-1].append(_condition(*found.groups()))
        rest = rest[found.end() :].lstrip()
    if len(alternatives) > 1 and not all(alternatives):
        raise PlanError("the rule has an 'or' with no condition beside it", expected="conditions on both sides")
    return Rule(tuple(tuple(conditions) for conditions in alternatives if conditions))


def either(texts: Iterable[str]) -> str:
    """Return the rule that means whatever one of several rules means; an empty one among them means everything.

    Examples
    --------
    >>> either(["modality=MR slices>10", "modality=CT"])
    'modality=MR slices>10 or modality=CT'
    """
    rules = [str(parse(text)) for text in texts]
    return " or ".join(rules) if all(rules) else ""


def _condition(name: str, operator: str, text: str) -> Condition:
    name, value = name.lower(), text[1:-1] if text[:1] in {'"', "'"} else text
    if name not in FIELDS:
        raise PlanError(f"there is no field {name!r} to select by", expected=f"one of {', '.join(FIELDS)}")
    known = "< <= > >= = !=" if name in NUMBERS else "= !=" if name in WORDS else "= != ~ !~"
    if operator not in known.split():
        raise PlanError(f"{name} cannot be compared by {operator}", expected=f"one of {known}")
    if name in NUMBERS:
        _require_number(name, value)
    elif name in WORDS and value.lower() not in WORDS[name]:
        raise PlanError(f"there is no {name} {value!r}", expected=f"one of {', '.join(WORDS[name])}")
    return Condition(name, operator, value)


def _require_number(name: str, value: str) -> None:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PlanError(f"{name} was compared with {value!r}", expected="a number, such as spacing<2.5")


def _not_understood(rest: str) -> PlanError:
    part = rest.split(maxsplit=1)[0]
    return PlanError(
        f"{part!r} is no condition",
        expected="a field, an operator and a value, such as modality=MR or description~'T1 post'",
        remedy=f"Fields are {', '.join(FIELDS)}; values with spaces stand in quotes",
    )


def _first_unmet(conditions: Iterable[Condition], facts: Mapping[str, Fact]) -> Condition | None:
    return next((c for c in conditions if c.field in facts and not c.holds(facts[c.field])), None)


def _contains(text: str, part: str) -> bool:
    """Tell whether a text holds a part, in which ``*`` and ``?`` stand for any text and any letter."""
    pattern = part.casefold().replace("[", "[[]")  # a bracket is a letter: descriptions such as "T2 [FS]" hold them
    return re.match(translate(f"*{pattern}*"), text.casefold()) is not None
