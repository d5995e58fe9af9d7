"""Where a network looks, side by side: the whole scan, the body's box, and the box of a first pass on a coarse grid.

Usage: python benchmarks/cropping.py [--budget 60] [--scans 2] [--model FOLDER]
A small network is trained for `budget` seconds on torso phantoms at 5 mm, for liver, spleen and kidneys. Held-out
phantoms, with air around them to twice their width and height, are then segmented in every mode, one mode after the
other. Printed are windows (of the first pass and after it), seconds (of looking
and in all), voxels and foreground (Dice) equal to those of the whole scan, and the mean Dice against the truth. The
first pass is also made twice and four times as coarse as the model's grid.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import numpy as np

from medseg.geometry import Box
from medseg.inference import Segmenter, segmenter
from medseg.inference.region import COARSER
from medseg.io import write_segmentation, write_volume
from medseg.labels import LabelSet
from medseg.phantom import torso_ct
from medseg.volume import Segmentation, Volume
from medseg.workflows.plan import PlanRequest
from medseg.workflows.train import TrainRequest, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inference import Look, Result
    from medseg.phantom import Phantom
    from medseg.progress import Step

TRAINING_SEEDS = tuple(range(1, 13))
UNSEEN_SEEDS = (101, 102, 103, 104, 105)
ORGANS = ("liver", "spleen", "kidney_left", "kidney_right")
AIR_HU, NOISE_HU = -1000, 12
SETTINGS = (
    "preprocess.spacing_mm=[5, 5, 5]",
    "train.patch_size=[32, 40, 48]",
    "network.width=8",
    "train.batch_size=1",
    "train.optimizer={kind: adamw, learning_rate: 0.004}",
    "train.augment={rotation_deg: [10, 10, 10], scaling: [0.85, 1.2], gamma_probability: 0.15, blur_probability: 0,"
    " low_resolution_probability: 0}",
)
MODES: tuple[tuple[str, Look, float], ...] = (
    ("whole", "whole", COARSER),
    ("body", "body", COARSER),
    *((f"coarse, {times:g} x", "coarse", times) for times in (2.0, 3.0, 4.0)),
)


class Row(NamedTuple):
    """What one mode gave for one scan."""

    look_windows: int
    windows: int
    look_s: float
    seconds: float
    equal: float
    dice_whole: float
    dice_truth: float
    flags: tuple[str, ...]


def only_organs(phantom: Phantom) -> Segmentation:
    """Return the truth of the organs the network is to learn."""
    ids = [phantom.segmentation.labels.by_name(name).id for name in ORGANS]
    array = np.zeros_like(phantom.segmentation.array)
    for new, old in enumerate(ids, start=1):
        array[phantom.segmentation.array == old] = new
    labels = LabelSet.from_names(dict(enumerate(ORGANS, start=1)))
    return Segmentation(array, phantom.segmentation.geometry, labels)


def trained(folder: Path, budget: float) -> Path:
    """Return the model that was trained on phantoms."""
    data = folder / "data"
    entries = []
    for part in ("imagesTr", "labelsTr"):
        (data / part).mkdir(parents=True)
    for seed in TRAINING_SEEDS:
        phantom, name = torso_ct(seed), f"torso_{seed}.nii.gz"
        write_volume(phantom.volume, data / "imagesTr" / name)
        write_segmentation(only_organs(phantom), data / "labelsTr" / name)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    labels = {str(n): name for n, name in enumerate(("background", *ORGANS))}
    about = {"name": "torso", "modality": {"0": "CT"}, "labels": labels, "training": entries, "test": []}
    (data / "dataset.json").write_text(json.dumps(about))
    train(data, folder / "run", TrainRequest(plan=PlanRequest(settings=SETTINGS), budget_s=budget))
    return folder / "run" / "model"


def in_air(phantom: Phantom, seed: int) -> tuple[Volume, Segmentation]:
    """Return a scan and its truth with air around them, to twice the width and height."""
    truth = only_organs(phantom)
    _, y, x = truth.geometry.shape
    wide = truth.geometry.pad((0, y // 2, x // 2), (0, y - y // 2, x - x // 2))
    draw = np.random.default_rng(seed)
    array = np.rint(draw.normal(AIR_HU, NOISE_HU, wide.shape)).astype(np.int16)
    mask = np.zeros(wide.shape, truth.array.dtype)
    inner = np.s_[:, y // 2 : y // 2 + y, x // 2 : x // 2 + x]
    array[inner], mask[inner] = phantom.volume.array[0], truth.array
    return Volume(array[None], wide, ("CT",)), Segmentation(mask, wide, truth.labels)


def timed(model: Segmenter, scan: Volume, look: Look, times: float) -> tuple[Result, dict[str, int]]:
    """Return what a mode gives, and the windows of each stage."""
    windows: dict[str, int] = {}

    def count(step: Step, /) -> None:
        windows[step.stage] = max(windows.get(step.stage, 0), step.total)

    with patch.object(segmenter, "COARSER", times):
        return model.looking_at(look).segment(scan, progress=count), windows


def dice(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Return the Dice coefficient of two boolean masks."""
    return 2.0 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))


def measured(model: Segmenter, seed: int) -> dict[str, Row]:
    """Return what every mode gives for one unseen phantom."""
    scan, truth = in_air(torso_ct(seed), seed)
    rows: dict[str, Row] = {}
    whole = np.zeros(0)
    for name, look, times in MODES:
        result, windows = timed(model, scan, look, times)
        mask = result.segmentation.array
        whole = mask if look == "whole" else whole
        against = float(np.mean([dice(mask == k, truth.array == k) for k in truth.labels.ids]))
        same = float((mask == whole).mean())
        ours = 2 * int(((mask == whole) & (mask > 0)).sum()) / max(1, int((mask > 0).sum() + (whole > 0).sum()))
        spent = (result.seconds.get("look", 0.0), sum(result.seconds.values()))
        both = (windows.get("look", 0), windows["network"])
        rows[name] = Row(*both, *spent, same, ours, against, result.flags)
    return rows


def table(found: Sequence[dict[str, Row]]) -> list[str]:
    """Return the lines of a Markdown table, means over scans; equality is that of the worst scan."""
    lines = [
        "| looks at | windows first + then | seconds of looking | seconds in all | equal voxels, worst % |"
        " Dice with whole, worst | Dice with truth | flags |",
        "| --- | --: | --: | --: | --: | --: | --: | --- |",
    ]
    for name, *_ in MODES:
        rows = [one[name] for one in found]
        first, then, look_s, seconds = (np.mean([row[k] for row in rows]) for k in range(4))
        equal, same = min(row.equal for row in rows), min(row.dice_whole for row in rows)
        flags = sorted({flag for row in rows for flag in row.flags})
        lines.append(
            f"| {name} | {first:.0f} + {then:.0f} | {look_s:.2f} | {seconds:.2f} | {100 * equal:.4f} | {same:.4f} |"
            f" {np.mean([row.dice_truth for row in rows]):.3f} | {', '.join(flags)} |"
        )
    return lines


def main() -> None:
    """Train, segment in every mode, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of training")
    parser.add_argument("--scans", type=int, default=2, help="held-out phantoms, at most 5")
    parser.add_argument("--model", type=Path, help="where the trained model is kept; trained where there is none")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.model or Path(scratch) / "kept"
        if not folder.exists():
            shutil.copytree(trained(Path(scratch), asked.budget), folder)
        model = Segmenter.load(folder, device="cpu", backend="torch")
        model.segment(in_air(torso_ct(0), 0)[0], region=Box((0, 0, 0), (4, 4, 4)))  # what the first call alone costs
        found = [measured(model, seed) for seed in UNSEEN_SEEDS[: asked.scans]]
    print(f"{asked.budget:g} s of training, {asked.scans} scans, {model.path.precision}")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
