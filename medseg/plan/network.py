"""Networks wholly described by data: what `medseg.networks.build` builds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medseg.plan.part import Count, Part


class UNetSpec(Part):
    """A U-Net wholly described: one entry per stage, full resolution first (Ronneberger 2015; Isensee 2021)."""

    kind: Literal["unet"] = "unet"
    dimensions: Literal[2, 3]
    features: tuple[Count, ...] = Field(min_length=2)
    strides: tuple[tuple[Count, ...], ...]
    kernels: tuple[tuple[Count, ...], ...]
    convs_per_stage: Count = 2
    deep_supervision: bool = False

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        stages = len(self.features)
        if len(self.strides) != stages or len(self.kernels) != stages:
            raise ValueError(f"features, strides and kernels must each have {stages} stages")
        if any(len(t) != self.dimensions for t in (*self.strides, *self.kernels)):
            raise ValueError(f"every stride and kernel must have {self.dimensions} numbers")
        if any(s != 1 for s in self.strides[0]) or any(k % 2 == 0 for t in self.kernels for k in t):
            raise ValueError("the first stage has stride 1, and kernels are odd")
        return self

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch side must be a multiple of: the product of the strides."""
        product = [1] * self.dimensions
        for stride in self.strides:
            product = [p * s for p, s in zip(product, stride, strict=True)]
        return tuple(product)


NetworkSpec = UNetSpec  # a discriminated union on `kind` as soon as there is a second architecture
