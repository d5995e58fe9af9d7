"""The frozen model every part of a recipe, plan or fingerprint is: unknown fields refused, YAML in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from medseg.documents import format_yaml, parse_yaml, read_yaml
from medseg.errors import PlanError
from medseg.labels import LabelSet
from medseg.selection import parse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

AxisName = Literal["Z", "Y", "X"]
AXES: tuple[AxisName, ...] = ("Z", "Y", "X")
Auto = Literal["auto"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Triple = tuple[Positive, Positive, Positive]
PatchSize = tuple[Count, Count, Count]
_AXIS_OF = {"L": "x", "R": "x", "A": "y", "P": "y", "S": "z", "I": "z"}


def _checked_codes(codes: str) -> str:
    if codes != "stored" and sorted(_AXIS_OF.get(letter, "") for letter in codes) != ["x", "y", "z"]:
        raise ValueError("must be 'stored' or three letters such as 'SPL', one of each L/R, A/P, S/I")
    return codes


Codes = Annotated[str, AfterValidator(_checked_codes)]


def _checked_rule(text: str) -> str:
    try:
        return str(parse(text))
    except PlanError as error:
        raise ValueError(str(error)) from error


Selection = Annotated[str, AfterValidator(_checked_rule)]
"""A rule of `medseg.selection`, as text; empty where everything is meant."""


def _labels_from(value: object) -> LabelSet:
    if isinstance(value, LabelSet):
        return value
    if not isinstance(value, list):
        raise ValueError("labels must be a list of entries with id and name")
    try:
        return LabelSet.from_json(value)
    except PlanError as error:
        raise ValueError(str(error)) from error


Labels = Annotated[LabelSet, PlainValidator(_labels_from), PlainSerializer(LabelSet.to_json)]


class Part(BaseModel):
    """A frozen model that refuses unknown fields and prints and parses as YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    @classmethod
    def from_document(cls, document: object, *, where: str = "") -> Self:
        """Return the model a plain value describes; every fault is named in one sentence."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise PlanError(faults(error), where=where, remedy="Correct the fields named") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the model a YAML file describes."""
        return cls.from_document(read_yaml(path), where=str(path))

    def to_yaml(self) -> str:
        """Return the model as YAML text."""
        return format_yaml(self.model_dump(mode="json"))

    def with_settings(self, settings: Iterable[str]) -> Self:
        """Return a copy with settings such as ``train.epochs=50`` applied, one after the other.

        Another `kind` brings the defaults of that kind: what was set for the old one is gone.

        Raises
        ------
        PlanError
            Where a setting has no ``=``, names no field, or its value does not fit.
        """
        document = self.model_dump(mode="json")
        for setting in settings:
            dotted, equals, text = setting.partition("=")
            if not equals:
                raise PlanError(f"the setting {setting!r} has no value", expected="a setting such as train.epochs=50")
            keys, value = dotted.strip().split("."), parse_yaml(text, where=setting)
            place = _place(document, keys, setting=setting)
            if keys[-1] == "kind" and value != place.get("kind"):
                place.clear()
                place.update(_defaults(type(self), keys[:-1], value))
            place[keys[-1]] = _Begun(value) if isinstance(value, dict) else value
        return self.from_document(document, where="settings")

    def has_field(self, dotted: str) -> bool:
        """Tell whether a name such as ``train.epochs`` is a field, or may be one of a part that is left out.

        Examples
        --------
        >>> from medseg.plan import Recipe
        >>> Recipe().has_field("train.epochs"), Recipe().has_field("train.epoch")
        (True, False)
        """
        value: Any = self.model_dump(mode="json")
        for key in dotted.strip().split("."):
            if value is None:
                return True
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True


class _Begun(dict[str, Any]):
    """A part that a setting begins; which fields it may have is told when the whole is read again."""


def _place(document: dict[str, Any], keys: list[str], *, setting: str) -> dict[str, Any]:
    """Return the mapping within `document` that holds the last of `keys`; parts that were left out are begun."""
    for depth, key in enumerate(keys):
        if key not in document and not isinstance(document, _Begun):
            known = ", ".join(sorted(document))
            raise PlanError(f"the setting {setting!r} names no field: there is no {key!r}", expected=f"one of {known}")
        if depth == len(keys) - 1:
            break
        if document.get(key) is None:
            document[key] = _Begun()
        if not isinstance(document[key], dict):
            raise PlanError(f"the setting {setting!r} goes too deep: {key!r} holds no fields")
        document = document[key]
    return document


def _defaults(part: type[BaseModel], keys: list[str], kind: object) -> dict[str, Any]:
    """Return what a part of this kind, at the place `keys` lead to, holds by default; nothing where there is none."""
    candidates = [part]
    for key in keys:
        owners = [c for c in candidates if key in c.model_fields]
        candidates = [inner for owner in owners for inner in _parts_in(owner.model_fields[key].annotation)]
    for candidate in candidates:
        kinds = candidate.model_fields.get("kind")
        if kinds is not None and kind in get_args(kinds.annotation):
            return candidate.model_construct().model_dump(mode="json")
    return {}


def _parts_in(annotation: object) -> list[type[BaseModel]]:
    """Return the parts a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts_in(inner)]


def faults(error: ValidationError) -> str:
    """Return what pydantic found wrong, in one sentence."""
    return "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'the document'}: {e['msg']}" for e in error.errors())
