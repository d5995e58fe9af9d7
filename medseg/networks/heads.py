"""What several networks end in: from features to scores, and several fields of view beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from medseg.networks.encoders import encoder
from medseg.networks.layers import conv, dropout, initialise, norm_of_few, resized, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.plan import DeepLabSpec, FCNSpec, PSPNetSpec
    from medseg.plan.encoder import Norm

_AUXILIARY_DROPOUT = 0.1


def scores_head(features: int, out_channels: int, *, dimensions: int, norm_kind: Norm) -> nn.Sequential:
    """Return a 3-wide convolution to a quarter of the features, and scores: torchvision's `FCNHead`.

    Also what auxiliary scores are taken by.
    """
    inner = max(1, features // 4)
    return nn.Sequential(
        *unit(features, inner, kernel=(3,) * dimensions, norm_kind=norm_kind),
        dropout(_AUXILIARY_DROPOUT),
        conv(inner, out_channels, kernel=(1,) * dimensions, bias=True),
    )


class WithAuxiliary(nn.Module):
    """A network on an encoder whose last map but one is scored, too, in training (Zhao 2017, arXiv:1612.01105).

    Parameters
    ----------
    spec : FCNSpec, DeepLabSpec or PSPNetSpec
        Encoder, and how much the auxiliary scores count; with a weight of 0 there are none.
    in_channels : int
        Channels of the image.
    """

    def __init__(self, spec: FCNSpec | DeepLabSpec | PSPNetSpec, in_channels: int) -> None:
        super().__init__()
        self.encoder = encoder(spec.encoder, in_channels)

    def finish(self, spec: FCNSpec | DeepLabSpec | PSPNetSpec, out_channels: int) -> None:
        """Add the auxiliary scores behind all other layers, and draw initial weights."""
        encoder_spec = spec.encoder
        before = encoder_spec.out_channels[-2]
        self.auxiliary = (
            scores_head(before, out_channels, dimensions=spec.dimensions, norm_kind=encoder_spec.norm)
            if spec.auxiliary_weight
            else None
        )
        initialise(self)

    def answer(self, scores: Tensor, before: Tensor, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return scores on the image's grid; in training, those of the map `before` behind them."""
        logits = resized(scores, image)
        if self.training and self.auxiliary is not None:
            return logits, resized(self.auxiliary(before), image)
        return logits


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with the image's mean beside it (Chen 2017, arXiv:1706.05587, section 3.3).

    A 1-wide convolution, dilated 3-wide ones, and the mean over the whole map are put beside each other and brought to
    `out_features`. Modules are named and ordered as in torchvision.

    Parameters
    ----------
    features, out_features : int
        Of the map that comes in; of each branch and of the result.
    rates : sequence of int
        Dilation of each 3-wide convolution.
    dimensions : int
        2 or 3.
    norm_kind : str
        Behind every convolution; see `medseg.networks.layers.norm_of_few` for that of the mean.
    dropout_share : float
        Behind the last rectifier.
    """

    def __init__(
        self,
        features: int,
        out_features: int,
        *,
        rates: Sequence[int],
        dimensions: int,
        norm_kind: Norm,
        dropout_share: float,
    ) -> None:
        super().__init__()
        one, three = (1,) * dimensions, (3,) * dimensions
        branches = [unit(features, out_features, kernel=one, norm_kind=norm_kind)]
        branches += [unit(features, out_features, kernel=three, norm_kind=norm_kind, dilation=rate) for rate in rates]
        self.convs = nn.ModuleList([*branches, PooledBranch(features, out_features, 1, dimensions, norm_kind)])
        self.project = nn.Sequential(
            *unit(len(self.convs) * out_features, out_features, kernel=one, norm_kind=norm_kind),
            dropout(dropout_share),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `out_features` on the grid of `x`."""
        out: Tensor = self.project(torch.cat([branch(x) for branch in self.convs], dim=1))
        return out


class PooledBranch(nn.Sequential):
    """Means over `bins` regions per axis, a 1-wide convolution, and linear interpolation back (Zhao 2017).

    With one bin this is the image pooling of DeepLab v3.
    """

    def __init__(self, features: int, out_features: int, bins: int, dimensions: int, norm_kind: Norm) -> None:
        super().__init__(
            MeanOfRegions(bins),
            conv(features, out_features, kernel=(1,) * dimensions),
            norm_of_few(norm_kind, out_features, dimensions=dimensions),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `out_features` on the grid of `x`."""
        y = x
        for layer in self:
            y = layer(y)
        return resized(y, x)


class MeanOfRegions(nn.Module):
    """The mean over each of `bins` regions per axis, by a matrix per axis.

    The regions are those of PyTorch's adaptive pooling, which ONNX cannot hold where they differ in size.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """Return means (N, C, bins, bins[, bins])."""
        if self.bins == 1:
            return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        for axis in range(2, x.ndim):
            x = (x.movedim(axis, -1) @ _shares(x.shape[axis], self.bins).to(x)).movedim(-1, axis)
        return x

    def extra_repr(self) -> str:
        """Say how many regions there are."""
        return f"{self.bins}"


def _shares(side: int, bins: int) -> Tensor:
    """Return how much each of `side` voxels counts in the mean of each region, (side, bins).

    Examples
    --------
    >>> _shares(3, 2).T.tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    shares = torch.zeros(side, bins)
    for region in range(bins):
        first, last = region * side // bins, -(-(region + 1) * side // bins)
        shares[first:last, region] = 1 / (last - first)
    return shares
