"""What a network is trained to make small: one part a loss, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from medseg.plan.part import Count, NonNegative, Part, Positive


def _require_one(**weights: float) -> None:
    if not any(weights.values()):
        raise ValueError(f"one of {', '.join(weights)} must be above 0")


def _weighs_a_class(weights: tuple[float, ...]) -> tuple[float, ...]:
    if weights and not any(weights):
        raise ValueError("one class weight must be above 0")
    return weights


ClassWeights = Annotated[tuple[NonNegative, ...], AfterValidator(_weighs_a_class)]
"""One weight a class, the background's first; empty where all count alike."""


class DiceCrossEntropy(Part):
    """Soft Dice plus cross-entropy; `batch_dice` sums the overlap over the batch before dividing."""

    kind: Literal["dice_ce"] = "dice_ce"
    dice_weight: NonNegative = 1.0
    cross_entropy_weight: NonNegative = 1.0
    batch_dice: bool = True
    class_weights: ClassWeights = ()

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        _require_one(dice_weight=self.dice_weight, cross_entropy_weight=self.cross_entropy_weight)
        return self


class Dice(Part):
    """Soft Dice of the labels (Milletari 2016, arXiv:1606.04797); `squared` squares the terms below, as published."""

    kind: Literal["dice"] = "dice"
    batch_dice: bool = True
    squared: bool = False


class CrossEntropy(Part):
    """Cross-entropy of all classes; with `class_weights` a weighted mean over the voxels."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    class_weights: ClassWeights = ()


class GeneralisedDice(Part):
    """Dice over all classes together, each weighted by one over its squared volume (Sudre 2017, arXiv:1707.03237)."""

    kind: Literal["generalised_dice"] = "generalised_dice"
    batch_dice: bool = True


class Focal(Part):
    """Cross-entropy that easy voxels hardly enter (Lin 2017, arXiv:1708.02002); `gamma` of 0 is cross-entropy."""

    kind: Literal["focal"] = "focal"
    gamma: NonNegative = 2.0
    class_weights: ClassWeights = ()


class DiceFocal(Part):
    """Soft Dice plus focal loss (Zhu 2019, arXiv:1808.05238)."""

    kind: Literal["dice_focal"] = "dice_focal"
    dice_weight: NonNegative = 1.0
    focal_weight: NonNegative = 1.0
    gamma: NonNegative = 2.0
    batch_dice: bool = True
    class_weights: ClassWeights = ()

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        _require_one(dice_weight=self.dice_weight, focal_weight=self.focal_weight)
        return self


class Tversky(Part):
    """Overlap that counts a false positive `alpha` and a false negative `beta` (Salehi 2017, arXiv:1706.05721).

    A `gamma` above 1 raises it to the power 1 / gamma, which makes it a focal Tversky loss (Abraham 2019,
    arXiv:1810.07842; there 4/3, and alpha and beta change places).
    """

    kind: Literal["tversky"] = "tversky"
    alpha: NonNegative = 0.3
    beta: NonNegative = 0.7
    gamma: Positive = 1.0
    batch_dice: bool = True

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        _require_one(alpha=self.alpha, beta=self.beta)
        return self


class Boundary(Part):
    """Soft Dice plus cross-entropy plus the boundary loss (Kervadec 2019, arXiv:1812.07032), which is in mm."""

    kind: Literal["boundary"] = "boundary"
    dice_weight: NonNegative = 1.0
    cross_entropy_weight: NonNegative = 1.0
    boundary_weight: Positive = 0.01
    batch_dice: bool = True
    class_weights: ClassWeights = ()


class CentrelineDice(Part):
    """Soft Dice plus cross-entropy plus clDice (Shit 2021, arXiv:2003.07311).

    The `iterations` of thinning should reach the radius, in voxels, of the thickest vessel.
    """

    kind: Literal["cldice"] = "cldice"
    dice_weight: NonNegative = 1.0
    cross_entropy_weight: NonNegative = 1.0
    cldice_weight: Positive = 1.0
    iterations: Count = 3
    batch_dice: bool = True
    class_weights: ClassWeights = ()


def _with_kind(value: Any) -> Any:
    """Return a mapping without a kind as one of Dice plus cross-entropy: once there was no other."""
    return {"kind": "dice_ce"} | value if isinstance(value, dict) else value


Loss = Annotated[
    DiceCrossEntropy | Dice | CrossEntropy | GeneralisedDice | Focal | DiceFocal | Tversky | Boundary | CentrelineDice,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]


def class_weights(loss: Loss) -> tuple[float, ...]:
    """Return the weights a loss gives the classes, background first; none where all count alike.

    Examples
    --------
    >>> class_weights(CrossEntropy(class_weights=(0.5, 1.0))), class_weights(Dice())
    ((0.5, 1.0), ())
    """
    match loss:
        case Dice() | GeneralisedDice() | Tversky():
            return ()
        case _:
            return loss.class_weights
