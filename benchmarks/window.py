"""What the napari plugin adds to reading a scan and to segmenting one: seconds, processor seconds and memory.

    scripts/with-display.sh .venv/bin/python benchmarks/window.py open [--shape 600,512,512]
    scripts/with-display.sh .venv/bin/python benchmarks/window.py segment MODEL [--spacing 2.5,1.5,1.5]

Each way runs in a process of its own, `--rounds` times in turn; the median is told. `open` reads an uncompressed NIfTI
of noise alone, then opens it in a shown window until its first slice is on the screen. `segment` runs the model on a
torso phantom alone, then in the Segment dock while the window shows the mask as it grows. Needs the extra `gui`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["open", "segment", *WAYS])
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--shape", default="600,512,512")
    parser.add_argument("--spacing", default="2.5,1.5,1.5")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.what in WAYS:
        print(json.dumps(WAYS[asked.what](asked)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if asked.what == "open":
            asked.path = Path(folder) / "scan.nii"
            write(asked.path, tuple(int(n) for n in asked.shape.split(",")))
        compare(f"{asked.what}-alone", f"{asked.what}-window", asked)


def compare(alone: str, window: str, asked: argparse.Namespace) -> None:
    """Run two ways in turn and print their medians."""
    found: dict[str, list[dict[str, float]]] = {alone: [], window: []}
    for _ in range(asked.rounds):
        for way, rows in found.items():
            command = [sys.executable, "-W", "ignore", __file__, way, str(asked.path), "--spacing", asked.spacing]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    for way, rows in found.items():
        words = (f"{key} {statistics.median(row[key] for row in rows):.2f}" for key in rows[0])
        print(f"{way}: {', '.join(words)}")


def write(path: Path, shape: tuple[int, ...]) -> None:
    """Write a scan of noise."""
    from medseg.geometry import Geometry
    from medseg.io import nifti

    affine = np.array([[0, 0, 0.8, -200], [0, 0.8, 0, -200], [1.0, 0, 0, -300], [0, 0, 0, 1]])
    block = np.random.default_rng(0).integers(-1000, 1500, (1, *shape[1:]), dtype=np.int16)
    array = np.broadcast_to(block, (1, *shape)).copy()
    nifti.write(array, Geometry((shape[0], shape[1], shape[2]), affine), path)


@contextmanager
def measured(answer: dict[str, float]) -> Iterator[None]:
    """Note wall time, processor time and the most memory beyond what is held now, while something runs."""
    me, done = psutil.Process(), threading.Event()
    before = peak = me.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, me.memory_info().rss)

    threading.Thread(target=watch, daemon=True).start()
    wall, processor = time.perf_counter(), time.process_time()
    yield
    answer["seconds"] = time.perf_counter() - wall
    answer["processor_seconds"] = time.process_time() - processor
    answer["growth_mb"] = (max(peak, me.memory_info().rss) - before) / 1e6
    done.set()


def open_alone(asked: argparse.Namespace) -> dict[str, float]:
    """Read the scan."""
    from medseg.io import read_volume

    answer: dict[str, float] = {}
    with measured(answer):
        volume = read_volume(asked.path)
    return answer | {"array_mb": volume.array.nbytes / 1e6}


def open_window(asked: argparse.Namespace) -> dict[str, float]:
    """Open the scan in a window that is there."""
    viewer = _viewer()
    viewer.add_image(np.zeros((4, 8, 8), np.int16))  # the graphics driver compiles for the first image
    _pump(0.5)
    viewer.layers.clear()
    answer: dict[str, float] = {}
    with measured(answer):
        (layer,) = viewer.open(str(asked.path), plugin="medseg")
        viewer.screenshot(flash=False)
    answer["array_mb"] = layer.data.nbytes / 1e6
    viewer.close()
    return answer


def segment_alone(asked: argparse.Namespace) -> dict[str, float]:
    """Segment the phantom."""
    import medseg

    segmenter, volume = medseg.Segmenter.load(asked.path), _torso(asked)
    answer: dict[str, float] = {}
    with measured(answer):
        segmenter.segment(volume)
    return answer


def segment_window(asked: argparse.Namespace) -> dict[str, float]:
    """Segment the phantom in the dock, and note the longest time its window was not served."""
    from napari_plugin.bridge import image_layers

    viewer = _viewer()
    _, dock = viewer.window.add_plugin_dock_widget("medseg", "Segment")
    (layer,) = image_layers(_torso(asked), name="torso", modality="CT")
    viewer.add_image(layer.array, **layer.arguments)
    dock.load(asked.path)
    _until(lambda: dock.session.model is not None and not dock.session.is_busy)
    answer: dict[str, float] = {}
    with measured(answer):
        dock.start()
        longest = _until(lambda: dock.table.rowCount() > 0)
    viewer.close()
    return answer | {"longest_gap_ms": 1000 * longest}


WAYS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "open-alone": open_alone,
    "open-window": open_window,
    "segment-alone": segment_alone,
    "segment-window": segment_window,
}


def _viewer() -> Any:
    import napari
    from npe2 import PluginManager, PluginManifest

    manager = PluginManager.instance()
    manager.discover()
    if "medseg" not in list(manager.iter_manifests()):
        manager.register(PluginManifest.from_file(ROOT / "napari_plugin" / "napari.yaml"))
    viewer = napari.Viewer(show=True)
    _pump(0.5)
    return viewer


def _torso(asked: argparse.Namespace) -> Any:
    from medseg.phantom import torso_ct

    return torso_ct(1001, spacing_mm=[float(mm) for mm in asked.spacing.split(",")]).volume


def _pump(seconds: float) -> None:
    end = time.monotonic() + seconds
    _until(lambda: time.monotonic() > end)


def _until(is_so: Callable[[], bool]) -> float:
    """Serve the window every 10 ms until something is so; return the longest time between two servings, seconds."""
    from qtpy.QtWidgets import QApplication

    longest, last = 0.0, time.monotonic()
    while not is_so():
        QApplication.processEvents()
        time.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


if __name__ == "__main__":
    main()
