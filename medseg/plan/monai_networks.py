"""Networks that MONAI builds, described like ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.plan.part import Count, Part, Share


class SegResNetSpec(Part):
    """SegResNet (Myronenko 2018, arXiv:1810.11654), without its variational branch."""

    kind: Literal["segresnet"] = "segresnet"
    dimensions: Literal[2, 3]
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 32  # its norms have groups of 8
    blocks_down: tuple[Count, ...] = Field(default=(1, 2, 2, 4), min_length=2)
    blocks_up: tuple[Count, ...] = Field(default=(1, 1, 1), min_length=1)
    dropout: Share = 0.0

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch side must be a multiple of."""
        return (2 ** (len(self.blocks_down) - 1),) * self.dimensions

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return f"SegResNet, {self.dimensions}-D, {self.width} features"


class SwinUNETRSpec(Part):
    """Swin UNETR (Hatamizadeh 2022, arXiv:2201.01266): a shifted-window transformer as a U-Net's encoder."""

    kind: Literal["swin_unetr"] = "swin_unetr"
    dimensions: Literal[2, 3]
    features: Annotated[int, Field(ge=12, multiple_of=12)] = 24
    depths: tuple[Count, Count, Count, Count] = (2, 2, 2, 2)
    heads: tuple[Count, Count, Count, Count] = (3, 6, 12, 24)
    dropout: Share = 0.0

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch side must be a multiple of: five halvings."""
        return (32,) * self.dimensions

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return f"Swin UNETR, {self.dimensions}-D, {self.features} features"


class MedNeXtSpec(Part):
    """MedNeXt (Roy 2023, arXiv:2303.09975): ConvNeXt blocks in a U-Net, in the paper's four sizes."""

    kind: Literal["mednext"] = "mednext"
    dimensions: Literal[2, 3]
    size: Literal["S", "B", "M", "L"] = "S"
    width: Count = 32
    kernel: Literal[3, 5] = 3
    deep_supervision: bool = False

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch side must be a multiple of: four halvings."""
        return (16,) * self.dimensions

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return f"MedNeXt-{self.size}, {self.dimensions}-D, {self.width} features"
