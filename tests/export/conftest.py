"""A tiny model of two members, and what each format made of it, once for all tests."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from medseg.export import export_model
from medseg.labels import LabelSet
from medseg.model import Model, load_model, save_model
from medseg.plan import ClipZScore, InferPlan, PreprocessPlan, TrainPlan
from tests.test_model import state, tiny_card, tiny_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATCH = (8, 8, 16)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    plan = tiny_plan(
        channels=("CT",),
        labels=LabelSet.from_names({2: "liver", 7: "spleen"}),
        preprocess=PreprocessPlan(
            spacing_mm=(2, 1, 1), normalisation=(ClipZScore(low=-100, high=300, mean=50, std=80),)
        ),
        train=TrainPlan(patch_size=PATCH, batch_size=1),
        infer=InferPlan(mirror_axes=("Z", "X")),
    )
    members = {0: state(plan), 3: state(plan, 1)}
    return save_model(
        tmp_path_factory.mktemp("models") / "model", plan=plan, members=members, card=tiny_card(modalities=("CT",))
    )


@pytest.fixture(scope="session")
def made(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the export to a format: written once, never changed by a test."""
    folders: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in folders:
            folder = tmp_path_factory.mktemp("exports") / kind
            folders[kind] = export_model(model, folder, format=kind).exported.model.folder
        return folders[kind]

    return make


@pytest.fixture
def own(model: Model, tmp_path: Path) -> Model:
    """A copy of the model that a test may change."""
    shutil.copytree(model.folder, tmp_path / "own")
    return load_model(tmp_path / "own")


@pytest.fixture
def place(own: Model, made: Callable[[str], Path]) -> Callable[[str], Path]:
    """Return a function that puts a copy of an export into the model's own folder."""

    def put(kind: str) -> Path:
        return shutil.copytree(made(kind), own.folder / "exports" / kind)

    return put
