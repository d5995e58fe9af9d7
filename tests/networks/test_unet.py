from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from medseg.networks import build, memory_format
from medseg.plan import UNetSpec

FLAT_FIRST = UNetSpec(
    dimensions=3,
    features=(4, 6, 8),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
)
CUBIC = FLAT_FIRST.model_copy(update={"kernels": ((3, 3, 3),) * 3})
TWO_D = UNetSpec(dimensions=2, features=(4, 8, 8, 8), strides=((1, 1), *[(2, 2)] * 3), kernels=((3, 3),) * 4)


def _network(spec: UNetSpec, in_channels: int = 2, classes: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(spec, in_channels, classes)


@pytest.mark.parametrize(("spec", "spatial"), [(FLAT_FIRST, (2, 8, 4)), (TWO_D, (16, 24)), (FLAT_FIRST, (6, 12, 20))])
def test_logits_lie_on_the_grid_of_the_image(spec: UNetSpec, spatial: tuple[int, ...]) -> None:
    image = torch.zeros(2, 2, *spatial)
    assert _network(spec).eval()(image).shape == (2, 3, *spatial)


def test_deep_supervision_gives_one_output_per_decoder_stage_in_training_only() -> None:
    spec = FLAT_FIRST.model_copy(update={"deep_supervision": True})
    network = _network(spec)
    image = torch.randn(1, 2, 4, 8, 8)
    outputs = network(image)
    assert [tuple(o.shape) for o in outputs] == [(1, 3, 4, 8, 8), (1, 3, 4, 4, 4)]
    torch.testing.assert_close(network.eval()(image), outputs[0])


def test_every_parameter_receives_a_gradient() -> None:
    network = _network(FLAT_FIRST.model_copy(update={"deep_supervision": True}))
    sum(output.square().mean() for output in network(torch.randn(1, 2, 4, 8, 8))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_layout_does_not_change_the_numbers() -> None:
    network = _network(FLAT_FIRST).eval()
    image = torch.randn(1, 2, 4, 8, 8)
    expected = network(image)
    layout = memory_format(3)
    logits = network.to(memory_format=layout)(image.contiguous(memory_format=layout))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("spec", "spatial"), [(CUBIC, (4, 8, 8)), (TWO_D, (16, 16))])
def test_equals_the_dynunet_of_monai_given_the_same_weights(spec: UNetSpec, spatial: tuple[int, ...]) -> None:
    ours = _network(spec).eval()
    theirs = DynUNet(
        spec.dimensions,
        2,
        3,
        kernel_size=spec.kernels,
        strides=spec.strides,
        upsample_kernel_size=spec.strides[1:],
        filters=spec.features,
        norm_name=("INSTANCE", {"affine": True}),
        trans_bias=True,
    ).eval()
    blocks = [theirs.input_block, *theirs.downsamples, theirs.bottleneck]
    pairs = list(zip(ours.encoder, [(b.conv1.conv, b.norm1, b.conv2.conv, b.norm2) for b in blocks], strict=True))
    for stage, up in zip(ours.decoder, theirs.upsamples, strict=True):
        b = up.conv_block
        pairs += [([stage.up], (up.transp_conv.conv,)), (stage.convs, (b.conv1.conv, b.norm1, b.conv2.conv, b.norm2))]
    pairs.append((ours.heads, (theirs.output_block.conv.conv,)))
    for mine, reference in pairs:
        learnt = [module for module in mine if list(module.parameters())]
        for source, target in zip(learnt, reference, strict=True):
            target.load_state_dict(source.state_dict())
    count = sum(p.numel() for p in ours.parameters())
    assert count == sum(p.numel() for p in theirs.parameters())
    image = torch.randn(2, 2, *spatial, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-4)


def test_initial_weights_follow_the_seed() -> None:
    first, second = (_network(FLAT_FIRST).state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
