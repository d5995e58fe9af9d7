"""One model in other ways of running it: bf16, `--fast`, `--tta`, beside float32 on the same held-out cases.

Usage: python benchmarks/modes.py MODEL DATASET [--fold 0] [--modes fp32,rounded,bf16,fast,tta]

Prints for each mode the mean Dice of each label over the fold's cases, the share of voxels that are labelled as in
float32 among those that either calls foreground, and the seconds the windows took. `bf16` needs a processor that
multiplies it. `rounded` runs anywhere: weights, and what goes into and comes out of every layer, are rounded to
bfloat16 and multiplied and added up in float32, which is what such a processor does; its time says nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.datasets import open_dataset, read_case, with_labels, with_patients
from medseg.evaluation import score_case
from medseg.inference import NumericPath, Segmenter, resolve_path
from medseg.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import nn

    from medseg.volume import Segmentation


@dataclass
class Found:
    """What a mode gave over all cases."""

    dice: list[list[float]] = field(default_factory=list)
    same: int = 0
    seen: int = 0
    seconds: float = 0.0

    def add(self, mask: Segmentation, truth: Segmentation, by_float32: NDArray[np.generic], seconds: float) -> None:
        """Take note of a case."""
        scores = score_case(mask, truth).labels
        dice = [scores[i].dice if i in scores else None for i in truth.labels.ids]
        self.dice.append([float("nan") if value is None else value for value in dice])
        either = (mask.array > 0) | (by_float32 > 0)
        self.seen += int(either.sum())
        self.same += int((mask.array == by_float32)[either].sum())
        self.seconds += seconds

    def row(self, name: str) -> str:
        """Return the mode's row of the table."""
        each = np.nanmean(np.array(self.dice), axis=0)
        labels = ", ".join(f"{value:.4f}" for value in each)
        return f"| {name} | {each.mean():.4f} | {labels} | {100 * self.same / self.seen:.3f} | {self.seconds:.1f} |"


def rounded(network: nn.Module) -> nn.Module:
    """Return the network with all that its layers read and write rounded to bfloat16."""

    def half(value: torch.Tensor) -> torch.Tensor:
        return value.to(torch.bfloat16).float()

    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(half(weight))
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_pre_hook(lambda _, inputs: tuple(half(value) for value in inputs))
            layer.register_forward_hook(lambda _, __, output: half(output))
    return network


def openers(folder: Path) -> dict[str, Callable[[], Segmenter]]:
    """Return how each mode's segmenter is made."""
    model = load_model(folder)
    voxels = int(np.prod(model.plan.train.patch_size))
    device = resolve_path("auto", "fp32", patch_voxels=voxels)
    bf16 = NumericPath(device=device.device, precision="bf16", window_batch=device.window_batch)
    return {
        "fp32": lambda: Segmenter.load(folder, path=device),
        "bf16": lambda: Segmenter.load(folder, path=bf16),
        "rounded": lambda: Segmenter(model.plan, [rounded(model.network(fold)) for fold in model.weights], path=device),
        "fast": lambda: Segmenter.load(folder, path=device).fast(),
        "tta": lambda: Segmenter.load(folder, path=device, mirrored=True),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--modes", default="fp32,rounded,fast")
    said = parser.parse_args()
    plan = load_model(said.model).plan
    data = with_labels(with_patients(open_dataset(said.dataset, channels=plan.channels)))
    _, cases = data.split(said.fold, n_folds=plan.train.folds)
    make = openers(said.model)
    names = ["fp32", *(name for name in said.modes.split(",") if name != "fp32")]
    segmenters = {name: make[name]() for name in names}
    found = {name: Found() for name in names}
    for case in cases:
        volume, truth = read_case(case, labels=plan.labels, channels=plan.channels)
        results = {name: segmenter.segment(volume) for name, segmenter in segmenters.items()}
        by_float32 = results["fp32"].segmentation.array
        for name, result in results.items():
            found[name].add(result.segmentation, truth, by_float32, result.seconds["network"])
    print(f"{len(cases)} cases of {data.name}, fold {said.fold}\n")
    print(f"| mode | mean Dice | {', '.join(plan.labels.names)} | foreground as in fp32, % | network, s |")
    print("|---" * 5 + "|")
    for name in names:
        print(found[name].row(name))


if __name__ == "__main__":
    main()
