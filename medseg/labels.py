"""What the numbers in a mask mean: ids, names, colours and coded concepts."""

from __future__ import annotations

import colorsys
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeGuard

from medseg.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_LABEL_ID = 65535
IGNORED = -1
"""The class of voxels nobody decided on, in every label array and tensor of training."""
_SIDE = re.compile(  # words for a side; `left` and `right` also inside others (lungleft), but no cleft and no bright
    r"(?<!c)left|(?<![bfpw])right|(?<![a-z])(link\w*|recht\w*|gauche|droite?|izquierd[ao]|derech[ao]|lh|rh|l|r)(?![a-z0-9])"
)
_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: `value` in coding scheme `scheme` (``SCT`` is SNOMED CT), with its `meaning` in words."""

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        """Refuse a code DICOM could not hold (PS3.5 section 6.2: SH of 16, LO of 64 characters)."""
        if not (self.scheme and len(self.scheme) <= 16 and self.value and len(self.value) <= 16):
            raise PlanError(
                f"the code {self.scheme}:{self.value} is empty or too long", expected="1 to 16 characters each"
            )
        if not (self.meaning and len(self.meaning) <= 64):
            raise PlanError(
                f"the meaning of code {self.scheme}:{self.value} is empty or too long", expected="1 to 64 characters"
            )


@dataclass(frozen=True, slots=True)
class Label:
    """One structure: its id in the mask, its name, an RGB colour and, where known, its code."""

    id: int
    name: str
    color: tuple[int, int, int]
    code: Code | None = None

    def __post_init__(self) -> None:
        """Refuse ids and names a mask could not hold."""
        if not 1 <= self.id <= MAX_LABEL_ID:
            raise PlanError(f"label {self.name!r} has id {self.id}", expected=f"1 to {MAX_LABEL_ID}; 0 is background")
        if not self.name.strip():
            raise PlanError(f"label {self.id} has no name")
        if not all(0 <= c <= 255 for c in self.color):
            raise PlanError(f"label {self.name!r} has colour {self.color}", expected="three numbers from 0 to 255")

    @property
    def is_lateral(self) -> bool:
        """Whether the name says left or right, so that a mirrored image would be wrong.

        Examples
        --------
        >>> [Label(1, name, (1, 2, 3)).is_lateral for name in ("kidney_left", "KidneyR", "liver", "vertebra L1")]
        [True, True, False, False]
        """
        words = _CAMEL_HUMP.sub(" ", self.name).lower().replace("_", " ")
        return _SIDE.search(words) is not None


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels of a mask, by rising id; background (0) is not listed.

    Examples
    --------
    >>> labels = LabelSet.from_names({1: "anterior", 2: "posterior"})
    >>> labels.names, labels[2].name, len(labels)
    (('anterior', 'posterior'), 'posterior', 2)
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Refuse ids or names that occur twice."""
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label.id)))
        for what, values in (("id", [str(i) for i in self.ids]), ("name", list(self.names))):
            twice = sorted(value for value, count in Counter(values).items() if count > 1)
            if twice:
                raise PlanError(f"the label {what} {twice[0]} occurs twice", expected=f"each {what} once")

    @classmethod
    def from_names(cls, names: Mapping[int, str]) -> Self:
        """Return a set from ids and names, with colours that are easy to tell apart; id 0 is left out."""
        return cls(
            tuple(Label(i, name, distinct_color(n)) for n, (i, name) in enumerate(sorted(names.items())) if i != 0)
        )

    @classmethod
    def from_json(cls, entries: Iterable[Mapping[str, Any]]) -> Self:
        """Return the set that `to_json` described."""
        return cls(tuple(_label_from(entry, position) for position, entry in enumerate(entries)))

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain lists and dicts, as `labels.yaml` holds them."""
        return [_label_to(label) for label in self.labels]

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids, rising."""
        return tuple(label.id for label in self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, by rising id."""
        return tuple(label.name for label in self.labels)

    @property
    def has_sides(self) -> bool:
        """Whether any label is lateral."""
        return any(label.is_lateral for label in self.labels)

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """The colours of the ids 0 to 255 in an indexed picture: black, the labels' own, and VOC's for all others.

        Examples
        --------
        >>> LabelSet((Label(2, "liver", (9, 8, 7)),)).palette[:4]
        ((0, 0, 0), (128, 0, 0), (9, 8, 7), (128, 128, 0))
        """
        own = {label.id: label.color for label in self.labels}
        return tuple(own.get(i) or voc_color(i) for i in range(256))

    def by_name(self, name: str) -> Label:
        """Return the label called `name`."""
        for label in self.labels:
            if label.name == name:
                return label
        raise PlanError(f"no label is called {name!r}", expected=f"one of {', '.join(self.names)}")

    def __iter__(self) -> Iterator[Label]:
        """Iterate by rising id."""
        return iter(self.labels)

    def __len__(self) -> int:
        """Count the labels without background."""
        return len(self.labels)

    def __getitem__(self, label_id: int) -> Label:
        """Return the label with `label_id`."""
        for label in self.labels:
            if label.id == label_id:
                return label
        raise PlanError(f"no label has id {label_id}", expected=f"one of {', '.join(map(str, self.ids))}")


def distinct_color(index: int) -> tuple[int, int, int]:
    """Return the `index`-th of an endless row of RGB colours: hues by the golden angle, three lightnesses."""
    hue = (0.02 + index * 0.61803398875) % 1.0
    lightness = (0.55, 0.42, 0.68)[index % 3]
    r, g, b = (round(255 * c) for c in colorsys.hls_to_rgb(hue, lightness, 0.75))
    return r, g, b


def voc_color(label_id: int) -> tuple[int, int, int]:
    """Return the colour that Pascal VOC gives an id from 0 to 255 (``VOClabelcolormap`` of the VOC development kit).

    Bits 0, 3 and 6 of the id become the highest bits of red, bits 1, 4 and 7 of green, bits 2 and 5 of blue.

    Examples
    --------
    >>> voc_color(0), voc_color(1), voc_color(15), voc_color(255)
    ((0, 0, 0), (128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    r, g, b = (sum(((label_id >> (3 * n + c)) & 1) << (7 - n) for n in range(3)) for c in range(3))
    return r, g, b


def _label_to(label: Label) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": label.id, "name": label.name, "color": list(label.color)}
    if label.code is not None:
        entry["code"] = {"scheme": label.code.scheme, "value": label.code.value, "meaning": label.code.meaning}
    return entry


def _label_from(entry: object, position: int) -> Label:
    if not isinstance(entry, Mapping) or set(entry) - {"id", "name", "color", "code"}:
        raise PlanError(
            f"label entry {position + 1} is not understood", expected="id, name and optionally color and code"
        )
    label_id, name = entry.get("id"), entry.get("name")
    if not _is_whole(label_id) or not isinstance(name, str):
        raise PlanError(f"label entry {position + 1} has no id or no name", expected="a whole number and a text")
    color = entry.get("color") or distinct_color(position)
    if not isinstance(color, (list, tuple)) or len(color) != 3 or not all(_is_whole(c) for c in color):
        raise PlanError(f"label {name!r} has colour {color!r}", expected="three whole numbers from 0 to 255")
    r, g, b = color
    return Label(label_id, name, (r, g, b), _code_from(entry.get("code"), name))


def _code_from(entry: object, name: str) -> Code | None:
    if not entry:
        return None
    fields = ("scheme", "value", "meaning")
    if not isinstance(entry, Mapping) or set(entry) != set(fields):
        raise PlanError(f"the code of label {name!r} is not understood", expected="scheme, value and meaning")
    scheme, value, meaning = (entry[field] for field in fields)
    if not (isinstance(scheme, str) and isinstance(value, str) and isinstance(meaning, str)):
        raise PlanError(f"the code of label {name!r} holds a number", expected="texts", remedy="Put it in quotes")
    return Code(scheme, value, meaning)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
