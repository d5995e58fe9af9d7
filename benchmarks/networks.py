"""Networks side by side: each recipe trained for the same wall time on the same fold, in 2-D and in 3-D.

Usage: python benchmarks/networks.py DATASET [--budget 5m] [--dimensions 3,2] [--recipes unet3d,fcn8s,...] [--set ...]
       python benchmarks/networks.py --facts

The first trains by the command line, one run after the other, and prints a row for each: Dice on the fold's held-out
cases, seconds per step, steps, weights, and the most memory the process held. The second prints what needs no data:
weights, operations and kept numbers of the published 2-D forms, and how far a score sees.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from medseg.networks import InstanceNorm, blueprint, build
from medseg.networks.cost import counted
from medseg.networks.heads import PooledBranch
from medseg.plan import Plan, read_recipe
from medseg.planning.designs import designed

if TYPE_CHECKING:
    from medseg.plan import NetworkSpec

FAMILIES = ("unet3d", "fcn8s", "deeplabv3plus", "pspnet")
ALL = (
    *("unet3d", "resunet3d", "fcn32s", "fcn16s", "fcn8s", "deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3plus"),
    "pspnet",
)
SIDE = 512  # of the image the facts are told for
FIELD_SIDE = 2500  # of the image a field of view is looked for in


def trained(dataset: Path, recipe: str, budget: str, settings: list[str]) -> str:
    """Return a row about one run."""
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        command = [sys.executable, "-m", "medseg", "train", str(dataset), "-o", str(run), "-r", recipe]
        command += [word for setting in settings for word in ("--set", setting)]
        with (Path(scratch) / "out.json").open("w") as out:
            child = subprocess.Popen(
                [*command, "--fold", "0", "--budget", budget, "--json"], stdout=out, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(child.pid, 0)
        if status:
            return f"| {recipe} | {' '.join(settings)} failed with exit code {os.waitstatus_to_exitcode(status)} |"
        report = json.loads((Path(scratch) / "out.json").read_text())
        labels = report["folds"]["0"]
        rows = list(csv.DictReader((run / "fold_0" / "log.csv").open()))
        plan = Plan.read(run / "plan.yaml")
        weights = parameters(plan.network, len(plan.channels), len(plan.labels) + 1)
    steps, first = int(rows[-1]["step"]), rows[0]
    pace = (float(rows[-1]["seconds"]) - float(first["seconds"])) / max(1, steps - int(first["step"]))
    each = ", ".join(f"{labels[name]['dice']['mean']:.3f}" for name in plan.labels.names)
    mean, (low, high) = labels["mean"]["dice"]["mean"], labels["mean"]["dice"]["ci95"]
    return (
        f"| {recipe} | {plan.network.dimensions} | {mean:.3f} ({low:.3f} to {high:.3f}) | {each} | "
        f"{steps} | {pace:.2f} | {weights / 1e6:.2f} | {usage.ru_maxrss * 1024 / 1e9:.1f} | {report['seconds']:.0f} |"
    )


def parameters(spec: NetworkSpec, channels: int, classes: int) -> int:
    """Return the number of weights."""
    return sum(p.numel() for p in blueprint(spec, channels, classes).parameters())


def published(recipe: str) -> NetworkSpec:
    """Return the network a recipe means for 2-D images of 512 pixels a side."""
    network = read_recipe(recipe).with_settings(["network.dimensions=2"]).network
    return designed(network, (SIDE, SIDE), (1.0, 1.0), device="cuda").network


def field_of_view(spec: NetworkSpec) -> str:
    """Return how many pixels a side one score depends on: where its gradient is not zero, norms left out."""
    network = build(narrowest(spec), 1, 1).double().eval()
    if any(isinstance(module, PooledBranch) for module in network.modules()):
        return "whole patch"
    make_linear(network)
    image = torch.ones(1, 1, FIELD_SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    network(image)[0, 0, FIELD_SIDE // 2, SIDE // 2].backward()
    seen = image.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    side = int(seen.max() - seen.min()) + 1
    return f"{side}" if side < FIELD_SIDE else f"more than {FIELD_SIDE}"


def narrowest(spec: NetworkSpec) -> NetworkSpec:
    """Return the network with one feature in every layer, and without norms: it sees as far."""
    document = spec.model_dump()
    for place in (document, document.get("encoder", {})):
        wanted = {"width": 1, "norm": "none", "classifier_features": 1, "head_features": 1, "low_level_features": 1}
        place.update({key: value for key, value in wanted.items() if key in place})
    if "features" in document:
        document["features"] = [1] * len(document["features"])
    return type(spec).model_validate(document)


def make_linear(network: nn.Module) -> None:
    """Leave out rectifiers and norms, let poolings average, and make all weights positive."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (InstanceNorm, nn.ReLU, nn.LeakyReLU, nn.GroupNorm)):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0 / max(1, parameter[0].numel()) if parameter.ndim > 1 else 0.0)


def facts() -> None:
    """Print what is known of the published 2-D forms without any data."""
    print(f"| recipe | weights, M | GFLOP at {SIDE}² | numbers kept in training, M | field of view, pixels |")
    print("|---|---|---|---|---|")
    for recipe in ALL:
        spec = published(recipe)
        one = counted(spec, (SIDE, SIDE), 1, 3)
        print(
            f"| {recipe} | {one.parameters / 1e6:.1f} | {one.flops / 1e9:.0f} | {one.kept / 1e6:.0f} | "
            f"{field_of_view(spec)} |",
            flush=True,
        )


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--facts", action="store_true")
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--dimensions", default="3,2")
    parser.add_argument("--recipes", default=",".join(FAMILIES))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    asked = parser.parse_args()
    if asked.facts or asked.dataset is None:
        facts()
        return
    print("| recipe | D | mean Dice (95 % interval) | per label | steps | s/step | weights, M | memory, GB | wall, s |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for dimensions in asked.dimensions.split(","):
        for recipe in asked.recipes.split(","):
            settings = [f"network.dimensions={dimensions}", *asked.settings]
            print(trained(asked.dataset, recipe, asked.budget, settings), flush=True)


if __name__ == "__main__":
    main()
