"""Make the pictures of docs/review.md: the Review dock in a real window, on phantoms whose masks were spoilt.

scripts/with-display.sh .venv/bin/python docs/images/make_review.py [OUT]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from make import take, until
from scipy import ndimage

from medseg.io import write_segmentation, write_volume
from medseg.phantom import torso_ct
from medseg.volume import Segmentation
from napari_plugin.planes import show_plane
from napari_plugin.review import ReviewDock

HERE = Path(__file__).resolve().parent
SIZE = (1280, 1000)
UNIFORM = 5.0  # standard deviation of a picture that shows nothing
CONFIDENCE = {"ct-1a": 0.71, "ct-2b": 0.93, "ct-3c": None}


def main(out: Path) -> None:
    """Review a phantom and take pictures."""
    with tempfile.TemporaryDirectory() as place:
        folder, scans = phantoms(Path(place))
        viewer = napari.Viewer(title="medseg", show=True)
        viewer.window._qt_window.resize(*SIZE)
        dock = ReviewDock(viewer, folder, who="reviewer", images=[scans])
        viewer.window.add_dock_widget(dock, name="Review", area="right")
        until(lambda: dock.painted is not None and not dock._is_busy)
        dock.open_case("ct-1a")
        until(lambda: dock.painted is not None and not dock._is_busy)
        show_plane(viewer, "axial")
        take(viewer, out / "review-dock.png")
        dock.painted.layer.selected_label = int(dock.desk.open_case.labels.ids[0])
        dock.use("islands")
        until(lambda: not dock._is_busy)
        dock.compare()
        until(lambda: not dock._is_busy)
        show_plane(viewer, "coronal")
        take(viewer, out / "review-difference.png")
        dock.close_review()
        viewer.close()


def phantoms(place: Path) -> tuple[Path, Path]:
    """Write scans, and an output folder of masks with islands and dents."""
    out, scans = place / "out", place / "scans"
    scans.mkdir()
    cases = []
    for seed, (case, confidence) in enumerate(CONFIDENCE.items(), start=1001):
        made = torso_ct(seed, spacing_mm=(4.0, 2.5, 2.5))
        write_volume(made.volume, scans / f"{case}.nii.gz")
        (out / case).mkdir(parents=True)
        mask = np.zeros_like(made.segmentation.array) if confidence is None else spoilt(made.segmentation.array, seed)
        write_segmentation(
            Segmentation(mask, made.segmentation.geometry, made.segmentation.labels), out / case / "segmentation.nii.gz"
        )
        cases.append(
            {
                "id": case,
                "status": "done",
                "inputs": [f"{case}.nii.gz"],
                "outputs": {"nifti": f"{case}/segmentation.nii.gz"},
                "labels": made.segmentation.labels.to_json(),
                "confidence": confidence,
                "flags": ["empty"] if confidence is None else [],
            }
        )
    (out / "manifest.json").write_text(json.dumps({"schema": 1, "model": {"sha256": ""}, "cases": cases}))
    return out, scans


def spoilt(mask: Any, seed: int) -> Any:
    """Return a mask with blobs of its first label in the background, and dents."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=mask.shape), 3)
    result = mask.copy()
    result[noise < np.quantile(noise, 0.02)] = 0
    result[(noise > np.quantile(noise, 0.995)) & (mask == 0)] = mask[mask > 0].min()
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
