from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg.errors import ModelError
from medseg.networks import build
from medseg.nnunet import has_batch_norm, to_state
from medseg.plan import UNetSpec
from tests.nnunet.folders import Oracle, Step, arguments, configuration, network

KERNELS = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
STRIDES = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
PLAIN = UNetSpec(dimensions=3, features=(4, 6, 8), strides=STRIDES, kernels=KERNELS)
RESIDUAL = PLAIN.model_copy(update={"residual_blocks": (1, 2, 2), "convs_per_stage": 1})
UNEVEN = PLAIN.model_copy(update={"encoder_convs": (1, 3, 2), "decoder_convs": (2, 1)})


def logits_of(spec: UNetSpec, weights: dict[str, Any], image: torch.Tensor) -> torch.Tensor:
    ours = build(spec, image.shape[1], 3).eval()
    ours.load_state_dict(to_state(weights, spec))
    with torch.no_grad():
        return ours(image)


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        (PLAIN, {}),
        (UNEVEN, {"n_conv_per_stage": [1, 3, 2], "n_conv_per_stage_decoder": [2, 1]}),
        (RESIDUAL, {"residual": True}),
    ],
)
def test_the_network_is_the_same_by_our_names(spec: UNetSpec, changed: dict[str, Any]) -> None:
    own = configuration()
    own["architecture"]["arch_kwargs"] = arguments(3, **changed)
    theirs = network(own, channels=2)
    image = torch.randn(1, 2, 4, 12, 8)
    torch.testing.assert_close(logits_of(spec, theirs.state_dict(), image), theirs(image), rtol=1e-4, atol=1e-4)


def test_batch_norms_keep_their_statistics_and_take_the_bias_before_them() -> None:
    theirs = Oracle(1, 3, arguments(3))
    for step in [module for module in theirs.modules() if isinstance(module, Step)]:
        step.norm = nn.BatchNorm3d(step.conv.out_channels)
        step.all_modules[1] = step.norm
        nn.init.normal_(step.norm.running_mean)
        nn.init.uniform_(step.norm.running_var, 0.5, 2.0)
        nn.init.normal_(step.conv.bias)
    weights = theirs.eval().state_dict()
    assert has_batch_norm(weights)
    image = torch.randn(1, 1, 4, 8, 8)
    spec = PLAIN.model_copy(update={"norm": "batch"})
    torch.testing.assert_close(logits_of(spec, weights, image), theirs(image), rtol=1e-4, atol=1e-4)


def test_norms_without_scale_and_convolutions_without_bias_are_taken() -> None:
    theirs = network(configuration())
    for step in [module for module in theirs.modules() if isinstance(module, Step)]:
        step.norm = nn.InstanceNorm3d(step.conv.out_channels)
        step.all_modules[1] = step.norm
    for up in theirs.decoder.transpconvs:
        up.register_parameter("bias", None)
    image = torch.randn(1, 1, 4, 8, 8)
    torch.testing.assert_close(logits_of(PLAIN, theirs.state_dict(), image), theirs(image), rtol=1e-4, atol=1e-4)


def test_a_weight_without_a_place_is_refused() -> None:
    weights = network(configuration()).state_dict() | {"encoder.attention.weight": torch.ones(1)}
    with pytest.raises(ModelError, match=r"holds 'encoder.attention.weight', which the network of the plans does not"):
        to_state(weights, PLAIN, where="checkpoint_final.pth")


def test_a_missing_weight_is_named() -> None:
    weights = network(configuration()).state_dict()
    weights.pop("decoder.stages.1.convs.0.conv.weight")
    with pytest.raises(ModelError, match=r"holds no 'decoder.stages.1.convs.0.conv.weight'"):
        to_state(weights, PLAIN)
