"""Make the pictures of docs/napari.md: a real window of napari, on phantoms.

    scripts/with-display.sh .venv/bin/python docs/images/make.py MODEL [OUT]

MODEL is a model folder that segments torso CTs, such as `demo/train/run/model` after `make demo`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from npe2 import PluginManager, PluginManifest
from PIL import Image
from qtpy.QtWidgets import QApplication

from medseg.phantom import torso_ct
from napari_plugin.bridge import image_layers
from napari_plugin.planes import show_plane

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
SIZE = (1280, 960)
LONGEST_S = 300.0
UNIFORM = 5.0  # standard deviation of a picture that shows nothing


def main(model: Path, out: Path) -> None:
    """Segment a phantom and take pictures, dark and light."""
    manager = PluginManager.instance()
    manager.discover()
    if "medseg" not in list(manager.iter_manifests()):
        manager.register(PluginManifest.from_file(HERE.parents[1] / "napari_plugin" / "napari.yaml"))
    viewer = napari.Viewer(title="medseg", show=True)
    viewer.window._qt_window.resize(*SIZE)
    _, dock = viewer.window.add_plugin_dock_widget("medseg", "Segment")
    scan = torso_ct(1001, spacing_mm=(2.5, 1.5, 1.5)).volume
    (layer,) = image_layers(scan, name="torso CT", modality="CT")
    viewer.add_image(layer.array, **layer.arguments)
    dock.load(model)
    until(lambda: dock.session.model is not None and not dock.session.is_busy)
    show_plane(viewer, "coronal")
    dock.start()
    until(lambda: any(type(shown).__name__ == "Labels" for shown in viewer.layers))
    take(viewer, out / "segment-running.png", waits=4)
    until(lambda: dock.table.rowCount() > 0)
    show_plane(viewer, "axial")
    dock.table.wanted.emit(dock.table.rows[0])
    take(viewer, out / "segment-dock.png")
    viewer.theme = "light"
    take(viewer, out / "segment-light.png")
    viewer.close()


def until(is_so: Callable[[], bool]) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + LONGEST_S
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit("this took too long")
        QApplication.processEvents()
        time.sleep(0.01)


def take(viewer: Any, path: Path, *, waits: int = 20) -> None:
    """Take a picture of the whole window, and see that it shows something."""
    for _ in range(waits):
        QApplication.processEvents()
        time.sleep(0.05)
    picture = viewer.screenshot(canvas_only=False, flash=False)
    if np.std(picture) < UNIFORM:
        raise SystemExit(f"{path} shows nothing")
    Image.fromarray(picture[..., :3]).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE)
