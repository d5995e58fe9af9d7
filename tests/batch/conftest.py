"""A model whose network finds what is bright, and scans with a bright block in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from medseg.geometry import Geometry
from medseg.inference import NumericPath, Segmenter
from medseg.io import write_volume
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, load_model, save_model
from medseg.networks import build
from medseg.plan import InferPlan, InstancePlan, Plan, PreprocessPlan, Rescale, TrainPlan, UNetSpec
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

AFFINE = np.array([[0, 0, 1.5, -20], [0, 1.5, 0, 30], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])
SHAPE = (10, 12, 14)


class Bright(nn.Module):
    """Foreground where the last channel is above a half."""

    def forward(self, windows: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(windows[:, 0]), (windows[:, -1] - 0.5) * 20], dim=1)


@pytest.fixture
def bright() -> type[nn.Module]:
    return Bright


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model folder; the weights are random, its plan and card are what counts."""

    def make(
        *,
        channels: tuple[str, ...] = ("MR",),
        seed: int = 0,
        name: str = "model",
        spacing_mm: tuple[float, float, float] = (2.0, 1.5, 1.5),
        select: str = "",
        instances: InstancePlan | None = None,
    ) -> Path:
        plan = Plan(
            channels=channels,
            labels=LabelSet.from_names({1: "lesion"}),
            preprocess=PreprocessPlan(spacing_mm=spacing_mm, normalisation=(Rescale(),) * len(channels)),
            network=UNetSpec(
                dimensions=3,
                features=(8, 16),
                strides=((1, 1, 1), (2, 2, 2)),
                kernels=((3, 3, 3),) * 2,
                convs_per_stage=1,
            ),
            train=TrainPlan(patch_size=(8, 8, 8), batch_size=1),
            infer=InferPlan(select=select, instances=instances),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            members = {0: build(plan.network, len(channels), 2).state_dict()}
        card = Card(name=name, created="2026-01-01T00:00:00Z", medseg="0", data=DataNote(name="d"), modalities=channels)
        return save_model(tmp_path / "models" / name, plan=plan, members=members, card=card).folder

    return make


@pytest.fixture
def loading() -> Callable[..., Callable[[NumericPath | None], Segmenter]]:
    """What `run_batch` loads by: the folder's plan and card, with networks of known behaviour."""

    def make(folder: Path, *networks: nn.Module) -> Callable[[NumericPath | None], Segmenter]:
        model = load_model(folder)

        def load(path: NumericPath | None) -> Segmenter:
            return Segmenter(model.plan, networks or (Bright(),), path=path or NumericPath(), model=model)

        return load

    return make


@pytest.fixture
def scan() -> Callable[..., Volume]:
    """A scan whose bright block begins at slice `first` and has 4 x 5 x 6 voxels of 4.5 cubic millimetres."""

    def make(first: int = 3, *, channels: int = 1, **changes: Any) -> Volume:
        array = np.zeros((channels, *SHAPE), np.int16)
        array[-1, first : first + 4, 4:9, 4:10] = 1000
        geometry = Geometry(SHAPE, changes.get("affine", AFFINE))
        return Volume(array, geometry, ("image",) * channels)

    return make


@pytest.fixture
def three_scans(tmp_path: Path, scan: Callable[..., Volume]) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for n, name in enumerate("abc"):
        write_volume(scan(n + 1), folder / f"{name}.nii.gz")
    return folder
