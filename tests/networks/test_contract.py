"""What every network promises, in 2-D and 3-D."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch import nn

from medseg.networks import build, memory_format, output_weights
from medseg.networks.cost import counted
from medseg.plan import MedNeXtSpec, NetworkSpec, SwinUNETRSpec
from tests.networks.specs import tiny, unet

CASES = [(dimensions, name) for dimensions in (2, 3) for name in tiny(dimensions)]
ODD = {2: (37, 50), 3: (17, 34, 19)}
EVEN = {2: (64, 64), 3: (32, 32, 32)}


def network(spec: NetworkSpec, channels: int = 2, classes: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(spec, channels, classes)


def image(sides: tuple[int, ...], channels: int = 2) -> torch.Tensor:
    return torch.randn(1, channels, *sides, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-D {case[1]}")
def spec(request: pytest.FixtureRequest) -> NetworkSpec:
    dimensions, name = request.param
    return tiny(dimensions)[name]


@torch.no_grad()
def test_logits_lie_on_the_grid_of_an_image_of_any_size(spec: NetworkSpec) -> None:
    for sides in (ODD[spec.dimensions], EVEN[spec.dimensions]):
        logits = network(spec).eval()(image(sides))
        assert logits.shape == (1, 3, *sides)
        assert logits.isfinite().all()


def test_every_weight_receives_a_gradient(spec: NetworkSpec) -> None:
    module = network(spec).train()
    for layer in module.modules():  # some begin at zero, so that what is behind them begins later
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    outputs = module(torch.cat([image(EVEN[spec.dimensions])] * 2))
    rows = outputs if isinstance(outputs, tuple) else (outputs,)
    assert len(rows) == len(output_weights(spec))
    sum(row.square().mean() for row in rows).backward()
    idle = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@torch.no_grad()
def test_supervised_outputs_are_there_in_training_only(spec: NetworkSpec) -> None:
    module = network(spec)
    shapes = [tuple(row.shape) for row in _rows(module.train()(torch.cat([image(EVEN[spec.dimensions])] * 2)))]
    assert shapes[0] == (2, 3, *EVEN[spec.dimensions])
    assert all(a >= b for a, b in itertools.pairwise(shapes))
    assert isinstance(module.eval()(image(EVEN[spec.dimensions])), torch.Tensor)


@torch.no_grad()
def test_bfloat16_agrees_with_float32(spec: NetworkSpec) -> None:
    module = network(spec).eval()
    seen = image(EVEN[spec.dimensions])
    expected = module(seen)
    layout = memory_format(spec.dimensions)
    logits = module.to(torch.bfloat16).to(memory_format=layout)(seen.bfloat16().contiguous(memory_format=layout))
    error = (logits.float() - expected).norm() / expected.norm()
    assert error < 0.05


@torch.no_grad()
def test_a_traced_network_gives_the_same_numbers(spec: NetworkSpec) -> None:
    module = network(spec).eval()
    seen = image(EVEN[spec.dimensions])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out, and many still run it
        traced = torch.jit.trace(module, seen, check_trace=False)
    torch.testing.assert_close(traced(2 * seen), module(2 * seen), rtol=1e-4, atol=1e-4)


def test_a_patch_of_the_divisor_is_not_padded(spec: NetworkSpec) -> None:
    assert all(side % d == 0 for side, d in zip(EVEN[spec.dimensions], spec.divisor, strict=True))


def test_counted_weights_are_those_there_are(spec: NetworkSpec) -> None:
    one = counted(spec, tuple(2 * d for d in spec.divisor), 2, 3)
    assert one.parameters == sum(p.numel() for p in network(spec).parameters())
    assert 0 < one.largest < one.kept


def test_weights_of_outputs() -> None:
    three = unet(2, (4, 4, 4, 4), deep_supervision=True)
    assert output_weights(three) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert output_weights(tiny(2)["pspnet"]) == (1.0, 0.4)
    assert output_weights(tiny(3)["fcn 8s"]) == (1.0,)
    assert sum(output_weights(MedNeXtSpec(dimensions=3, deep_supervision=True))) == pytest.approx(1)
    assert output_weights(SwinUNETRSpec(dimensions=2)) == (1.0,)


def _rows(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
