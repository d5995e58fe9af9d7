"""What a network costs: operations, parameters and kept activations, counted from its description.

Planning asks for it at every size it tries. A plain U-Net is counted by arithmetic; of other networks one pass is
counted, and scaled to other sizes by their voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.networks.cost import counted
from medseg.plan import DeepLabSpec, FCNSpec, PSPNetSpec, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.plan import NetworkSpec

_ALIVE = 4  # maps of the largest layer that are there at once when not learning
_COARSE_VOXELS = 4  # a side of the coarsest map of the sample that is counted


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one sample going forward.

    Attributes
    ----------
    flops : int
        Operations of the convolutions, two per multiply-add; norms and activations are below 2 % of it.
    parameters : int
        Weights to learn.
    activations : int
        Numbers kept for the way back, when learning.
    largest_stage : int
        Numbers alive at once at full resolution, when not learning.
    """

    flops: int
    parameters: int
    activations: int
    largest_stage: int


def network_cost(spec: NetworkSpec, spatial: Sequence[int], *, in_channels: int, out_channels: int) -> Cost:
    """Return what one sample of size `spatial` costs.

    Parameters
    ----------
    spec : NetworkSpec
        The network.
    spatial : sequence of int
        Sides of the sample, as many as the network has dimensions.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> from medseg.plan import DeepLabSpec, FCNSpec, PSPNetSpec, UNetSpec
    >>> spec = UNetSpec(dimensions=2, features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)))
    >>> network_cost(spec, (8, 8), in_channels=1, out_channels=3).parameters
    1687
    """
    if isinstance(spec, UNetSpec) and not spec.residual_blocks:
        return _unet_cost(spec, spatial, in_channels=in_channels, out_channels=out_channels)
    sample = tuple(_COARSE_VOXELS * d for d in spec.divisor)
    times = math.prod(spatial) / math.prod(sample)
    one = counted(_undilated(spec), sample, in_channels, out_channels)
    largest = _ALIVE * one.largest + out_channels * math.prod(sample)
    return Cost(int(one.flops * times), one.parameters, int(one.kept * times), int(largest * times))


def _undilated(spec: NetworkSpec) -> NetworkSpec:
    """Return a network of the same cost without dilation, so that plans that try many sizes count few networks."""
    if not isinstance(spec, (FCNSpec, DeepLabSpec, PSPNetSpec)):
        return spec
    encoder = spec.encoder.model_copy(update={"dilations": (1,) * len(spec.encoder.dilations), "multi_grid": ()})
    if isinstance(spec, DeepLabSpec):
        return spec.model_copy(update={"encoder": encoder, "rates": (1,) * len(spec.rates)})
    return spec.model_copy(update={"encoder": encoder})


def _unet_cost(spec: UNetSpec, spatial: Sequence[int], *, in_channels: int, out_channels: int) -> Cost:
    """Return the cost of a plain U-Net.

    An encoder stage strides in its first convolution; a decoder stage goes up by a transposed convolution whose kernel
    is its stride, joins the skip and convolves. Each convolution keeps its output and its normalised output.
    """
    features = spec.features
    voxels = _voxels(spec, spatial)
    taps = [math.prod(kernel) for kernel in spec.kernels]
    flops = parameters = activations = 0
    before = in_channels
    for f, v, k, n in zip(features, voxels, taps, spec.convs_down, strict=True):  # down
        weights = k * f * (before + (n - 1) * f)
        flops += 2 * weights * v
        parameters += weights + 2 * n * f
        activations += 2 * n * f * v
        before = f
    for i in range(len(features) - 2, -1, -1):  # up
        fine, coarse, v, n = features[i], features[i + 1], voxels[i], spec.convs_up[-1 - i]
        window = math.prod(spec.strides[i + 1])
        weights = taps[i] * fine * (2 * fine + (n - 1) * fine)
        flops += 2 * weights * v + 2 * window * coarse * fine * voxels[i + 1]
        parameters += weights + 2 * n * fine + window * coarse * fine + fine
        activations += (2 * n + 2) * fine * v
    heads = range(len(features) - 1) if spec.deep_supervision else range(1)
    for i in heads:
        flops += 2 * features[i] * out_channels * voxels[i]
        parameters += (features[i] + 1) * out_channels
        activations += 3 * out_channels * voxels[i]  # logits, their softmax and the reference
    largest = (4 * features[0] + out_channels) * voxels[0]
    return Cost(flops, parameters, activations, largest)


def _voxels(spec: UNetSpec, spatial: Sequence[int]) -> list[int]:
    """Return the number of voxels of every stage's grid."""
    sides, counts = list(spatial), []
    for stride in spec.strides:
        sides = [-(-side // step) for side, step in zip(sides, stride, strict=True)]
        counts.append(math.prod(sides))
    return counts
