"""A small plan, and a sampler of balls in noise that needs no files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.labels import LabelSet
from medseg.plan import AdamW, AugmentPlan, Plan, PreprocessPlan, TrainPlan, UNetSpec, ZScore

if TYPE_CHECKING:
    from medseg.plan import NetworkSpec

NO_AUGMENTATION = AugmentPlan(**{name: 0.0 for name in AugmentPlan.model_fields if name.endswith("probability")})


def small_plan(*, patch: tuple[int, int, int] = (8, 8, 8), network: dict[str, Any] | None = None, **train: Any) -> Plan:
    dimensions = 2 if 1 in patch else 3
    amounts: dict[str, Any] = {
        "epochs": 2,
        "steps_per_epoch": 3,
        "augment": NO_AUGMENTATION,
        "optimizer": AdamW(learning_rate=5e-3),
    }
    spec: dict[str, Any] = {"features": (4, 8), **(network or {})}
    return Plan(
        channels=("MR",),
        labels=LabelSet.from_names({1: "ball"}),
        preprocess=PreprocessPlan(spacing_mm=(1.0, 1.0, 1.0), normalisation=(ZScore(),)),
        network=UNetSpec(
            dimensions=dimensions,
            strides=((1,) * dimensions, (2,) * dimensions),
            kernels=((3,) * dimensions,) * 2,
            **spec,
        ),
        train=TrainPlan(patch_size=patch, batch_size=2, **(amounts | train)),
    )


def plan_of(
    network: NetworkSpec, *, channels: tuple[str, ...] = ("MR",), labels: tuple[str, ...] = ("ball",), side: int = 64
) -> Plan:
    patch = (side,) * 3 if network.dimensions == 3 else (1, side, side)
    return Plan(
        channels=channels,
        labels=LabelSet.from_names(dict(enumerate(labels, start=1))),
        preprocess=PreprocessPlan(spacing_mm=(1.0, 1.0, 1.0), normalisation=(ZScore(),) * len(channels)),
        network=network,
        train=TrainPlan(patch_size=patch, batch_size=2),
    )


class Balls:
    """Draws bright balls in noise, of a given size, from a seed."""

    def __init__(self, size: tuple[int, int, int], *, seed: int = 0, poison_after: int | None = None) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._poison_after = poison_after
        self.drawn = 0

    def draw(self, n: int, /) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = zip(*(self._one() for _ in range(n)), strict=True)
        return torch.stack(images), torch.stack(labels)

    def _one(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.drawn += 1
        axes = np.ogrid[tuple(slice(0, n) for n in self._size)]
        centre = [self._random.uniform(0.3, 0.7) * (n - 1) for n in self._size]
        radius = self._random.uniform(0.2, 0.35) * max(self._size)
        ball = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2
        image = ball * 2.0 + self._random.normal(0, 0.3, self._size)
        if self._poison_after is not None and self.drawn > self._poison_after:
            image[...] = np.nan
        return torch.from_numpy(image[None]).float(), torch.from_numpy(ball.astype(np.uint8))

    def state_dict(self) -> dict[str, Any]:
        return {"random": self._random.bit_generator.state, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._random.bit_generator.state = state["random"]
        self.drawn = state["drawn"]
