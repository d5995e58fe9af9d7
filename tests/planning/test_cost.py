from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from medseg.networks.unet import UNet
from medseg.plan import UNetSpec
from medseg.planning import network_cost

SPECS = {
    "3d": UNetSpec(
        dimensions=3,
        features=(4, 8, 16),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3),) + ((3, 3, 3),) * 2,
    ),
    "2d": UNetSpec(dimensions=2, features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3),
    "deep": UNetSpec(
        dimensions=3,
        features=(4, 8, 16),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernels=((3, 3, 3),) * 3,
        convs_per_stage=3,
        deep_supervision=True,
    ),
    "uneven": UNetSpec(
        dimensions=2,
        features=(4, 8, 8),
        strides=((1, 1), (2, 2), (2, 2)),
        kernels=((3, 3),) * 3,
        encoder_convs=(1, 3, 2),
        decoder_convs=(2, 1),
    ),
}
SPATIAL = {"3d": (8, 16, 16), "2d": (32, 16), "deep": (16, 16, 16), "uneven": (16, 24)}


@pytest.mark.parametrize("name", SPECS)
def test_counts_are_those_of_the_network_that_is_built(name: str) -> None:
    spec, spatial = SPECS[name], SPATIAL[name]
    network = UNet(spec, 2, 4)
    cost = network_cost(spec, spatial, in_channels=2, out_channels=4)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 2, *spatial))
    assert cost.flops == counter.get_total_flops()


@pytest.mark.parametrize("name", SPECS)
def test_kept_activations_are_about_what_autograd_keeps(name: str) -> None:
    spec, spatial = SPECS[name], SPATIAL[name]
    network = UNet(spec, 2, 4)
    weights = {p.data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.zeros(1, 2, *spatial))
    counted = network_cost(spec, spatial, in_channels=2, out_channels=4).activations
    assert 0.8 < counted / sum(kept.values()) < 1.5
