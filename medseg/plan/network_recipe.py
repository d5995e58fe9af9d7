"""What a person asks of a network: its kind and what matters to them; ``auto`` leaves the rest to data and machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from medseg.plan.encoder import Norm
from medseg.plan.network import with_kind
from medseg.plan.part import Auto, Count, NonNegative, Part, Share

EncoderName = Literal["vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101"]


class _NetworkRecipe(Part):
    """`width` is the number of features at full resolution, as far as a network has such."""

    dimensions: Literal[2, 3] = 3
    width: Count | Auto = "auto"


class UNetRecipe(_NetworkRecipe):
    """`UNetSpec` with ``auto``; `residual` gives it nnU-Net's residual encoder."""

    kind: Literal["unet"] = "unet"
    max_width: Count | Auto = "auto"
    depth: Count | Auto = "auto"
    residual: bool = False
    convs_per_stage: Count | Auto = "auto"
    deep_supervision: bool | Auto = "auto"


class ClassicUNetRecipe(_NetworkRecipe):
    """`ClassicUNetSpec` with ``auto``: as published in 2015 where it is 2-D, in 2016 where it is 3-D."""

    kind: Literal["classic_unet"] = "classic_unet"
    depth: Count | Auto = "auto"
    padding: Literal["same", "valid"] = "same"
    norm: Norm | Auto = "auto"
    dropout: Share = 0.0


class _OnEncoderRecipe(_NetworkRecipe):
    """`norm` is that of encoder and head; ``auto`` is instance norm, as medical batches are small."""

    encoder: EncoderName
    norm: Norm | Auto = "auto"
    output_stride: Literal[1, 2, 4, 8, 16, 32] | Auto = "auto"


class FCNRecipe(_OnEncoderRecipe):
    """`FCNSpec` with ``auto``."""

    kind: Literal["fcn"] = "fcn"
    variant: Literal["32s", "16s", "8s"] = "8s"
    encoder: EncoderName = "vgg16"
    classifier_features: Count | Auto = "auto"
    dropout: Share = 0.5
    auxiliary_weight: NonNegative = 0.0


class DeepLabRecipe(_OnEncoderRecipe):
    """`DeepLabSpec` with ``auto``."""

    kind: Literal["deeplab"] = "deeplab"
    version: Literal["v1", "v2", "v3", "v3+"] = "v3"
    encoder: EncoderName = "resnet50"
    rates: tuple[Count, ...] | Auto = "auto"
    head_features: Count | Auto = "auto"
    dropout: Share | Auto = "auto"
    multi_grid: bool = False
    auxiliary_weight: NonNegative = 0.0


class PSPNetRecipe(_OnEncoderRecipe):
    """`PSPNetSpec` with ``auto``."""

    kind: Literal["pspnet"] = "pspnet"
    encoder: EncoderName = "resnet50"
    bins: tuple[Count, ...] = Field(default=(1, 2, 3, 6), min_length=1)
    head_features: Count | Auto = "auto"
    dropout: Share = 0.1
    auxiliary_weight: NonNegative = 0.4


class SegResNetRecipe(_NetworkRecipe):
    """`SegResNetSpec` with ``auto``."""

    kind: Literal["segresnet"] = "segresnet"
    dropout: Share = 0.0


class SwinUNETRRecipe(_NetworkRecipe):
    """`SwinUNETRSpec` with ``auto``; its width is a multiple of 12."""

    kind: Literal["swin_unetr"] = "swin_unetr"
    dropout: Share = 0.0


class MedNeXtRecipe(_NetworkRecipe):
    """`MedNeXtSpec` with ``auto``."""

    kind: Literal["mednext"] = "mednext"
    size: Literal["S", "B", "M", "L"] = "S"
    kernel: Literal[3, 5] = 3
    deep_supervision: bool | Auto = "auto"


NetworkRecipe = Annotated[
    UNetRecipe
    | ClassicUNetRecipe
    | FCNRecipe
    | DeepLabRecipe
    | PSPNetRecipe
    | SegResNetRecipe
    | SwinUNETRRecipe
    | MedNeXtRecipe,
    Field(discriminator="kind"),
    BeforeValidator(with_kind),
]
