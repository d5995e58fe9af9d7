"""How a network learns: optimiser, loss, augmentation and their amounts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from medseg.plan.loss import DiceCrossEntropy, Loss
from medseg.plan.part import AxisName, Count, Fraction, NonNegative, Part, PatchSize, Positive, Share


class AdamW(Part):
    """AdamW (Loshchilov 2019) with warm-up and cosine decay."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: Positive = 2e-3
    weight_decay: NonNegative = 1e-2
    warmup: Fraction = 0.1


class Sgd(Part):
    """SGD with Nesterov momentum and polynomial decay, as nnU-Net has it, after a `warmup` if asked for."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: Positive = 1e-2
    momentum: Fraction = 0.99
    weight_decay: NonNegative = 3e-5
    power: Positive = 0.9
    warmup: Fraction = 0.0


Optimizer = Annotated[AdamW | Sgd, Field(discriminator="kind")]


class AugmentPlan(Part):
    """How training patches are varied; a probability of 0 switches a variation off."""

    rotation_probability: Fraction = 0.3
    rotation_deg: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (30.0, 30.0, 30.0)
    scaling_probability: Fraction = 0.3
    scaling: tuple[Positive, Positive] = (0.7, 1.4)
    elastic_probability: Fraction = 0.0
    noise_probability: Fraction = 0.1
    blur_probability: Fraction = 0.1
    brightness_probability: Fraction = 0.15
    contrast_probability: Fraction = 0.15
    low_resolution_probability: Fraction = 0.1
    gamma_probability: Fraction = 0.3
    mirror_axes: tuple[AxisName, ...] = ()

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        if self.scaling[0] > self.scaling[1]:
            raise ValueError(f"scaling {self.scaling} must be a range from small to large")
        return self


class TrainPlan(Part):
    """How the network learns.

    `patience` ends a run after so many epochs without a better smoothed Dice on validation patches; null: never.
    `replay` is the share of patches that come from another data set (``--replay``).
    """

    patch_size: PatchSize
    batch_size: Count
    epochs: Count = 200
    steps_per_epoch: Count = 100
    optimizer: Optimizer = Field(default_factory=AdamW)
    loss: Loss = Field(default_factory=DiceCrossEntropy)
    foreground_fraction: Fraction = 0.33
    augment: AugmentPlan = Field(default_factory=AugmentPlan)
    ema_decay: Share = 0.999
    folds: Annotated[int, Field(ge=2)] = 5
    seed: int = 0
    patience: Count | None = None
    replay: Share = 0.0
