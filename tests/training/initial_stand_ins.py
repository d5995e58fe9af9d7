"""Networks small enough to draw, states without a fresh tensor, and files and models that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.plan import FCNSpec, ResNetSpec, UNetSpec, VGGSpec, published_strides
from medseg.training.engine import own_random_state
from medseg.training.initial import initial_weights, read_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from medseg.plan import Plan
    from medseg.training.initial import Initial

KERNELS, STRIDES = ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2))


def resnet(dimensions: int = 2, **more: Any) -> ResNetSpec:
    strides = published_strides(dimensions, 8)
    return ResNetSpec.model_validate({"layers": 18, "width": 4, "strides": strides, "dilations": (1, 1, 2, 4), **more})


def vgg(**more: Any) -> VGGSpec:
    return VGGSpec.model_validate({"width": 4, "strides": published_strides(2), **more})


def fcn(encoder: ResNetSpec | VGGSpec, **more: Any) -> FCNSpec:
    dimensions = 3 if len(encoder.strides[0]) == 3 else 2
    more = {"classifier_features": 8, "classifier_kernel": 3, **more}
    return FCNSpec(dimensions=dimensions, encoder=encoder, **more)


def unet(**more: Any) -> UNetSpec:
    parts: dict[str, Any] = {"features": (4, 8, 16), "strides": STRIDES, "kernels": KERNELS, "deep_supervision": True}
    return UNetSpec(dimensions=2, **(parts | more))


def drawn(plan: Plan, seed: int = 5) -> dict[str, Tensor]:
    """Return a state in which no tensor is what it would be when fresh."""
    with own_random_state(seed):
        network = build(plan.network, len(plan.channels), len(plan.labels) + 1)
        state = network.state_dict()
        for name, tensor in state.items():
            if tensor.ndim <= 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.0) if name.endswith(("var", "weight")) else tensor.uniform_(-0.2, 0.2)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.05)
    return state


def torchvisions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state under the names it has in torchvision's classifiers."""
    return {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}


def saved(state: Mapping[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


def model_of(plan: Plan, folder: Path, *members: Mapping[str, Tensor]) -> Path:
    card = Card(name="old", created="2026", medseg="0", data=DataNote(name="d"), modalities=plan.channels)
    save_model(folder, plan=plan, members=dict(enumerate(members)), card=card)
    return folder


def network_of(plan: Plan, state: Mapping[str, Tensor]) -> Any:
    network = build(plan.network, len(plan.channels), len(plan.labels) + 1)
    network.load_state_dict(dict(state))
    return network.eval()


def started(plan: Plan, path: Path, **more: Any) -> Initial:
    return initial_weights(plan, read_source(path), **more)


def an_image(channels: int, *sides: int) -> Tensor:
    return torch.randn(1, channels, *sides, generator=torch.Generator().manual_seed(0))
