"""How well a correct class mask falls into its objects: connected components beside the watershed, F1 by threshold.

Usage: python benchmarks/instances.py FOLDER [NECK ...]
FOLDER holds masks/ (class masks, PNG) and instances/ (the same cases as object numbers). The masks are those of the
references, so that what is measured is the step from mask to objects alone. Counts of all images together.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from medseg.evaluation import InstanceScore
from medseg.evaluation.instances import score_objects
from medseg.instances import separate
from medseg.io import read_segmentation
from medseg.io.objects import read_objects
from medseg.metrics import pooled
from medseg.plan import InstancePlan
from medseg.volume import Volume

SHOWN = (0, 5, 8)  # of the thresholds: 0.5, 0.75, 0.9


def scored(folder: Path, plan: InstancePlan) -> InstanceScore:
    """Return the score of all images together."""
    scores = []
    for place in sorted((folder / "instances").glob("*.png")):
        found = separate(read_segmentation(folder / "masks" / place.name), plan)
        scores.append(score_objects(Volume(found.array[None], found.geometry), read_objects(place)))
    return InstanceScore(tuple(pooled(at_one) for at_one in zip(*(s.counts for s in scores), strict=True)), None)


def main() -> None:
    """Print a table."""
    folder, necks = Path(sys.argv[1]), [float(word) for word in sys.argv[2:]] or [0.9]
    plans = {"components": InstancePlan(), "components, 4 neighbours": InstancePlan(connectivity=6)}
    plans |= {f"watershed, neck {neck:g}": InstancePlan(method="watershed", neck=neck) for neck in necks}
    print(f"{'':26} {'objects':>8} {'F1@0.5':>7} {'F1@0.75':>8} {'F1@0.9':>7} {'mean AP':>8} {'PQ':>6} {'s':>6}")
    for name, plan in plans.items():
        begun = time.perf_counter()
        score = scored(folder, plan)
        f1 = [score.counts[place].f1 or 0.0 for place in SHOWN]
        document = score.to_json()
        print(
            f"{name:26} {score.predicted:8} {f1[0]:7.3f} {f1[1]:8.3f} {f1[2]:7.3f} {document['mean_ap']:8.3f} "
            f"{document['pq']:6.3f} {time.perf_counter() - begun:6.1f}"
        )
    print(f"{'reference':26} {score.reference:8}")


if __name__ == "__main__":
    main()
