"""A tiny plan, a network of known behaviour, and an ellipsoid of known size and place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.plan import InferPlan, Plan, PreprocessPlan, Rescale, TrainPlan, UNetSpec
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CENTRE_LPS = np.array([5.0, -12.0, 40.0])
RADII_MM = np.array([11.0, 9.0, 13.0])


class Bright(nn.Module):
    """Class `label` where the image is above a half, by logits of a given steepness."""

    def __init__(self, *, classes: int = 2, label: int = 1, steepness: float = 20.0) -> None:
        super().__init__()
        self.classes, self.label, self.steepness = classes, label, steepness

    def forward(self, windows: Tensor) -> Tensor:
        logits = torch.zeros(windows.shape[0], self.classes, *windows.shape[2:], dtype=windows.dtype)
        logits[:, self.label] = (windows[:, 0] - 0.5) * self.steepness
        if self.classes > 2:
            logits[:, [c for c in range(1, self.classes) if c != self.label]] = -self.steepness
        return logits


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    def make(**changes: Any) -> Plan:
        dimensions = changes.pop("dimensions", 3)
        channels = changes.get("channels", ("MR",))
        parts: dict[str, Any] = {
            "channels": channels,
            "labels": LabelSet.from_names({1: "lesion"}),
            "preprocess": PreprocessPlan(spacing_mm=(1.5, 1.5, 1.5), normalisation=(Rescale(),) * len(channels)),
            "network": UNetSpec(
                dimensions=dimensions,
                features=(8, 16),
                strides=((1,) * dimensions, (2,) * dimensions),
                kernels=((3,) * dimensions,) * 2,
                convs_per_stage=1,
            ),
            "train": TrainPlan(patch_size=(16, 16, 16) if dimensions == 3 else (1, 16, 16), batch_size=1),
            "infer": InferPlan(),
        }
        return Plan(**(parts | changes))

    return make


@pytest.fixture
def bright() -> type[Bright]:
    return Bright


def ellipsoid(geometry: Geometry) -> np.ndarray[Any, Any]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    offset = (geometry.to_lps(index) - CENTRE_LPS) / RADII_MM
    return (offset**2).sum(axis=-1) <= 1.0


@pytest.fixture
def scan_of() -> Callable[[Geometry], Volume]:
    """An MR-like scan on a grid: 1000 inside the ellipsoid, 0 outside, as int16."""

    def make(geometry: Geometry) -> Volume:
        return Volume((ellipsoid(geometry) * 1000).astype(np.int16)[None], geometry, ("MR",))

    return make


@pytest.fixture
def truth_of() -> Callable[[Geometry], np.ndarray[Any, Any]]:
    return ellipsoid


@pytest.fixture
def centred() -> Callable[..., Geometry]:
    """A grid of a shape and steps (columns along z, y, x) around the ellipsoid."""

    def make(shape: tuple[int, int, int], steps: np.ndarray[Any, Any]) -> Geometry:
        affine = np.eye(4)
        affine[:3, :3] = steps
        affine[:3, 3] = CENTRE_LPS - steps @ ((np.array(shape) - 1) / 2)
        return Geometry(shape, affine)

    return make
