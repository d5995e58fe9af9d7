"""Grids at every angle, a folder of DICOM series, and napari with this plugin alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.phantom import torso_ct

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.model import Model
    from medseg.phantom import Phantom


@pytest.fixture(scope="session")
def manifest() -> Path:
    return Path(__file__).resolve().parents[2] / "napari_plugin" / "napari.yaml"


@pytest.fixture(scope="session")
def turned() -> Callable[..., Geometry]:
    return _turned


def _turned(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], degrees: float) -> Geometry:
    """Return an axial grid turned about the patient's x axis, as a neuroradiologist tilts slices."""
    angle = np.deg2rad(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.eye(3)[:, ::-1] @ np.diag(spacing_mm)
    affine[:3, 3] = (-20.0, -35.0, 110.0)
    return Geometry(shape, affine)


@pytest.fixture(scope="session")
def torso() -> Phantom:
    return torso_ct(7, spacing_mm=(9.0, 6.0, 6.0))


@pytest.fixture
def medseg_plugin(npe2pm, manifest):
    """Napari's plugin manager with this plugin, installed or not, and nothing else."""
    with npe2pm.tmp_plugin(manifest=str(manifest)) as plugin:
        yield plugin


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Model:
    """A CT model of random weights with the torso's first labels, whose grid is that of the torso phantom."""
    return _model(tmp_path_factory.mktemp("models") / "quick", spacing_mm=(9, 6, 6))


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory) -> Model:
    """The same on a grid so fine that a run takes much longer than any test waits."""
    return _model(tmp_path_factory.mktemp("models") / "slow", spacing_mm=(2, 1, 1))


def _model(folder: Path, spacing_mm: tuple[float, float, float]) -> Model:
    from medseg.labels import LabelSet
    from medseg.model import save_model
    from medseg.phantom import TORSO_LABELS
    from medseg.plan import ClipZScore, InferPlan, PreprocessPlan, TrainPlan
    from tests.test_model import state, tiny_card, tiny_plan

    plan = tiny_plan(
        channels=("CT",),
        labels=LabelSet(tuple(TORSO_LABELS)[:2]),
        preprocess=PreprocessPlan(
            spacing_mm=spacing_mm, normalisation=(ClipZScore(low=-100, high=300, mean=50, std=80),)
        ),
        train=TrainPlan(patch_size=(8, 16, 16), batch_size=1),
        infer=InferPlan(),
    )
    return save_model(folder, plan=plan, members={0: state(plan)}, card=tiny_card(modalities=("CT",)))


@pytest.fixture
def own_settings(tmp_path, monkeypatch):
    """Settings of the dock that no test leaves behind."""
    from qtpy.QtCore import QSettings

    settings = QSettings(str(tmp_path / "napari.ini"), QSettings.Format.IniFormat)
    monkeypatch.setattr("napari_plugin.segment._own_settings", lambda: settings)
    return settings


@pytest.fixture
def window(make_napari_viewer, medseg_plugin, own_settings):
    """A shown window of napari with the Segment dock."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 900)
    _, dock = viewer.window.add_plugin_dock_widget("medseg", "Segment")
    yield viewer, dock
    dock.session.cancel()
    dock.worker.wait(10)
