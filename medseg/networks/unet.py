"""U-Net in two or three dimensions: an encoder, a decoder, and a bridge between them at every resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from medseg.networks.layers import conv, cropped, initialise, mean_pool, transposed
from medseg.networks.norm import InstanceNorm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from medseg.plan import UNetSpec


class UNet(nn.Module):
    """The convolutional U-Net in the form nnU-Net gave it, with a plain or a residual encoder.

    A plain stage is a row of convolution, instance norm and leaky ReLU; a residual one a row of residual blocks. Going
    down, the first of a stage strides; going up, a transposed convolution of the same stride returns to the finer grid,
    where the encoder's features of that grid are put beside its output. (Ronneberger 2015, arXiv:1505.04597; Isensee
    2021, Nature Methods 18:203; residual encoders: Isensee 2024, arXiv:2404.09556.)

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
    >>> UNet(spec, 1, 3).eval()(torch.zeros(1, 1, 9, 8)).shape
    torch.Size([1, 3, 9, 8])
    """

    def __init__(self, spec: UNetSpec, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.deep_supervision = spec.deep_supervision
        stages = list(zip(spec.features, spec.kernels, spec.strides, strict=True))
        self.encoder = _residual_stages(spec, in_channels) if spec.residual_blocks else _stages(spec, in_channels)
        self.decoder = nn.ModuleList(
            UpStage(coarse, fine, kernel=kernel, stride=stride, layers=_Layers(spec, depth))
            for (coarse, _, stride), (fine, kernel, _), depth in zip(
                stages[:0:-1], stages[-2::-1], spec.convs_up, strict=True
            )
        )
        heads = spec.features[-2::-1] if spec.deep_supervision else spec.features[:1]
        self.heads = nn.ModuleList(conv(n, out_channels, kernel=(1,) * spec.dimensions, bias=True) for n in heads)
        initialise(self, leak=spec.leak)
        for block in self.modules():
            if isinstance(block, ResidualBlock):  # a block begins as its shortcut, so that deep rows train at once
                nn.init.zeros_(cast("nn.Parameter", block.convs[-1].weight))

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


@dataclass(frozen=True, slots=True)
class _Layers:
    """What the layers of a stage are: `depth` convolutions, with the norms and rectifiers the spec names."""

    spec: UNetSpec
    depth: int = 1

    def norm(self, features: int) -> nn.Module:
        """Return a norm with a scale and shift for each feature."""
        if self.spec.norm == "instance":
            return InstanceNorm(features, eps=self.spec.norm_eps)
        layer: Callable[..., nn.Module] = nn.BatchNorm3d if self.spec.dimensions == 3 else nn.BatchNorm2d
        return layer(features, eps=self.spec.norm_eps)

    def activation(self) -> nn.Module:
        """Return a rectifier."""
        return nn.LeakyReLU(self.spec.leak, inplace=True)


class Stage(nn.Sequential):
    """Some times convolution, norm, leaky ReLU; the first convolution strides."""

    def __init__(
        self, in_features: int, features: int, *, kernel: tuple[int, ...], stride: tuple[int, ...], layers: _Layers
    ) -> None:
        row: list[nn.Module] = []
        for i in range(layers.depth):
            first = i == 0
            row += [
                conv(in_features if first else features, features, kernel=kernel, stride=stride if first else 1),
                layers.norm(features),
                layers.activation(),
            ]
        super().__init__(*row)


class UpStage(nn.Module):
    """Go up to the finer grid by a transposed convolution, join the encoder's features, convolve."""

    def __init__(
        self, coarse: int, fine: int, *, kernel: tuple[int, ...], stride: tuple[int, ...], layers: _Layers
    ) -> None:
        super().__init__()
        self.up = transposed(coarse, fine, stride=stride, bias=True)
        self.convs = Stage(2 * fine, fine, kernel=kernel, stride=(1,) * len(stride), layers=layers)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return features on the grid of `skip`."""
        return cast("Tensor", self.convs(torch.cat((cropped(self.up(x), skip), skip), dim=1)))


class ResidualBlock(nn.Module):
    """Two convolutions with norms, added to what came in; where it strides, that is averaged first.

    The averaging shortcut is that of ResNet-D (He 2019, arXiv:1812.01187), which nnU-Net's residual encoders have.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...] | None,
        layers: _Layers,
    ) -> None:
        super().__init__()
        self.stride = stride if stride and max(stride) > 1 else None
        self.convs = nn.Sequential(
            conv(in_features, features, kernel=kernel, stride=stride or 1),
            layers.norm(features),
            layers.activation(),
            conv(features, features, kernel=kernel),
            layers.norm(features),
        )
        self.shortcut = (
            nn.Identity()
            if in_features == features
            else nn.Sequential(conv(in_features, features, kernel=(1,) * len(kernel)), layers.norm(features))
        )
        self.last = layers.activation()

    def forward(self, x: Tensor) -> Tensor:
        """Return features on the grid the stride leads to."""
        short = mean_pool(x, self.stride) if self.stride else x
        return cast("Tensor", self.last(self.convs(x) + self.shortcut(short)))


def _stages(spec: UNetSpec, in_channels: int) -> nn.ModuleList:
    """Return the stages of a plain encoder."""
    before = (in_channels, *spec.features[:-1])
    rows = zip(before, spec.features, spec.kernels, spec.strides, spec.convs_down, strict=True)
    return nn.ModuleList(
        Stage(n, features, kernel=kernel, stride=stride, layers=_Layers(spec, depth))
        for n, features, kernel, stride, depth in rows
    )


def _residual_stages(spec: UNetSpec, in_channels: int) -> nn.ModuleList:
    """Return the stages of a residual encoder; one convolution stands before the first."""
    stages: list[nn.Module] = []
    before = spec.features[0]
    for features, kernel, stride, blocks in zip(
        spec.features, spec.kernels, spec.strides, spec.residual_blocks, strict=True
    ):
        row: list[nn.Module] = []
        if not stages:
            row.append(Stage(in_channels, before, kernel=kernel, stride=stride, layers=_Layers(spec)))
        for i in range(blocks):
            n, step = (features, None) if i else (before, stride)
            row.append(ResidualBlock(n, features, kernel=kernel, stride=step, layers=_Layers(spec)))
        stages.append(nn.Sequential(*row))
        before = features
    return nn.ModuleList(stages)
