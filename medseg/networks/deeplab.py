"""DeepLab, four generations: atrous convolution keeps the grid fine, dilated branches see far."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from medseg.networks.encoders import encoder
from medseg.networks.heads import ASPP, WithAuxiliary
from medseg.networks.layers import activation, conv, dropout, initialise, resized, unit
from medseg.plan import ResNetSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from medseg.plan import DeepLabSpec

_FINE_MAP = 1  # the first row's: a quarter of the image's resolution where the encoder strides as published


def build_deeplab(spec: DeepLabSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return the generation the spec names."""
    match spec.version:
        case "v1" | "v2":
            return DeepLabV2(spec, in_channels, out_channels)
        case "v3":
            return DeepLabV3(spec, in_channels, out_channels)
        case "v3+":
            return DeepLabV3Plus(spec, in_channels, out_channels)


class DeepLabV2(nn.Module):
    """DeepLab v1 and v2: scores of one dilated classifier, or the sum of several (Chen 2015, 2018).

    On VGG a classifier is fc6, 3 wide and dilated, fc7 and fc8, 1 wide; v1 has one with a large field of view
    (arXiv:1412.7062), v2 has one per rate (ASPP; arXiv:1606.00915). On a ResNet it is one
    dilated convolution to scores. Scores are interpolated linearly to the image; the papers refine them by a fully
    connected CRF, which is `medseg.networks.crf`, after any network.

    Parameters
    ----------
    spec : DeepLabSpec
        Version ``v1`` or ``v2``.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> from medseg.plan import DeepLabSpec, VGGSpec, published_strides
    >>> vgg = VGGSpec(width=4, strides=published_strides(2, 8), dilations=(1, 1, 1, 1, 2))
    >>> spec = DeepLabSpec(dimensions=2, version="v1", encoder=vgg, rates=(12,), head_features=8)
    >>> DeepLabV2(spec, 1, 3).eval()(torch.zeros(1, 1, 33, 40)).shape
    torch.Size([1, 3, 33, 40])
    """

    def __init__(self, spec: DeepLabSpec, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.encoder = encoder(spec.encoder, in_channels)
        make = _direct_branch if isinstance(spec.encoder, ResNetSpec) else _classifier_branch
        self.branches = nn.ModuleList(make(spec, rate, out_channels) for rate in spec.rates)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial)."""
        last = self.encoder(image)[-1]
        return resized(_sum(branch(last) for branch in self.branches), image)


class DeepLabV3(WithAuxiliary):
    """DeepLab v3 (Chen 2017, arXiv:1706.05587): ASPP with image pooling on a dilated ResNet.

    One more 3-wide convolution stands between ASPP and scores, as in torchvision.

    Parameters
    ----------
    spec : DeepLabSpec
        Version ``v3``; in training with `auxiliary_weight`, scores of the last map but one come second.
    in_channels, out_channels : int
        Channels of the image; classes, background included.
    """

    def __init__(self, spec: DeepLabSpec, in_channels: int, out_channels: int) -> None:
        super().__init__(spec, in_channels)
        dims, features = spec.dimensions, spec.head_features
        last = spec.encoder.out_channels[-1]
        self.classifier = nn.Sequential(
            _aspp(spec, last),
            *unit(features, features, kernel=(3,) * dims, norm_kind=spec.encoder.norm),
            conv(features, out_channels, kernel=(1,) * dims, bias=True),
        )
        self.finish(spec, out_channels)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial); in training, auxiliary ones behind."""
        *_, before, last = self.encoder(image)
        return self.answer(self.classifier(last), before, image)


class DeepLabV3Plus(WithAuxiliary):
    """DeepLab v3+ (Chen 2018, arXiv:1802.02611): v3's pyramid, refined by a decoder that reads a fine map.

    The pyramid's features are interpolated to the grid of the first row's map, which is brought to few features and put
    beside them; two 3-wide convolutions, scores, and linear interpolation to the image follow.

    Parameters
    ----------
    spec : DeepLabSpec
        Version ``v3+``; in training with `auxiliary_weight`, scores of the last map but one come second.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> from medseg.plan import DeepLabSpec, ResNetSpec, published_strides
    >>> resnet = ResNetSpec(width=4, layers=18, strides=published_strides(2, 16), dilations=(1, 1, 1, 2))
    >>> spec = DeepLabSpec(dimensions=2, version="v3+", encoder=resnet, rates=(6, 12, 18), head_features=8)
    >>> DeepLabV3Plus(spec, 1, 3).eval()(torch.zeros(1, 1, 33, 40)).shape
    torch.Size([1, 3, 33, 40])
    """

    def __init__(self, spec: DeepLabSpec, in_channels: int, out_channels: int) -> None:
        super().__init__(spec, in_channels)
        dims, features, few = spec.dimensions, spec.head_features, spec.low_level_features
        last = spec.encoder.out_channels[-1]
        self.aspp = _aspp(spec, last)
        kind, fine = spec.encoder.norm, spec.encoder.out_channels[_FINE_MAP]
        self.low_level = unit(fine, few, kernel=(1,) * dims, norm_kind=kind)
        self.classifier = nn.Sequential(
            *unit(features + few, features, kernel=(3,) * dims, norm_kind=kind),
            *unit(features, features, kernel=(3,) * dims, norm_kind=kind),
            conv(features, out_channels, kernel=(1,) * dims, bias=True),
        )
        self.finish(spec, out_channels)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial); in training, auxiliary ones behind."""
        maps = self.encoder(image)
        fine = self.low_level(maps[_FINE_MAP])
        seen = torch.cat((resized(self.aspp(maps[-1]), fine), fine), dim=1)
        return self.answer(self.classifier(seen), maps[-2], image)


def _aspp(spec: DeepLabSpec, features: int) -> ASPP:
    return ASPP(
        features,
        spec.head_features,
        rates=spec.rates,
        dimensions=spec.dimensions,
        norm_kind=spec.encoder.norm,
        dropout_share=spec.dropout,
    )


def _classifier_branch(spec: DeepLabSpec, rate: int, out_channels: int) -> nn.Module:
    """Return fc6, fc7 and fc8 on VGG's last map."""
    dims, wide = spec.dimensions, spec.head_features
    one = (1,) * dims
    return nn.Sequential(
        conv(spec.encoder.out_channels[-1], wide, kernel=(3,) * dims, dilation=rate, bias=True),
        activation(spec.encoder.activation),
        dropout(spec.dropout),
        conv(wide, wide, kernel=one, bias=True),
        activation(spec.encoder.activation),
        dropout(spec.dropout),
        conv(wide, out_channels, kernel=one, bias=True),
    )


def _direct_branch(spec: DeepLabSpec, rate: int, out_channels: int) -> nn.Module:
    """Return one dilated convolution from a ResNet's last map to scores."""
    features = spec.encoder.out_channels[-1]
    return conv(features, out_channels, kernel=(3,) * spec.dimensions, dilation=rate, bias=True)


def _sum(scores: Iterable[Tensor]) -> Tensor:
    return cast("Tensor", sum(scores))
