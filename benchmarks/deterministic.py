"""What ``--deterministic`` costs: milliseconds a training step with it and without, in turns, on noise.

On a CPU they are of processor time, which other work on the machine disturbs least.

Usage: python benchmarks/deterministic.py [--device cuda]
The network is a U-Net of three levels, the patch 32 x 32 x 32, the batch two; each number is the median of rounds that
alternate.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from medseg.labels import LabelSet
from medseg.plan import Plan, PreprocessPlan, TrainPlan, UNetSpec, ZScore
from medseg.training.determinism import deterministic
from medseg.training.engine import make_engine
from medseg.training.feed import Batch
from medseg.training.learner import Learner

SIDE, ROUNDS, STEPS = 32, 7, 2


class Noise:
    """One batch, given again and again: only the network is timed."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(2, 1, SIDE, SIDE, SIDE, generator=generator)
        self._batch = Batch(image, (image[:, 0] > 1.0).long())

    def take(self) -> Batch:
        """Return the batch."""
        return self._batch


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    engine = make_engine(parser.parse_args().device)
    learner = Learner(_plan(), Noise(), engine=engine)  # type: ignore[arg-type]  # a stand-in
    took: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS + 1):  # the first warms up
        for wanted, times in took.items():
            with deterministic(wanted=wanted):
                times.append(_seconds(learner, engine.device.type))
    plain, exact = (1e3 * statistics.median(took[wanted][1:]) for wanted in (False, True))
    print(f"{engine.device}: {plain:.1f} ms a step, {exact:.1f} ms with --deterministic: {exact / plain:.3f} times")


def _seconds(learner: Learner, device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    for _ in range(STEPS):
        learner.step(1e-3)  # asks for the loss, so that a GPU has finished
    return (clock() - started) / STEPS


def _plan() -> Plan:
    spec = UNetSpec(
        dimensions=3,
        features=(32, 64, 128),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernels=((3, 3, 3),) * 3,
        deep_supervision=True,
    )
    return Plan(
        channels=("MR",),
        labels=LabelSet.from_names({1: "bright"}),
        preprocess=PreprocessPlan(spacing_mm=(1.0, 1.0, 1.0), normalisation=(ZScore(),)),
        network=spec,
        train=TrainPlan(patch_size=(SIDE,) * 3, batch_size=2),
    )


if __name__ == "__main__":
    main()
