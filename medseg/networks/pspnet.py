"""PSPNet: what a region is depends on the scene, so means over a pyramid of regions are read beside each voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from medseg.networks.heads import PooledBranch, WithAuxiliary
from medseg.networks.layers import conv, dropout, unit

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.plan import PSPNetSpec


class PSPNet(WithAuxiliary):
    """PSPNet (Zhao 2017, arXiv:1612.01105): pyramid pooling on a dilated ResNet.

    The last map's means over 1, 2, 3 and 6 regions per axis are each brought to a quarter of its features,
    interpolated back, and put beside it; a 3-wide convolution and scores follow. In training, scores of the last map
    but one count beside them.

    Parameters
    ----------
    spec : PSPNetSpec
        Encoder and pyramid.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> from medseg.plan import PSPNetSpec, ResNetSpec, published_strides
    >>> resnet = ResNetSpec(width=4, layers=18, strides=published_strides(2, 8), dilations=(1, 1, 2, 4))
    >>> network = PSPNet(PSPNetSpec(dimensions=2, encoder=resnet, head_features=8), 1, 3)
    >>> network.eval()(torch.zeros(1, 1, 33, 40)).shape, len(network.train()(torch.zeros(2, 1, 33, 40)))
    (torch.Size([1, 3, 33, 40]), 2)
    """

    def __init__(self, spec: PSPNetSpec, in_channels: int, out_channels: int) -> None:
        super().__init__(spec, in_channels)
        dims, features = spec.dimensions, spec.head_features
        last = spec.encoder.out_channels[-1]
        each = max(1, last // len(spec.bins))
        self.pyramid = nn.ModuleList(PooledBranch(last, each, bins, dims, spec.encoder.norm) for bins in spec.bins)
        self.classifier = nn.Sequential(
            *unit(last + each * len(spec.bins), features, kernel=(3,) * dims, norm_kind=spec.encoder.norm),
            dropout(spec.dropout),
            conv(features, out_channels, kernel=(1,) * dims, bias=True),
        )
        self.finish(spec, out_channels)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial); in training, auxiliary ones behind."""
        *_, before, last = self.encoder(image)
        seen = torch.cat([last, *(branch(last) for branch in self.pyramid)], dim=1)
        return self.answer(self.classifier(seen), before, image)
