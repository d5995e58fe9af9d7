"""Starting a 3-D network from 2-D weights: what is constant along the new axis looks as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F

from medseg.errors import InputError
from medseg.plan import (
    published_strides,
)
from medseg.training.initial.adapt import inflated
from tests.training.initial_stand_ins import an_image, drawn, fcn, network_of, resnet, saved, started, torchvisions
from tests.training.stand_ins import plan_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("through", [1, 2])
def test_an_inflated_encoder_sees_in_a_constant_volume_what_it_saw_in_the_slice(through: int, tmp_path: Path) -> None:
    strides = [(1, y, x) for y, x in published_strides(2, 8)]
    flat, deep = resnet(), resnet(3, strides=[(through, *strides[0][1:]), *strides[1:]])
    origin = plan_of(fcn(flat), channels=("a", "b", "c"))
    state = drawn(origin)
    path = saved(torchvisions(state), tmp_path / "resnet18.pth")
    plan = plan_of(fcn(deep), channels=("a", "b", "c"))
    with pytest.raises(InputError, match=r"2-D network.*--inflate"):
        started(plan, path)
    initial = started(plan, path, inflate=True)
    slice_ = an_image(3, 24, 32).double()
    sides = 121 * through  # beyond what the middle sees, dilated rows included
    with torch.no_grad():
        expected = network_of(origin, state).double().encoder(slice_)
        found = network_of(plan, initial.weights).double().encoder(slice_[:, :, None].expand(-1, -1, sides, -1, -1))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours[:, :, ours.shape[2] // 2], theirs, rtol=1e-4, atol=1e-5)
    assert all("inflated" in way for way in initial.report.adapted.values())
    assert "encoder.layer4.1.conv2.weight" in initial.report.adapted


@pytest.mark.parametrize(("length", "stride"), [(2, 2), (4, 2), (6, 3)])
def test_an_inflated_transposed_kernel_keeps_a_constant_volume_constant(length: int, stride: int) -> None:
    weight, image = torch.randn(2, 3, length, length), an_image(2, 5, 6)
    expected = F.conv_transpose2d(image, weight, stride=stride)
    volume = image[:, :, None].expand(-1, -1, 9, -1, -1)
    found = F.conv_transpose3d(volume, inflated(weight, length, stride=stride), stride=stride)
    middle = found[:, :, length:-length]
    torch.testing.assert_close(middle, expected[:, :, None].expand_as(middle), rtol=1e-4, atol=1e-5)
