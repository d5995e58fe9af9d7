"""Fully convolutional networks: the first that learned to segment from whole images to whole masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from medseg.networks.encoders import encoder
from medseg.networks.heads import WithAuxiliary, scores_head
from medseg.networks.layers import activation, bilinear_up, conv, cropped, dropout, initialise
from medseg.plan import ResNetSpec

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.plan import FCNSpec

_SKIPS = {"32s": 0, "16s": 1, "8s": 2}


def build_fcn(spec: FCNSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return the network on VGG as published, or its form on a ResNet."""
    return (FCNOnResNet if isinstance(spec.encoder, ResNetSpec) else FCN)(spec, in_channels, out_channels)


class FCN(nn.Module):
    """FCN-32s, -16s and -8s on VGG (Long 2015, arXiv:1411.4038; Shelhamer 2017, arXiv:1605.06211).

    The classifier's fully connected layers are convolutions (fc6, fc7) over the last pooling's map. Their scores are
    brought to the next finer pooling's grid by a learned deconvolution that begins as linear interpolation, and that
    map's own scores are added, which begin at zero (Long 2015, section 4.2); the last deconvolution returns to the
    image. Deconvolutions overshoot an odd side and are cut at its end; the paper pads the image by 100 and cuts.

    Parameters
    ----------
    spec : FCNSpec
        Encoder, variant and classifier.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> import torch
    >>> from medseg.plan import FCNSpec, VGGSpec, published_strides
    >>> vgg = VGGSpec(width=4, strides=published_strides(2))
    >>> spec = FCNSpec(dimensions=2, encoder=vgg, classifier_features=8)
    >>> FCN(spec, 1, 3).eval()(torch.zeros(1, 1, 70, 64)).shape
    torch.Size([1, 3, 70, 64])
    """

    def __init__(self, spec: FCNSpec, in_channels: int, out_channels: int) -> None:
        super().__init__()
        dims, wide = spec.dimensions, spec.classifier_features
        self.encoder = encoder(spec.encoder, in_channels)
        features = spec.encoder.out_channels
        one = (1,) * dims
        self.classifier = nn.Sequential(
            conv(features[-1], wide, kernel=(spec.classifier_kernel,) * dims, bias=True),
            activation(spec.encoder.activation),
            dropout(spec.dropout),
            conv(wide, wide, kernel=one, bias=True),
            activation(spec.encoder.activation),
            dropout(spec.dropout),
            conv(wide, out_channels, kernel=one, bias=True),
        )
        skips = _SKIPS[spec.variant]
        finer = [features[-2 - i] for i in range(skips)]
        self.scores = nn.ModuleList(conv(n, out_channels, kernel=one, bias=True) for n in finer)
        initialise(self)
        for score in self.scores:
            nn.init.zeros_(cast("nn.Conv2d", score).weight)
        rises = [*spec.encoder.strides[: -1 - skips : -1], spec.encoder.map_strides[-1 - skips]]
        self.ups = nn.ModuleList(bilinear_up(out_channels, stride=rise) for rise in rises)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial)."""
        maps = self.encoder(image)
        x = self.classifier(maps[-1])
        for up, score, finer in zip(self.ups, self.scores, maps[-2::-1], strict=False):
            x = cropped(up(x), finer) + score(finer)
        return cropped(self.ups[-1](x), image)


class FCNOnResNet(WithAuxiliary):
    """A dilated ResNet, one 3-wide convolution, scores, linear interpolation: FCN as torchvision has it.

    Parameters
    ----------
    spec : FCNSpec
        Encoder; in training with `auxiliary_weight`, scores of its last map but one come second.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> import torch
    >>> from medseg.plan import FCNSpec, ResNetSpec, published_strides
    >>> resnet = ResNetSpec(width=4, layers=18, strides=published_strides(2, 8), dilations=(1, 1, 2, 4))
    >>> FCNOnResNet(FCNSpec(dimensions=2, encoder=resnet), 1, 3).eval()(torch.zeros(1, 1, 33, 40)).shape
    torch.Size([1, 3, 33, 40])
    """

    def __init__(self, spec: FCNSpec, in_channels: int, out_channels: int) -> None:
        super().__init__(spec, in_channels)
        norm = spec.encoder.norm
        last = spec.encoder.out_channels[-1]
        self.classifier = scores_head(last, out_channels, dimensions=spec.dimensions, norm_kind=norm)
        self.finish(spec, out_channels)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial); in training, auxiliary ones behind."""
        *_, before, last = self.encoder(image)
        return self.answer(self.classifier(last), before, image)
