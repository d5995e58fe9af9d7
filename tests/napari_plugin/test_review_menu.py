"""The Review dock as napari opens it: behind a proxy that hides parts of viewer and layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.io import write_segmentation, write_volume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gui


def test_the_dock_opens_from_naparis_menu(
    make_napari_viewer: Any, medseg_plugin: Any, torso: Any, tmp_path: Path, qtbot: Any
) -> None:
    for name, write, what in (
        ("images", write_volume, torso.volume),
        ("labels", write_segmentation, torso.segmentation),
    ):
        (tmp_path / name).mkdir()
        write(what, tmp_path / name / "a.nii.gz")
    names = [f"{label.id}: {label.name}\n" for label in torso.segmentation.labels]
    (tmp_path / "labels.yaml").write_text("".join(names))
    viewer = make_napari_viewer(show=True)
    _, dock = viewer.window.add_plugin_dock_widget("medseg", "Review")
    dock.panel.who.setText("me")
    dock.open_folder(tmp_path)
    qtbot.waitUntil(lambda: len(viewer.layers) >= 2 and dock.painted is not None, timeout=60_000)
    before = np.count_nonzero(dock.painted.layer.data)
    dock.painted.layer.paint((0, 0, 0), 1)
    assert np.count_nonzero(dock.painted.layer.data) > before
    assert dock.painted.undo()
    assert np.count_nonzero(dock.painted.layer.data) == before
    dock.close_review()
