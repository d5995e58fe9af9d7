"""From a network's description to a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.networks.norm import InstanceNorm
from medseg.networks.unet import UNet
from medseg.plan import UNetSpec

if TYPE_CHECKING:
    from torch import nn

    from medseg.plan import NetworkSpec

__all__ = ["InstanceNorm", "UNet", "build", "memory_format"]


def build(spec: NetworkSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return the network `spec` describes, with fresh weights from torch's global generator.

    Every network maps an image (N, C, *spatial) to logits (N, classes, *spatial); in training mode it may return a
    tuple of logits on ever coarser grids, full resolution first.

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


def memory_format(dimensions: int) -> torch.memory_format:
    """Return the layout networks are fastest in: channels last, in two or three dimensions."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last
