"""Encoders keep their contract, and equal MONAI's where it has the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import resnet as monai_resnet
from torch import nn

from medseg.networks.encoders import encoder
from medseg.networks.heads import MeanOfRegions
from medseg.networks.layers import bilinear_up, mean_pool
from medseg.plan import EncoderSpec, ResNetSpec, dilations_for, published_strides
from tests.networks.specs import resnet, vgg

SPECS: list[EncoderSpec] = [
    vgg(2, width=2),
    vgg(3, width=2, layers=19, norm="batch"),
    vgg(2, 8, width=2),
    resnet(2, 32, width=2),
    resnet(3, 8, width=2, layers=18, norm="instance"),
    resnet(2, 16, width=2, layers=34, stem="deep", norm="none"),
    resnet(3, 4, width=2, layers=18, stem="plain", norm="group"),
    ResNetSpec(width=2, layers=18, strides=((1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1))),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.name} {s.dimensions}-D {s.divisor}")
def test_maps_are_as_the_spec_says(spec: EncoderSpec) -> None:
    sides = tuple(2 * d for d in spec.divisor)
    maps = encoder(spec, 2).eval()(torch.zeros(1, 2, *sides))
    assert tuple(m.shape[1] for m in maps) == spec.out_channels
    for m, strides in zip(maps, spec.map_strides, strict=True):
        assert tuple(m.shape[2:]) == tuple(n // s for n, s in zip(sides, strides, strict=True))


@pytest.mark.parametrize(("dimensions", "layers"), [(2, 18), (2, 50), (3, 34), (3, 101)])
def test_equals_the_resnet_of_monai(dimensions: Any, layers: Any) -> None:
    ours = encoder(resnet(dimensions, 32, layers=layers, width=64), 1).eval()
    maker = getattr(monai_resnet, f"resnet{layers}")
    theirs = maker(
        spatial_dims=dimensions, n_input_channels=1, conv1_t_size=7, conv1_t_stride=2, feed_forward=False,
        bias_downsample=False,
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    seen: list[torch.Tensor] = []
    theirs.layer4.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    image = torch.randn(1, 1, *((65, 50) if dimensions == 2 else (33, 34, 40)))
    with torch.no_grad():
        theirs(image)
        torch.testing.assert_close(ours(image)[-1], seen[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [18, 50])
def test_dilation_keeps_what_each_weight_sees(layers: int) -> None:
    """Where the coarse network has a voxel, the dilated one, given the same weights, sees the same (Chen 2015)."""
    shared = {"layers": layers, "width": 4, "norm": "none"}
    coarse, fine = encoder(resnet(2, 32, **shared), 1), encoder(resnet(2, 8, **shared), 1)
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(fine(image)[-1][..., ::4, ::4], coarse(image)[-1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "stride", "dilations"),
    [
        ("resnet", 32, (1, 1, 1, 1)),
        ("resnet", 16, (1, 1, 1, 2)),
        ("resnet", 8, (1, 1, 2, 4)),
        ("vgg", 32, (1, 1, 1, 1, 1)),
        ("vgg", 8, (1, 1, 1, 1, 2)),
    ],
)
def test_dilations_are_the_published_ones(kind: Any, stride: int, dilations: tuple[int, ...]) -> None:
    assert dilations_for(published_strides(2, stride), kind=kind) == dilations


def test_slots_left_out_ahead_ask_for_no_dilation() -> None:
    one, two = (1, 1), (2, 2)
    assert dilations_for((one, two, two, two, one), kind="resnet") == (1, 1, 1, 2)
    assert dilations_for((two, one, one, one, one), kind="resnet", at_most=2) == (1, 2, 2, 2)


@pytest.mark.parametrize("stride", [(2, 2), (1, 4), (2, 2, 2), (1, 2, 8)])
def test_a_deconvolution_begins_as_linear_interpolation(stride: tuple[int, ...]) -> None:
    image = torch.rand(1, 2, *(6,) * len(stride))
    up = bilinear_up(2, stride=stride)
    mode = "trilinear" if len(stride) == 3 else "bilinear"
    expected = nn.functional.interpolate(image, scale_factor=[float(s) for s in stride], mode=mode, align_corners=False)
    inner = tuple(slice(s, n - s) for s, n in zip(stride, expected.shape[2:], strict=True))
    with torch.no_grad():
        torch.testing.assert_close(up(image)[:, :, *inner], expected[:, :, *inner], rtol=1e-4, atol=1e-5)


def test_means_of_regions() -> None:
    image = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert MeanOfRegions(1)(image).item() == image.mean()
    torch.testing.assert_close(MeanOfRegions(3)(image), nn.functional.avg_pool2d(image, 2))
    for bins in (2, 4, 5):  # regions of several sizes, which share voxels
        torch.testing.assert_close(MeanOfRegions(bins)(image), nn.functional.adaptive_avg_pool2d(image, bins))
    volume = torch.rand(2, 3, 5, 7, 4)
    torch.testing.assert_close(MeanOfRegions(3)(volume), nn.functional.adaptive_avg_pool3d(volume, 3))
    torch.testing.assert_close(mean_pool(image, (2, 3)), nn.functional.avg_pool2d(image, (2, 3)))
    assert mean_pool(image[..., :5], (2, 2)).shape[2:] == (3, 3)
