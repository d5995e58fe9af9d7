"""Where a network looks, side by side: the whole scan, the body's box, and the box of a first pass on a coarse grid.

Usage: python benchmarks/cropping.py [--steps 300] [--scans 3] [--spacing 5]
A small 3-D U-Net is trained on torso phantoms in wide air, for liver, spleen and kidneys, by cross-entropy and Dice.
Held-out phantoms, with air around them to twice their width and height as well, are then segmented in every mode, one
mode after the other. Printed are windows (of the first pass and after it), seconds (of looking and in all), voxels and
labels (Dice) equal to those of the whole scan, and the mean Dice against the truth. The first pass is also made twice
and four times as coarse as the model's grid.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional

from medseg.geometry import Box
from medseg.inference import NumericPath, Segmenter, segmenter
from medseg.inference.region import COARSER
from medseg.labels import LabelSet
from medseg.networks import build
from medseg.phantom import torso_ct
from medseg.plan import ClipZScore, Plan, PreprocessPlan, TrainPlan, UNetSpec
from medseg.preprocess import prepare, prepare_mask
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.inference import Look, Result
    from medseg.phantom import Phantom
    from medseg.progress import Step

TRAINING_SEEDS = tuple(range(1, 13))
UNSEEN_SEEDS = (101, 102, 103, 104, 105)
ORGANS = ("liver", "spleen", "kidney_left", "kidney_right")
AIR_HU, NOISE_HU = -1000, 12
STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
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


def trained(steps: int, spacing_mm: float) -> Segmenter:
    """Return a segmenter whose network learned from patches of phantoms, each second one around an organ."""
    plan = Plan(
        channels=("CT",),
        labels=LabelSet.from_names(dict(enumerate(ORGANS, start=1))),
        preprocess=PreprocessPlan(
            spacing_mm=(spacing_mm, spacing_mm, spacing_mm),
            normalisation=(ClipZScore(low=-200, high=300, mean=0, std=100),),
        ),
        network=UNetSpec(dimensions=3, features=(8, 16, 32), strides=STRIDES, kernels=((3, 3, 3),) * 3),
        train=TrainPlan(patch_size=(32, 32, 32), batch_size=2),
    )
    pairs = [in_air(torso_ct(seed), seed) for seed in TRAINING_SEEDS]
    images = [torch.from_numpy(prepare(scan, plan).array) for scan, _ in pairs]
    masks = [torch.from_numpy(prepare_mask(truth, plan).array.astype(np.int64)) for _, truth in pairs]
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    network = build(plan.network, 1, len(ORGANS) + 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.004)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=steps)
    for step in range(steps):
        patches = [patch_of(images, masks, draw, around=(step + k) % 2 == 1) for k in range(2)]
        scores = network(torch.stack([image for image, _ in patches]))
        scores = scores[0] if isinstance(scores, tuple) else scores
        loss = loss_of(scores, torch.stack([mask for _, mask in patches]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Segmenter(plan, [network.eval()], path=NumericPath())


def loss_of(scores: Tensor, truth: Tensor) -> Tensor:
    """Return cross-entropy and one minus the mean Dice of the organs."""
    chance = scores.softmax(dim=1)[:, 1:]
    target = functional.one_hot(truth, len(ORGANS) + 1).movedim(-1, 1)[:, 1:].float()
    shared, both = (chance * target).sum((0, 2, 3, 4)), (chance + target).sum((0, 2, 3, 4))
    return functional.cross_entropy(scores, truth) + 1 - ((2 * shared + 1) / (both + 1)).mean()


def patch_of(
    images: list[Tensor], masks: list[Tensor], draw: np.random.Generator, *, around: bool
) -> tuple[Tensor, Tensor]:
    """Return a patch of a random phantom and its truth; `around` a voxel of an organ, or anywhere."""
    case = int(draw.integers(len(images)))
    mask = masks[case]
    room = [max(0, n - 32) for n in mask.shape]
    if around:
        of_one = (mask == int(draw.integers(1, len(ORGANS) + 1))).nonzero()
        middle = of_one[int(draw.integers(len(of_one)))].tolist()
        z, y, x = (int(np.clip(m - 16, 0, most)) for m, most in zip(middle, room, strict=True))
    else:
        z, y, x = (int(draw.integers(most + 1)) for most in room)
    part = np.s_[z : z + 32, y : y + 32, x : x + 32]
    return images[case][:, *part], mask[part]


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
    parser.add_argument("--steps", type=int, default=300, help="steps of training")
    parser.add_argument("--spacing", type=float, default=5.0, help="mm between the voxels the network sees")
    parser.add_argument("--scans", type=int, default=3, help="held-out phantoms, at most 5")
    asked = parser.parse_args()
    started = time.perf_counter()
    model = trained(asked.steps, asked.spacing)
    spent = time.perf_counter() - started
    print(f"{asked.steps} steps of training in {spent:.0f} s, {asked.scans} scans, fp32", flush=True)
    model.segment(in_air(torso_ct(0), 0)[0], region=Box((0, 0, 0), (4, 4, 4)))  # what the first call alone costs
    found = [measured(model, seed) for seed in UNSEEN_SEEDS[: asked.scans]]
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
