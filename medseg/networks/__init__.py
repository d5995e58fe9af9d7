"""From a network's description to a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.networks.classic_unet import ClassicUNet
from medseg.networks.deeplab import build_deeplab
from medseg.networks.fcn import build_fcn
from medseg.networks.norm import InstanceNorm
from medseg.networks.pspnet import PSPNet
from medseg.networks.unet import UNet
from medseg.plan import (
    ClassicUNetSpec,
    DeepLabSpec,
    FCNSpec,
    MedNeXtSpec,
    PSPNetSpec,
    SegResNetSpec,
    SwinUNETRSpec,
    UNetSpec,
)

if TYPE_CHECKING:
    from torch import nn

    from medseg.plan import NetworkSpec

__all__ = ["InstanceNorm", "UNet", "blueprint", "build", "halving", "memory_format", "output_weights"]

_MEDNEXT_OUTPUTS = 5


def build(spec: NetworkSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return the network `spec` describes, with fresh weights from torch's global generator.

    Every network maps an image (N, C, *spatial) of any size to logits (N, classes, *spatial). In training mode it may
    return a tuple: the logits first, then those that are only supervised, on the image's grid or a coarser one; how
    much each counts is `output_weights`.

    Parameters
    ----------
    spec : NetworkSpec
        One of the typed descriptions in `medseg.plan`.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> kernels = ((3, 3, 3), (3, 3, 3))
    >>> spec = UNetSpec(dimensions=3, features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=kernels)
    >>> build(spec, 2, 3).eval()(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 3, 3, 8, 8])
    """
    match spec:
        case UNetSpec():
            return UNet(spec, in_channels, out_channels)
        case ClassicUNetSpec():
            return ClassicUNet(spec, in_channels, out_channels)
        case FCNSpec():
            return build_fcn(spec, in_channels, out_channels)
        case DeepLabSpec():
            return build_deeplab(spec, in_channels, out_channels)
        case PSPNetSpec():
            return PSPNet(spec, in_channels, out_channels)
        case SegResNetSpec() | SwinUNETRSpec() | MedNeXtSpec():
            from medseg.networks.monai_networks import build_monai  # noqa: PLC0415 - MONAI's networks take a second to import

            return build_monai(spec, in_channels, out_channels)


def output_weights(spec: NetworkSpec) -> tuple[float, ...]:
    """Return how much each output of a network in training counts in the loss, the logits first.

    Deeply supervised outputs count half as much from one to the next, and all add up to one (Lee 2015,
    arXiv:1409.5185; Isensee 2021); an auxiliary output has the weight its spec names, beside 1 for the logits (Zhao
    2017).

    Examples
    --------
    >>> kernels = ((3, 3), (3, 3), (3, 3))
    >>> strides = ((1, 1), (2, 2), (2, 2))
    >>> spec = UNetSpec(dimensions=2, features=(4, 4, 4), strides=strides, kernels=kernels, deep_supervision=True)
    >>> [round(weight, 2) for weight in output_weights(spec)]
    [0.67, 0.33]
    """
    match spec:
        case UNetSpec(deep_supervision=True):
            return halving(len(spec.features) - 1)
        case MedNeXtSpec(deep_supervision=True):
            return halving(_MEDNEXT_OUTPUTS)
        case FCNSpec() | DeepLabSpec() | PSPNetSpec() if spec.auxiliary_weight:
            return (1.0, spec.auxiliary_weight)
        case _:
            return (1.0,)


def halving(outputs: int) -> tuple[float, ...]:
    """Return weights of deeply supervised outputs: half as much from one to the next, one together.

    Examples
    --------
    >>> [round(weight, 2) for weight in halving(2)]
    [0.67, 0.33]
    """
    whole = sum(0.5**i for i in range(outputs))
    return tuple(0.5**i / whole for i in range(outputs))


def blueprint(spec: NetworkSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return the network `spec` describes without memory for its weights, to ask it for names and shapes.

    Those MONAI builds have memory all the same: Swin UNETR cannot be made without.
    """
    with torch.device("meta"):
        return build(spec, in_channels, out_channels)


def memory_format(dimensions: int) -> torch.memory_format:
    """Return the layout networks are fastest in: channels last, in two or three dimensions."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last
