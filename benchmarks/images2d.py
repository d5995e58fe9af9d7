"""2-D pictures end to end: a U-Net trained on membranes and on nuclei, scored as their challenges score.

Usage: python benchmarks/images2d.py em FOLDER [--budget 8m]
       python benchmarks/images2d.py nuclei FOLDER [--budget 5m]

FOLDER holds images/ and masks/, of nuclei also instances/ (object numbers). Fold 0 is held out and scored, one seed.
em: pixel error and foreground-restricted Rand error (ISBI 2012) of the cells that the membranes part.
nuclei: mean IoU over background and nuclei of all pixels, and F1 of nuclei at an IoU of 0.5 and more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from medseg.evaluation.instances import score_objects
from medseg.instances import separate
from medseg.io import read_segmentation
from medseg.io.objects import read_objects
from medseg.metrics import pooled, rand_score
from medseg.plan import InstancePlan
from medseg.volume import Volume

RECIPES = {"em": "em_membrane", "nuclei": "nuclei"}
TOUCHING = InstancePlan(connectivity=6)  # cells on both sides of a membrane one pixel wide do not hang together


def trained(folder: Path, recipe: str, budget: str, run: Path) -> dict[str, object]:
    """Train, and return the scores of the held-out pictures."""
    command = ["train", str(folder), "-o", str(run), "-r", recipe, "--fold", "0", "--budget", budget, "--json"]
    done = subprocess.run([sys.executable, "-m", "medseg", *command], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    print(f"trained in {report['seconds']:.0f} s; fold 0 held out")
    return dict(json.loads((run / "fold_0" / "validation" / "metrics.json").read_text()))


def predictions(run: Path) -> list[Path]:
    """Return the masks of the held-out pictures."""
    return sorted((run / "fold_0" / "validation").glob("*/segmentation.nii.gz"))


def em(folder: Path, run: Path, document: dict[str, object]) -> None:
    """Print pixel error and Rand error."""
    scores = []
    for path in predictions(run):
        found = separate(read_segmentation(path), TOUCHING)
        true = separate(read_segmentation(folder / "masks" / f"{path.parent.name}.png"), TOUCHING)
        scores.append(rand_score(found.array, true.array))
    overall = document["summary"]["overall"]
    errors = [1 - score.f_score for score in scores]
    print(f"{len(scores)} pictures: pixel error {1 - overall['pixel_accuracy']:.4f}, Rand error {np.mean(errors):.4f}")
    print(f"  split {np.mean([s.split for s in scores]):.4f}, merge {np.mean([s.merge for s in scores]):.4f}")


def nuclei(folder: Path, run: Path, document: dict[str, object]) -> None:
    """Print mean IoU and F1 of objects, by components and by watershed."""
    overall = document["summary"]["overall"]
    print(f"{len(predictions(run))} pictures: mean IoU {overall['miou']:.4f}, accuracy {overall['pixel_accuracy']:.4f}")
    for method in ("components", "watershed"):
        counts = []
        for path in predictions(run):
            found = separate(read_segmentation(path), InstancePlan(method=method))
            true = read_objects(folder / "instances" / f"{path.parent.name}.png")
            counts.append(score_objects(Volume(found.array[None], found.geometry), true).counts[0])
        all_of_them = pooled(counts)
        print(
            f"  {method}: F1 at 0.5 {all_of_them.f1:.4f} ({all_of_them.tp} of {all_of_them.tp + all_of_them.fn} found)"
        )


def main() -> None:
    """Train and score."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=RECIPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", default="8m")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        document = trained(asked.folder, RECIPES[asked.data], asked.budget, run)
        {"em": em, "nuclei": nuclei}[asked.data](asked.folder, run, document)


if __name__ == "__main__":
    main()
