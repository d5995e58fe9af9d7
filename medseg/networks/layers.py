"""The layers networks are made of, by number of dimensions and by name, so that no network knows which it has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

from medseg.networks.norm import InstanceNorm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from medseg.plan.encoder import Activation, Norm

LEAK = 0.01
_GROUPS = 8


def conv(
    in_features: int,
    features: int,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...] | int = 1,
    dilation: int = 1,
    bias: bool = False,
) -> nn.Module:
    """Return a 2-D or 3-D convolution that keeps the grid but for its stride; a norm after it makes a bias idle."""
    layer: Callable[..., nn.Module] = nn.Conv3d if len(kernel) == 3 else nn.Conv2d
    padding = tuple(dilation * (k // 2) for k in kernel)
    return layer(in_features, features, kernel, stride, padding=padding, dilation=dilation, bias=bias)


def norm(kind: Norm, features: int, *, dimensions: int) -> nn.Module:
    """Return a normalisation with a scale and shift for each feature; ``none`` passes through."""
    match kind:
        case "batch":
            return nn.BatchNorm3d(features) if dimensions == 3 else nn.BatchNorm2d(features)
        case "instance":
            return InstanceNorm(features)
        case "group":
            groups = math.gcd(_GROUPS, features)
            if groups == features:  # a group of one feature may see one voxel, which does not differ from its mean
                groups = max(1, groups // 2)
            return nn.GroupNorm(groups, features)
        case "none":
            return nn.Identity()


def unit(
    features: int, out_features: int, *, kernel: tuple[int, ...], norm_kind: Norm, dilation: int = 1
) -> nn.Sequential:
    """Return a convolution, its normalisation and a rectifier: what heads are made of."""
    return nn.Sequential(
        conv(features, out_features, kernel=kernel, dilation=dilation),
        norm(norm_kind, out_features, dimensions=len(kernel)),
        nn.ReLU(inplace=True),
    )


def norm_of_few(kind: Norm, features: int, *, dimensions: int) -> nn.Module:
    """Return the normalisation of a map that was pooled to a few voxels.

    An instance norm would take away all that one voxel says, and so may a norm of few features. Both become a norm over
    all features together (group norm with one group, Wu and He 2018, arXiv:1803.08494).
    """
    if kind in {"instance", "group"}:
        return nn.GroupNorm(1, features)
    return norm(kind, features, dimensions=dimensions)


def activation(kind: Activation) -> nn.Module:
    """Return a rectifier."""
    return nn.LeakyReLU(LEAK, inplace=True) if kind == "leaky_relu" else nn.ReLU(inplace=True)


def max_pool(kernel: Sequence[int], stride: Sequence[int], *, padded: bool = False) -> nn.Module:
    """Return a max pooling whose grid is large enough for the image's last voxels, or that keeps the grid."""
    layer: Callable[..., nn.Module] = nn.MaxPool3d if len(kernel) == 3 else nn.MaxPool2d
    if padded:
        return layer(tuple(kernel), tuple(stride), padding=tuple(k // 2 for k in kernel))
    return layer(tuple(kernel), tuple(stride), ceil_mode=True)


def mean_pool(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Return means over regions of `stride` voxels; in the last region of a side it does not divide, a little more.

    PyTorch has no 3-D average pooling in bfloat16 on a CPU, but means over a number of regions, which ONNX has not.
    """
    if x.dtype != torch.bfloat16 and all(n % step == 0 for n, step in zip(x.shape[2:], stride, strict=True)):
        average: Callable[..., Tensor] = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
        return average(x, tuple(stride))
    sides = tuple(-(-n // step) for n, step in zip(x.shape[2:], stride, strict=True))
    pool: Callable[..., Tensor] = F.adaptive_avg_pool3d if x.ndim == 5 else F.adaptive_avg_pool2d
    return pool(x, sides)


def dropout(share: float) -> nn.Module:
    """Return dropout of single values, as the papers of the field have it; none at all passes through."""
    return nn.Dropout(share) if share else nn.Identity()


def transposed(
    features: int, out_features: int, *, stride: tuple[int, ...], kernel: tuple[int, ...] | None = None, bias: bool
) -> nn.Module:
    """Return a transposed convolution to a grid `stride` times as fine; its kernel is the stride unless given."""
    layer: Callable[..., nn.Module] = nn.ConvTranspose3d if len(stride) == 3 else nn.ConvTranspose2d
    kernel = kernel or stride
    padding = tuple((k - s) // 2 for k, s in zip(kernel, stride, strict=True))
    return layer(features, out_features, kernel, stride, padding=padding, bias=bias)


def bilinear_up(features: int, *, stride: tuple[int, ...]) -> nn.Module:
    """Return a learned deconvolution that begins as linear interpolation of each feature (Long 2015, section 3.3).

    Examples
    --------
    >>> row = torch.tensor([0.0, 0.0, 4.0, 4.0]).expand(1, 1, 4, 4)
    >>> bilinear_up(1, stride=(2, 2))(row)[0, 0, 4].tolist()
    [0.0, 0.0, 0.0, 1.0, 3.0, 4.0, 4.0, 3.0]
    """
    kernel = tuple(2 * s - s % 2 for s in stride)
    layer = transposed(features, features, stride=stride, kernel=kernel, bias=False)
    weight = cast("Tensor", layer.weight)
    with torch.no_grad():
        tent = torch.ones((), dtype=weight.dtype)
        for k, s in zip(kernel, stride, strict=True):
            centre = (k - 1) / 2
            tent = tent[..., None] * (1 - (torch.arange(k) - centre).abs() / s)
        weight.zero_()
        for feature in range(features):
            weight[feature, feature] = tent
    return layer


def cropped(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` without what lies beyond the grid of `like`: transposed convolutions overshoot odd sides."""
    for axis in range(2, x.ndim):
        x = x.narrow(axis, 0, like.shape[axis])
    return x


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` interpolated linearly onto the grid of `like`."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="trilinear" if x.ndim == 5 else "bilinear", align_corners=False)


def initialise(network: nn.Module, *, leak: float = 0.0) -> None:
    """Give all convolutions He's initial weights for a rectifier that leaks so much (He 2015, arXiv:1502.01852)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=leak)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
