from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medseg.networks import InstanceNorm, memory_format


def _pair(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[InstanceNorm, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    norm = InstanceNorm(shape[1])
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=generator)
        norm.bias.uniform_(-0.5, 0.5, generator=generator)
    x = (torch.randn(shape, generator=generator) * 3 + 5).to(dtype)
    return norm, x


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 5, 4, 6, 2), (3, 16, 4, 4, 4)])
def test_forward_and_backward_equal_torch(shape: tuple[int, ...], channels_last: bool) -> None:
    norm, x = _pair(shape, torch.float32)
    layout = memory_format(len(shape) - 2) if channels_last else torch.contiguous_format
    ours = x.contiguous(memory_format=layout).detach().requires_grad_()
    theirs = x.double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (norm.weight, norm.bias))
    y = norm(ours)
    expected = F.instance_norm(theirs, weight=weight, bias=bias, eps=norm.eps)
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    y.backward(upstream)
    expected.backward(upstream.double())
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.bias.grad.double(), bias.grad, rtol=1e-4, atol=1e-4)
    assert y.is_contiguous(memory_format=layout)


def test_gradient_is_that_of_the_forward_pass() -> None:
    norm = InstanceNorm(3).double()
    x = torch.randn(2, 3, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def forward(v: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (v,))

    assert torch.autograd.gradcheck(forward, (x, norm.weight, norm.bias))


def test_without_gradients_gives_the_same_numbers() -> None:
    norm, x = _pair((2, 4, 6, 5, 3), torch.float32)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        quick = norm(x)
    torch.testing.assert_close(quick, norm(x).detach(), rtol=1e-5, atol=1e-5)
    assert quick.is_contiguous(memory_format=torch.channels_last_3d)


def test_bfloat16_sums_in_float32() -> None:
    # 1/256 is lost when added to a bfloat16 sum of 1: sums in bfloat16 would be off by far more than one rounding.
    norm, x = _pair((1, 2, 16, 16, 16), torch.bfloat16)
    ours = x.clone().requires_grad_()
    theirs = x.double().requires_grad_()
    upstream = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    norm(ours).backward(upstream)
    expected = F.instance_norm(theirs, weight=norm.weight.detach().double(), eps=norm.eps)
    expected.backward(upstream.double())
    error = (ours.grad.double() - theirs.grad).norm() / theirs.grad.norm()
    assert error < 0.01
    torch.testing.assert_close(norm.bias.grad.double(), upstream.double().sum((0, 2, 3, 4)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 1, 1)])
def test_a_lone_voxel_becomes_the_shift(shape: tuple[int, ...]) -> None:
    norm, x = _pair(shape, torch.float32)
    for seen in (norm(x), norm.eval()(x)):
        torch.testing.assert_close(seen, norm.bias.detach().reshape(1, 3, *shape[2:]).expand(shape), check_stride=False)
