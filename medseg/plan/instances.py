"""How a class mask becomes numbered objects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.plan.part import Count, NonNegative, Part

InstanceMethod = Literal["components", "watershed"]


class _Separation(Part):
    """What `InstancePlan` and `InstanceRecipe` have in common.

    `components`: what hangs together is one object. `watershed`: what hangs together by a neck narrower than `neck`
    times the radius of the smaller part is two, unless their middles are nearer than `minimum_distance_mm`. Objects
    below `minimum_mm3` are dropped; a picture's pixel counts as 1 mm3.
    """

    method: InstanceMethod = "components"
    neck: Annotated[float, Field(gt=0, lt=1)] = 0.9
    minimum_distance_mm: NonNegative = 0.0
    minimum_mm3: NonNegative = 0.0
    connectivity: Literal[6, 18, 26] = 26


class InstancePlan(_Separation):
    """Which labels are taken apart into numbered objects, by id, and how; without any id, all labels are."""

    labels: tuple[Count, ...] = ()


class InstanceRecipe(_Separation):
    """`InstancePlan` with labels by name, or ``all``."""

    labels: tuple[str, ...] | Literal["all"] = "all"
