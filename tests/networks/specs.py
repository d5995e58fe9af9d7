"""Descriptions of networks the tests build: as published, and tiny ones of every kind."""

from __future__ import annotations

from typing import Any, Literal

from medseg.plan import (
    ClassicUNetSpec,
    DeepLabSpec,
    FCNSpec,
    MedNeXtSpec,
    NetworkSpec,
    PSPNetSpec,
    ResNetSpec,
    SegResNetSpec,
    SwinUNETRSpec,
    UNetSpec,
    VGGSpec,
    dilations_for,
    published_strides,
)

Dimensions = Literal[2, 3]


def vgg(dimensions: Dimensions = 2, stride: int = 32, **more: Any) -> VGGSpec:
    """Return a VGG with the output stride, dilated behind it."""
    strides = published_strides(dimensions, stride)
    return VGGSpec.model_validate({"strides": strides, "dilations": dilations_for(strides, kind="vgg"), **more})


def resnet(dimensions: Dimensions = 2, stride: int = 8, **more: Any) -> ResNetSpec:
    """Return a ResNet with the output stride, dilated behind it."""
    strides = published_strides(dimensions, stride)
    return ResNetSpec.model_validate({"strides": strides, "dilations": dilations_for(strides, kind="resnet"), **more})


def unet(dimensions: Dimensions = 2, features: tuple[int, ...] = (4, 8), **more: Any) -> UNetSpec:
    """Return a U-Net that halves every axis between stages."""
    stages = len(features)
    return UNetSpec.model_validate(
        {
            "dimensions": dimensions,
            "features": features,
            "strides": [(1,) * dimensions, *[(2,) * dimensions] * (stages - 1)],
            "kernels": [(3,) * dimensions] * stages,
            **more,
        }
    )


def tiny(dimensions: Dimensions) -> dict[str, NetworkSpec]:
    """Return a network of every kind and form, small enough for a test."""
    small_vgg = {"width": 2, "dimensions": dimensions}
    small: dict[str, Any] = {"width": 2, "layers": 18, "norm": "instance"}
    halved = ((2,) * dimensions,)
    return {
        "unet": unet(dimensions, deep_supervision=True),
        "unet residual": unet(dimensions, residual_blocks=(1, 2), convs_per_stage=1),
        "unet 2015": ClassicUNetSpec(dimensions=dimensions, features=(4, 8), strides=halved),
        "unet 2015 valid": ClassicUNetSpec(dimensions=dimensions, features=(4, 8), strides=halved, padding="valid"),
        "unet 2016": ClassicUNetSpec(
            dimensions=dimensions, features=(4, 8), strides=halved, norm="batch", widens_early=True
        ),
        **{
            f"fcn {variant}": FCNSpec(
                dimensions=dimensions,
                encoder=vgg(dimensions, width=small_vgg["width"]),
                variant=variant,
                classifier_features=8,
                classifier_kernel=3,
            )
            for variant in ("32s", "16s", "8s")
        },
        "fcn vgg norm": FCNSpec(
            dimensions=dimensions,
            encoder=vgg(dimensions, width=2, norm="instance", layers=19),
            classifier_features=8,
            classifier_kernel=3,
        ),
        "fcn resnet": FCNSpec(dimensions=dimensions, encoder=resnet(dimensions, **small), auxiliary_weight=0.5),
        "deeplab v1": DeepLabSpec(
            dimensions=dimensions, version="v1", encoder=vgg(dimensions, 8, width=2), rates=(3,), head_features=8
        ),
        "deeplab v2 vgg": DeepLabSpec(
            dimensions=dimensions, version="v2", encoder=vgg(dimensions, 8, width=2), rates=(1, 2), head_features=8
        ),
        "deeplab v2 resnet": DeepLabSpec(
            dimensions=dimensions, version="v2", encoder=resnet(dimensions, **small), rates=(1, 2)
        ),
        "deeplab v3": DeepLabSpec(
            dimensions=dimensions,
            encoder=resnet(dimensions, **small, multi_grid=(1, 2)),
            rates=(1, 2),
            head_features=8,
            auxiliary_weight=0.5,
        ),
        "deeplab v3+": DeepLabSpec(
            dimensions=dimensions,
            version="v3+",
            encoder=resnet(dimensions, 16, **{**small, "layers": 50, "norm": "group"}),
            rates=(1, 2),
            head_features=8,
            low_level_features=4,
        ),
        "pspnet": PSPNetSpec(
            dimensions=dimensions,
            encoder=resnet(dimensions, **small, stem="deep"),
            head_features=8,
        ),
        "segresnet": SegResNetSpec(dimensions=dimensions, width=8, blocks_down=(1, 1), blocks_up=(1,)),
        "swin_unetr": SwinUNETRSpec(dimensions=dimensions, features=12),
        "mednext": MedNeXtSpec(dimensions=dimensions, width=4, deep_supervision=True),
    }
