"""The settings of a run that has begun: its recipe's words brought to its plan's, and what is settled kept so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from medseg.documents import parse_yaml
from medseg.errors import PlanError
from medseg.plan import (
    ClassicUNetSpec,
    DeepLabSpec,
    FCNSpec,
    PSPNetSpec,
    Recipe,
    ResNetSpec,
    SwinUNETRSpec,
    UNetSpec,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.plan import NetworkSpec, Plan

_TIDIED = ("infer", "largest_component"), ("infer", "fill_holes")
_LABEL_LISTS = {*_TIDIED, ("infer", "instances", "labels")}
_SETTLED = {"channels": "channels", "ignore_label": "ignored label"}  # beside network and initial weights
_AGAIN = "Leave the setting out, or begin another run (--overwrite, or another folder)"


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting read: the names it leads along, its value, and how it was written."""

    keys: tuple[str, ...]
    value: Any
    text: str

    @classmethod
    def read(cls, text: str) -> Self:
        dotted, _, value = text.partition("=")
        return cls(tuple(dotted.strip().split(".")), parse_yaml(value, where=text), text)

    def apart(self) -> tuple[Self, ...]:
        """Return one setting a field, where this one sets a whole part; what it leaves out stays as it is."""
        if self.keys not in {("preprocess",), ("train",), ("infer",)} or not isinstance(self.value, dict):
            return (self,)
        return tuple(self.read(f"{self.keys[0]}.{key}={_as_text(value)}") for key, value in self.value.items())

    def of(self, plan: Plan) -> str:
        """Return the setting as the plan has it."""
        value = _as_plan(self.keys, self.value, plan)
        return self.text if value == self.value else f"{'.'.join(self.keys)}={_as_text(value)}"


def resumed(plan: Plan, settings: Sequence[str]) -> Plan:
    """Return the plan a run goes on by: its own, with the settings that are still open.

    Settings may be those the run began with, in the words of its recipe: labels by name, ``auto`` for what the plan
    decided, fields that only a recipe has. The network is settled: a setting of it is accepted where the plan's network
    does not contradict it.

    Raises
    ------
    PlanError
        Where a setting names no field, its value does not fit, or it would change what a run cannot change.

    Examples
    --------
    >>> from medseg.labels import LabelSet
    >>> from medseg.plan import Plan, PreprocessPlan, SegResNetSpec, TrainPlan, ZScore
    >>> plan = Plan(
    ...     channels=("CT",),
    ...     labels=LabelSet.from_names({7: "liver"}),
    ...     preprocess=PreprocessPlan(spacing_mm=(1, 1, 1), normalisation=(ZScore(),)),
    ...     network=SegResNetSpec(dimensions=3, width=16),
    ...     train=TrainPlan(patch_size=(32, 32, 32), batch_size=2),
    ... )
    >>> resumed(plan, ["network.width=16", "infer.largest_component=[liver]"]).infer.largest_component
    (7,)
    """
    asked = [setting for text in settings for setting in _Setting.read(text).apart()]
    _require_same_network(plan, [setting for setting in asked if setting.keys[0] == "network"])
    others = [setting for setting in asked if setting.keys[0] != "network"]
    decided = [s for s in others if s.value == "auto" or not plan.has_field(".".join(s.keys[:2]))]
    Recipe().with_settings(s.text for s in decided)  # refuses what is no field of either
    changed = plan.with_settings(s.of(plan) for s in others if s not in decided)
    for field, name in _SETTLED.items():
        if getattr(changed, field) != getattr(plan, field):
            found = next(s.text for s in others if s.keys[0] == field)
            raise PlanError(
                f"{found!r} changes the {name} of a run that has begun",
                expected=f"{field}={_in_words(plan.model_dump(mode='json')[field])}",
                remedy=_AGAIN,
            )
    return changed


def _require_same_network(plan: Plan, settings: Sequence[_Setting]) -> None:
    """Refuse settings that contradict the plan's network, be they in its own words or in a recipe's."""
    if not settings:
        return
    texts = [setting.text for setting in settings]
    try:
        changed = plan.with_settings(texts).network
    except PlanError:
        _require_same_words(plan.network, settings)
        return
    if changed != plan.network:
        raise _another_network(", ".join(texts), plan.network.in_words)


def _require_same_words(network: NetworkSpec, settings: Sequence[_Setting]) -> None:
    """Refuse what no recipe of this kind says, and what contradicts the network where the two can be compared."""
    recipe = Recipe().with_settings([f"network.kind={network.kind}", *(setting.text for setting in settings)])
    asked, decided = recipe.network.model_dump(mode="json"), _in_a_recipes_words(network)
    for setting in settings:
        for name in setting.keys[1:2] or setting.value:
            if asked[name] not in ("auto", decided.get(name, asked[name])):
                raise _another_network(setting.text, f"network.{name}={_in_words(decided[name])}")


def _another_network(found: str, expected: str) -> PlanError:
    return PlanError(f"{found!r} changes the network of a run that has begun", expected=expected, remedy=_AGAIN)


def _in_a_recipes_words(network: NetworkSpec) -> dict[str, Any]:
    """Return what a recipe could have said of a network and is kept as it was said."""
    words = network.model_dump(mode="json")
    match network:
        case UNetSpec():
            return words | {"width": network.features[0], "residual": bool(network.residual_blocks)}
        case ClassicUNetSpec():
            return words | {"width": network.features[0]}
        case SwinUNETRSpec():
            return words | {"width": network.features}
        case FCNSpec() | DeepLabSpec() | PSPNetSpec():
            encoder = network.encoder
            words |= {"encoder": f"{encoder.kind}{encoder.layers}", "width": encoder.width, "norm": encoder.norm}
            return words | ({"multi_grid": bool(encoder.multi_grid)} if isinstance(encoder, ResNetSpec) else {})
        case _:
            return words


def _as_plan(keys: tuple[str, ...], value: Any, plan: Plan) -> Any:
    """Return a value of a recipe as a plan has it: labels by id, normalisations with their numbers."""
    if keys == ("infer", "minimum_ml") and isinstance(value, dict):
        return {plan.labels.by_name(k).id if isinstance(k, str) else k: ml for k, ml in value.items()}
    if isinstance(value, dict):
        return {key: _as_plan((*keys, key), inner, plan) for key, inner in value.items()}
    if keys in _LABEL_LISTS:
        return _as_ids(keys, value, plan)
    if keys == ("preprocess", "normalisation") and isinstance(value, list):
        own = plan.preprocess.model_dump(mode="json")["normalisation"]
        named = value * len(own) if len(value) == 1 else value
        is_own = named == [one["kind"] for one in own]
        return own if is_own else [{"kind": one} if isinstance(one, str) else one for one in named]
    return value


def _as_ids(keys: tuple[str, ...], value: Any, plan: Plan) -> Any:
    """Return labels by id; all of them are none in particular to what takes objects apart."""
    if value == "all":
        return list(plan.labels.ids) if keys in _TIDIED else []
    if not isinstance(value, list):
        return value
    return [plan.labels.by_name(one).id if isinstance(one, str) else one for one in value]


def _as_text(value: Any) -> str:
    return json.dumps(value, default=str)


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else _as_text(value)
