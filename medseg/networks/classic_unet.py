"""The U-Net as first published: in 2-D (Ronneberger 2015) and in 3-D (Cicek 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from medseg.networks.layers import conv, cropped, dropout, initialise, max_pool, norm, transposed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from medseg.plan import ClassicUNetSpec


class ClassicUNet(nn.Module):
    """Two 3-wide convolutions a level, max pooling down, transposed convolutions up, features of both ways joined.

    As Ronneberger 2015 (arXiv:1505.04597) has it, or, with `widens_early`, as Cicek 2016 (arXiv:1606.06650). With valid
    convolutions the image is mirrored at its edges by what they will take off, and the scores are cut to its grid: the
    paper's overlapping tiles, with mirrored context wherever a tile ends.

    Parameters
    ----------
    spec : ClassicUNetSpec
        Levels, full resolution first.
    in_channels, out_channels : int
        Channels of the image; classes, background included.

    Examples
    --------
    >>> from medseg.plan import ClassicUNetSpec
    >>> spec = ClassicUNetSpec(dimensions=2, features=(4, 8), strides=((2, 2),), padding="valid")
    >>> ClassicUNet(spec, 1, 2).eval()(torch.zeros(1, 1, 31, 40)).shape
    torch.Size([1, 2, 31, 40])
    """

    def __init__(self, spec: ClassicUNetSpec, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self._strides = spec.strides
        self._is_valid = spec.padding == "valid"
        inner = [f // 2 for f in spec.features] if spec.widens_early else list(spec.features)
        before = (in_channels, *spec.features[:-1])
        self.down = nn.ModuleList(
            _level(spec, n, middle, features) for n, middle, features in zip(before, inner, spec.features, strict=True)
        )
        self.pools = nn.ModuleList(max_pool(stride, stride) for stride in spec.strides)
        self.dropout = dropout(spec.dropout)
        ups, levels = [], []
        coarse = spec.features[-1]
        for fine, stride in zip(spec.features[-2::-1], spec.strides[::-1], strict=True):
            risen = coarse if spec.widens_early else fine
            ups.append(transposed(coarse, risen, stride=stride, bias=spec.norm == "none"))
            levels.append(_level(spec, risen + fine, fine, fine))
            coarse = fine
        self.ups, self.up = nn.ModuleList(ups), nn.ModuleList(levels)
        self.head = conv(coarse, out_channels, kernel=(1,) * spec.dimensions, bias=True)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial)."""
        if not self._is_valid:
            return self._scores(image)
        sides = [_valid_side(n, [s[axis] for s in self._strides]) for axis, n in enumerate(image.shape[2:])]
        margins = [(larger - n) // 2 for (larger, _), n in zip(sides, image.shape[2:], strict=True)]
        x = image
        for axis, ((larger, _), margin) in enumerate(zip(sides, margins, strict=True)):
            x = _mirrored(x, axis + 2, margin, larger - margin - image.shape[axis + 2])
        scores = self._scores(x)
        for axis, ((larger, smaller), margin) in enumerate(zip(sides, margins, strict=True)):
            scores = scores.narrow(axis + 2, margin - (larger - smaller) // 2, image.shape[axis + 2])
        return scores

    def _scores(self, image: Tensor) -> Tensor:
        """Return what the convolutions leave of the image's grid, scored."""
        skips: list[Tensor] = []
        x = image
        for level, pool in zip(self.down, [*self.pools, None], strict=True):
            x = level(x)
            skips.append(x)
            x = x if pool is None else pool(x)
        x = self.dropout(x)
        join = _centred if self._is_valid else _joined
        for up, level, skip in zip(self.ups, self.up, skips[-2::-1], strict=True):
            x = level(join(up(x), skip))
        return cast("Tensor", self.head(x))


def _level(spec: ClassicUNetSpec, before: int, middle: int, features: int) -> nn.Sequential:
    """Return two convolutions, each with its norm and ReLU."""
    layers: list[nn.Module] = []
    dims, bias = spec.dimensions, spec.norm == "none"
    for n, f in ((before, middle), (middle, features)):
        if spec.padding == "valid":
            valid: Callable[..., nn.Module] = nn.Conv3d if dims == 3 else nn.Conv2d
            layers.append(valid(n, f, 3, bias=bias))
        else:
            layers.append(conv(n, f, kernel=(3,) * dims, bias=bias))
        if spec.norm != "none":
            layers.append(norm(spec.norm, f, dimensions=dims))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat((skip, cropped(x, skip)), dim=1)


def _centred(x: Tensor, skip: Tensor) -> Tensor:
    """Return `x` beside the middle of `skip`, which valid convolutions left larger."""
    for axis in range(2, x.ndim):
        skip = skip.narrow(axis, (skip.shape[axis] - x.shape[axis]) // 2, x.shape[axis])
    return torch.cat((skip, x), dim=1)


def _valid_side(side: int, strides: Sequence[int]) -> tuple[int, int]:
    """Return the least side of an image whose scores cover `side` voxels, and the side of those scores.

    Every level takes off 4 voxels on each way, and every pooling must come out even (Ronneberger 2015, section 3).

    Examples
    --------
    >>> _valid_side(388, [2, 2, 2, 2])
    (572, 388)
    """
    coarsest = 1
    while True:
        larger = coarsest
        for stride in reversed(strides):  # from the coarsest level, before its convolutions, up to the image
            larger = (larger + 4) * stride
        larger += 4
        smaller = coarsest
        for stride in reversed(strides):
            smaller = smaller * stride - 4
        if smaller >= side and (larger - smaller) % 2 == 0:
            return larger, smaller
        coarsest += 1


def _mirrored(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Return `x` longer along one axis by its mirror images, as often as it takes."""
    n = x.shape[axis]
    places = torch.arange(-before, n + after, device=x.device)
    if n == 1:
        return x.index_select(axis, torch.zeros_like(places))
    places = places.remainder(2 * n - 2)
    return x.index_select(axis, torch.minimum(places, 2 * n - 2 - places))
