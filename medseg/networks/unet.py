"""U-Net in two or three dimensions: an encoder, a decoder, and a bridge between them at every resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from medseg.networks.norm import InstanceNorm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from medseg.plan import UNetSpec

LEAK = 0.01


class UNet(nn.Module):
    """The plain convolutional U-Net, in the form nnU-Net gave it.

    A stage is a row of convolution, instance norm and leaky ReLU. Going down, the first convolution of a stage strides;
    going up, a transposed convolution of the same stride returns to the finer grid, where the encoder's features of
    that grid are put beside its output. (Ronneberger 2015, arXiv:1505.04597; Isensee 2021, Nature Methods 18:203.)

    Parameters
    ----------
    spec : UNetSpec
        Stages, full resolution first.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> from medseg.plan import UNetSpec
    >>> spec = UNetSpec(dimensions=2, features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)))
    >>> UNet(spec, 1, 3).eval()(torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(self, spec: UNetSpec, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.deep_supervision = spec.deep_supervision
        stages = list(zip(spec.features, spec.kernels, spec.strides, strict=True))
        before = (in_channels, *spec.features[:-1])
        self.encoder = nn.ModuleList(
            Stage(n, features, kernel=kernel, stride=stride, depth=spec.convs_per_stage)
            for n, (features, kernel, stride) in zip(before, stages, strict=True)
        )
        self.decoder = nn.ModuleList(
            UpStage(coarse, fine, kernel=kernel, stride=stride, depth=spec.convs_per_stage)
            for (coarse, _, stride), (fine, kernel, _) in zip(stages[:0:-1], stages[-2::-1], strict=True)
        )
        heads = spec.features[-2::-1] if spec.deep_supervision else spec.features[:1]
        self.heads = nn.ModuleList(conv(n, out_channels, kernel=(1,) * spec.dimensions, bias=True) for n in heads)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial).

        In training with deep supervision, one such tensor per decoder stage, full resolution first.
        """
        skips: list[Tensor] = []
        x = image
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        ups: list[Tensor] = []
        for stage, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = stage(x, skip)
            ups.append(x)
        if self.training and self.deep_supervision:
            return tuple(head(up) for head, up in zip(self.heads, ups, strict=True))[::-1]
        return cast("Tensor", self.heads[-1](x))


class Stage(nn.Sequential):
    """`depth` times convolution, instance norm, leaky ReLU; the first convolution strides."""

    def __init__(
        self, in_features: int, features: int, *, kernel: tuple[int, ...], stride: tuple[int, ...], depth: int
    ) -> None:
        layers: list[nn.Module] = []
        for i in range(depth):
            first = i == 0
            layers += [
                conv(in_features if first else features, features, kernel=kernel, stride=stride if first else 1),
                InstanceNorm(features),
                nn.LeakyReLU(LEAK, inplace=True),
            ]
        super().__init__(*layers)


class UpStage(nn.Module):
    """Go up to the finer grid by a transposed convolution, join the encoder's features, convolve."""

    def __init__(self, coarse: int, fine: int, *, kernel: tuple[int, ...], stride: tuple[int, ...], depth: int) -> None:
        super().__init__()
        transposed: Callable[..., nn.Module] = nn.ConvTranspose3d if len(stride) == 3 else nn.ConvTranspose2d
        self.up = transposed(coarse, fine, stride, stride)
        self.convs = Stage(2 * fine, fine, kernel=kernel, stride=(1,) * len(stride), depth=depth)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return features on the grid of `skip`."""
        return cast("Tensor", self.convs(torch.cat((self.up(x), skip), dim=1)))


def conv(
    in_features: int, features: int, *, kernel: tuple[int, ...], stride: tuple[int, ...] | int = 1, bias: bool = False
) -> nn.Module:
    """Return a 2-D or 3-D convolution that keeps the grid but for its stride; a norm after it makes a bias idle."""
    layer: Callable[..., nn.Module] = nn.Conv3d if len(kernel) == 3 else nn.Conv2d
    return layer(in_features, features, kernel, stride, padding=tuple(k // 2 for k in kernel), bias=bias)


def _initialise(module: nn.Module) -> None:
    """He initialisation for the leaky ReLU (He 2015, arXiv:1502.01852)."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=LEAK)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
