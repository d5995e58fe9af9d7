"""A cheap look at how a network does: Dice over validation patches pooled, the same patches each time."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import torch

from medseg.labels import IGNORED
from medseg.networks import memory_format
from medseg.report.patches import patch_picture

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from medseg.plan import Plan
    from medseg.training.feed import Sampler

SHARE = 0.15
"""Validation patches per training patch of an epoch: with a forward pass a third of a step, 5 % of the time."""
FEWEST, MOST = 4, 64
PICTURES = 4


class PatchScore:
    """Dice of each label over validation patches, pooled before dividing (nnU-Net's "pseudo Dice").

    Ignored voxels do not count.

    Parameters
    ----------
    sampler : Sampler
        Gives validation patches of the plan's size.
    plan : Plan
        Says how many patches an epoch has, and the labels.
    """

    def __init__(self, sampler: Sampler, plan: Plan) -> None:
        self._sampler = sampler
        self._start = copy.deepcopy(sampler.state_dict())
        self._plan = plan
        train = plan.train
        self._patches = min(MOST, max(FEWEST, round(SHARE * train.steps_per_epoch * train.batch_size)))
        self.seconds_per_patch = 0.0
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def __call__(self, network: nn.Module, engine: Fabric) -> tuple[float | None, ...]:
        """Return one value per label: None where it was neither there nor predicted."""
        names = len(self._plan.labels)
        self._sampler.load_state_dict(copy.deepcopy(self._start))
        counts = torch.zeros(3, names + 1, dtype=torch.int64)
        self._seen.clear()
        started = time.monotonic()
        for _ in range(self._patches):
            image, label = self._next()
            with engine.autocast():
                logits = network(engine.to_device(image))
            found = logits.argmax(1).cpu()
            if len(self._seen) < PICTURES:
                self._seen.append((image[0], label[0], found[0]))
            decided = label != IGNORED
            predicted, label = found[decided], label[decided]
            hit = predicted[predicted == label]
            seen = (hit, predicted, label)
            counts += torch.stack([torch.bincount(v.flatten(), minlength=names + 1)[: names + 1] for v in seen])
        self.seconds_per_patch = (time.monotonic() - started) / self._patches
        return tuple(_dice(*column.tolist()) for column in counts.T[1:])

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Return pictures of the first patches of the last look, the same patches each time, by name."""
        colors = [label.color for label in self._plan.labels]
        arrays = ((image.numpy(), label.numpy(), found.numpy()) for image, label, found in self._seen)
        return {f"patches/{n}": patch_picture(*three, colors) for n, three in enumerate(arrays, start=1)}

    def _next(self) -> tuple[Tensor, Tensor]:
        image, label = self._sampler.draw(1)
        axis = self._plan.slice_axis
        if axis is not None:
            image, label = image.squeeze(2 + axis), label.squeeze(1 + axis)
        layout = memory_format(image.ndim - 2)
        return image.float().contiguous(memory_format=layout), label.long()


def _dice(hit: int, predicted: int, there: int) -> float | None:
    return 2 * hit / (predicted + there) if predicted + there else None
