"""Networks that MONAI builds, brought to our contract: logits on the image's grid, finest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from monai.networks.nets.mednext import MedNeXt as MonaiMedNeXt
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn
from torch.nn import functional as F

from medseg.plan import MedNeXtSpec, SegResNetSpec, SwinUNETRSpec

if TYPE_CHECKING:
    from torch import Tensor


class _Size(NamedTuple):
    """Blocks and how much they expand: on the way down, at the bottom, on the way up."""

    down: tuple[int, ...]
    bottom: int
    up: tuple[int, ...]
    expand_down: tuple[int, ...]
    expand_bottom: int
    expand_up: tuple[int, ...]


_MEDNEXT = {  # Roy 2023, table 1
    "S": _Size((2, 2, 2, 2), 2, (2, 2, 2, 2), (2, 2, 2, 2), 2, (2, 2, 2, 2)),
    "B": _Size((2, 2, 2, 2), 2, (2, 2, 2, 2), (2, 3, 4, 4), 4, (4, 4, 3, 2)),
    "M": _Size((3, 4, 4, 4), 4, (4, 4, 4, 3), (2, 3, 4, 4), 4, (4, 4, 3, 2)),
    "L": _Size((3, 4, 8, 8), 8, (8, 8, 4, 3), (3, 4, 8, 8), 8, (8, 8, 4, 3)),
}


class FromMonai(nn.Module):
    """A network of MONAI behind our contract.

    The image is padded with zeros at its ends to what the network's strides divide, and the logits are cut back. In
    training, what the network supervises deeply comes behind the logits.

    Parameters
    ----------
    network : nn.Module
        Logits, or a list of them, of an image whose sides `divisor` divides.
    divisor : tuple of int
        Per axis.
    """

    def __init__(self, network: nn.Module, divisor: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self._divisor = divisor

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, *spatial) of an `image` (N, C, *spatial)."""
        short = [-n % d for n, d in zip(image.shape[2:], self._divisor, strict=True)]
        if any(short):
            ends = [pad for missing in reversed(short) for pad in (0, missing)]
            out = self.network(F.pad(image, ends))
        else:
            out = self.network(image)
        rows = out if isinstance(out, (list, tuple)) else (out,)
        if not self.training:
            rows = rows[:1]
        sides = [[-(-n // (p // r)) for n, p, r in _sides(image, short, row)] for row in rows]
        cut = [_cut(row, side) for row, side in zip(rows, sides, strict=True)]
        return tuple(cut) if self.training and len(cut) > 1 else cut[0]


def _sides(image: Tensor, short: list[int], row: Tensor) -> list[tuple[int, int, int]]:
    """Return per axis the image's side, its padded side, and the side of a row of logits."""
    return [(n, n + s, r) for n, s, r in zip(image.shape[2:], short, row.shape[2:], strict=True)]


def _cut(row: Tensor, sides: list[int]) -> Tensor:
    for axis, side in enumerate(sides):
        row = row.narrow(axis + 2, 0, side)
    return row


def build_monai(spec: SegResNetSpec | SwinUNETRSpec | MedNeXtSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return the network of MONAI a spec describes."""
    with torch.device("cpu"):  # Swin UNETR cannot be made without memory
        network = _made(spec, in_channels, out_channels)
    return FromMonai(network, spec.divisor)


def _made(spec: SegResNetSpec | SwinUNETRSpec | MedNeXtSpec, in_channels: int, out_channels: int) -> nn.Module:
    match spec:
        case SegResNetSpec():
            return _segresnet(spec, in_channels, out_channels)
        case SwinUNETRSpec():
            return _swin_unetr(spec, in_channels, out_channels)
        case MedNeXtSpec():
            return _mednext(spec, in_channels, out_channels)


def _segresnet(spec: SegResNetSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return MONAI's SegResNet (Myronenko 2018, arXiv:1810.11654)."""
    network = SegResNet(
        spatial_dims=spec.dimensions,
        init_filters=spec.width,
        in_channels=in_channels,
        out_channels=out_channels,
        dropout_prob=spec.dropout or None,
        blocks_down=spec.blocks_down,
        blocks_up=spec.blocks_up,
    )
    return cast("nn.Module", network)


def _swin_unetr(spec: SwinUNETRSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return MONAI's Swin UNETR (Hatamizadeh 2022, arXiv:2201.01266)."""
    network = SwinUNETR(
        spatial_dims=spec.dimensions,
        in_channels=in_channels,
        out_channels=out_channels,
        feature_size=spec.features,
        depths=spec.depths,
        num_heads=spec.heads,
        drop_rate=spec.dropout,
    )
    return cast("nn.Module", network)


def _mednext(spec: MedNeXtSpec, in_channels: int, out_channels: int) -> nn.Module:
    """Return MONAI's MedNeXt (Roy 2023, arXiv:2303.09975) in one of the paper's sizes."""
    size = _MEDNEXT[spec.size]
    network = MonaiMedNeXt(
        spatial_dims=spec.dimensions,
        init_filters=spec.width,
        in_channels=in_channels,
        out_channels=out_channels,
        encoder_expansion_ratio=size.expand_down,
        decoder_expansion_ratio=size.expand_up,
        bottleneck_expansion_ratio=size.expand_bottom,
        kernel_size=spec.kernel,
        deep_supervision=spec.deep_supervision,
        use_residual_connection=True,
        blocks_down=size.down,
        blocks_bottleneck=size.bottom,
        blocks_up=size.up,
    )
    return cast("nn.Module", network)
