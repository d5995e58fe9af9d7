"""Encoders: VGG and dilated ResNets in two or three dimensions, under one contract.

An encoder takes an image (N, C, *spatial) and returns feature maps, finest first. Its spec says beforehand how many
features each has (`out_channels`) and how far its voxels lie apart (`map_strides`). A decoder asks for nothing else.
Names of weights are torchvision's, so that what was learned there on pictures can be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from medseg.networks.layers import activation, conv, max_pool, norm
from medseg.plan.encoder import ResNetSpec, VGGSpec

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.plan.encoder import EncoderSpec

_VGG_ROWS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def encoder(spec: EncoderSpec, in_channels: int) -> VGG | ResNet:
    """Return the encoder a spec describes, with torch's default weights.

    Examples
    --------
    >>> import torch
    >>> from medseg.plan import VGGSpec, published_strides
    >>> maps = encoder(VGGSpec(width=4, strides=published_strides(2)), 1)(torch.zeros(1, 1, 64, 64))
    >>> [tuple(m.shape[1:]) for m in maps]
    [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4), (32, 2, 2)]
    """
    match spec:
        case VGGSpec():
            return VGG(spec, in_channels)
        case ResNetSpec():
            return ResNet(spec, in_channels)


class VGG(nn.Module):
    """VGG-16 or -19 without its classifier; a map after each pooling. See `medseg.plan.VGGSpec`."""

    def __init__(self, spec: VGGSpec, in_channels: int) -> None:
        super().__init__()
        dims = spec.dimensions
        layers: list[nn.Module] = []
        ends: list[int] = []
        before = in_channels
        for row, features in enumerate(spec.out_channels):
            for _ in range(_VGG_ROWS[spec.layers][row]):
                layers.append(conv(before, features, kernel=(3,) * dims, dilation=spec.dilations[row], bias=True))
                if spec.norm != "none":
                    layers.append(norm(spec.norm, features, dimensions=dims))
                layers.append(activation(spec.activation))
                before = features
            layers.append(_vgg_pool(spec, row))
            ends.append(len(layers))
        self.features = nn.Sequential(*layers)
        self._ends = frozenset(ends)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return five maps of an image."""
        maps: list[Tensor] = []
        x = image
        for number, layer in enumerate(self.features, start=1):
            x = layer(x)
            if number in self._ends:
                maps.append(x)
        return maps


def _vgg_pool(spec: VGGSpec, row: int) -> nn.Module:
    """Return the pooling behind a row: one with stride 1 stays where the rows behind it are dilated."""
    stride = spec.strides[row]
    if max(stride) > 1:
        return max_pool(stride, stride)
    is_dilated = max(spec.dilations[row:]) > 1
    return max_pool((3,) * spec.dimensions, stride, padded=True) if is_dilated else nn.Identity()


class ResNet(nn.Module):
    """ResNet without its classifier; a map from the stem and from each row. See `medseg.plan.ResNetSpec`."""

    def __init__(self, spec: ResNetSpec, in_channels: int) -> None:
        super().__init__()
        dims = spec.dimensions
        stem_features = spec.out_channels[0]
        self.conv1 = _stem(spec, in_channels)
        self.bn1 = norm(spec.norm, stem_features, dimensions=dims)
        self.relu = activation(spec.activation)
        pool = spec.strides[1]
        window = tuple(3 if step > 1 else 1 for step in pool)
        self.maxpool = max_pool(window, pool, padded=True) if max(pool) > 1 else nn.Identity()
        before = stem_features
        rows: list[nn.Sequential] = []
        for row in range(4):
            rows.append(_row(spec, row, before))
            before = spec.out_channels[row + 1]
        self.layer1, self.layer2, self.layer3, self.layer4 = rows

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return five maps of an image."""
        maps = [self.relu(self.bn1(self.conv1(image)))]
        x = self.maxpool(maps[0])
        for row in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = row(x)
            maps.append(x)
        return maps


def _stem(spec: ResNetSpec, in_channels: int) -> nn.Module:
    """Return what stands before the first norm: one convolution, or three with norms between them."""
    dims, stride, width = spec.dimensions, spec.strides[0], spec.width
    match spec.stem:
        case "published":
            return conv(in_channels, width, kernel=(7,) * dims, stride=stride)
        case "plain":
            return conv(in_channels, width, kernel=(3,) * dims, stride=stride)
        case "deep":
            return nn.Sequential(
                conv(in_channels, width, kernel=(3,) * dims, stride=stride),
                norm(spec.norm, width, dimensions=dims),
                activation(spec.activation),
                conv(width, width, kernel=(3,) * dims),
                norm(spec.norm, width, dimensions=dims),
                activation(spec.activation),
                conv(width, 2 * width, kernel=(3,) * dims),
            )


def _row(spec: ResNetSpec, row: int, before: int) -> nn.Sequential:
    """Return one row of residual blocks."""
    stride = spec.strides[row + 1] if row else (1,) * spec.dimensions
    dilations = _dilations(spec, row)
    block = Bottleneck if spec.expansion > 1 else BasicBlock
    features = spec.width * 2**row
    blocks: list[nn.Module] = []
    for i, dilation in enumerate(dilations):
        first = i == 0
        blocks.append(
            block(
                before if first else features * spec.expansion,
                features,
                spec=spec,
                stride=stride if first else (1,) * spec.dimensions,
                dilation=dilation,
            )
        )
    return nn.Sequential(*blocks)


def _dilations(spec: ResNetSpec, row: int) -> list[tuple[int, int]]:
    """Return for every block of a row the dilation of its striding convolution, and of those behind it.

    The first block's striding one reads the row before, whose grid it may keep: it sees what it saw, and what is behind
    it sees what it would have seen on the coarser grid.
    """
    own, count = spec.dilations[row], spec.blocks[row]
    if row == 3 and spec.multi_grid:
        return [(own * times, own * times) for times in spec.multi_grid]
    return [(spec.dilations[max(0, row - 1)], own), *[(own, own)] * (count - 1)]


class BasicBlock(nn.Module):
    """Two 3-wide convolutions, added to what came in."""

    def __init__(
        self, before: int, features: int, *, spec: ResNetSpec, stride: tuple[int, ...], dilation: tuple[int, int]
    ) -> None:
        super().__init__()
        dims = spec.dimensions
        kernel = (3,) * dims
        self.conv1 = conv(before, features, kernel=kernel, stride=stride, dilation=dilation[0])
        self.bn1 = norm(spec.norm, features, dimensions=dims)
        self.conv2 = conv(features, features, kernel=kernel, dilation=dilation[1])
        self.bn2 = norm(spec.norm, features, dimensions=dims)
        self.relu = activation(spec.activation)
        self.downsample = _shortcut(before, features, spec=spec, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return features on the grid the stride leads to."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        out: Tensor = self.relu(y)
        return out


class Bottleneck(nn.Module):
    """A 1-wide, a 3-wide and a 1-wide convolution, added to what came in."""

    def __init__(
        self, before: int, features: int, *, spec: ResNetSpec, stride: tuple[int, ...], dilation: tuple[int, int]
    ) -> None:
        super().__init__()
        dims, wide = spec.dimensions, features * spec.expansion
        one, three = (1,) * dims, (3,) * dims
        self.conv1 = conv(before, features, kernel=one)
        self.bn1 = norm(spec.norm, features, dimensions=dims)
        self.conv2 = conv(features, features, kernel=three, stride=stride, dilation=dilation[0])
        self.bn2 = norm(spec.norm, features, dimensions=dims)
        self.conv3 = conv(features, wide, kernel=one)
        self.bn3 = norm(spec.norm, wide, dimensions=dims)
        self.relu = activation(spec.activation)
        self.downsample = _shortcut(before, wide, spec=spec, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return features on the grid the stride leads to."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        out: Tensor = self.relu(y)
        return out


def _shortcut(before: int, features: int, *, spec: ResNetSpec, stride: tuple[int, ...]) -> nn.Module | None:
    """Return the projection of what came in; None where it is added as it is."""
    if before == features and max(stride) == 1:
        return None
    projection = conv(before, features, kernel=(1,) * spec.dimensions, stride=stride)
    return nn.Sequential(projection, norm(spec.norm, features, dimensions=spec.dimensions))
