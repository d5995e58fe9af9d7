"""What a network costs, counted on one pass over an image that takes no memory."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from medseg import networks

if TYPE_CHECKING:
    from medseg.plan import NetworkSpec

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_INPLACE = (nn.ReLU, nn.LeakyReLU, nn.Dropout, nn.Identity)


class Counted(NamedTuple):
    """What one sample going forward takes: operations, weights, numbers kept for the way back, the largest map."""

    flops: int
    parameters: int
    kept: int
    largest: int


@lru_cache(maxsize=256)
def counted(spec: NetworkSpec, spatial: tuple[int, ...], in_channels: int, out_channels: int) -> Counted:
    """Return what one sample going forward in training takes.

    Operations are those of convolutions and linear layers, two per multiply-add; a transformer's attention is not
    counted. Kept are the outputs of every layer
    but rectifiers and dropout, and three numbers per score: logits, their softmax, the reference.

    Parameters
    ----------
    spec : NetworkSpec
        Any network.
    spatial : tuple of int
        Sides of the sample.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> from medseg.plan import UNetSpec
    >>> spec = UNetSpec(dimensions=2, features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)))
    >>> counted(spec, (8, 8), 1, 3).parameters
    1687
    """
    network = networks.blueprint(spec, in_channels, out_channels).to("meta").train()
    image = torch.empty(2, in_channels, *spatial, device="meta")  # two, as a batch norm wants more than one value
    flops = kept = largest = 0

    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal flops, kept, largest
        if not isinstance(output, torch.Tensor):
            return
        numbers = output.numel() // 2
        if isinstance(module, _CONVOLUTIONS):
            taps = math.prod(module.kernel_size) * module.in_channels // module.groups
            places = numbers if not module.transposed else numbers // math.prod(module.stride)
            flops += 2 * taps * places
        elif isinstance(module, nn.Linear):
            flops += 2 * module.in_features * numbers
        kept += 0 if isinstance(module, _INPLACE) else numbers
        largest = max(largest, numbers)

    hooks = [m.register_forward_hook(look) for m in network.modules() if not list(m.children())]
    with torch.no_grad():
        outputs = network(image)
    for hook in hooks:
        hook.remove()
    rows = outputs if isinstance(outputs, tuple) else (outputs,)
    kept += 2 * sum(row.numel() // 2 for row in rows)
    return Counted(flops, sum(p.numel() for p in network.parameters()), kept, largest)
