"""The CRF after the network: the one step that sees all voxels at once, and keeps their scores in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg import scratch
from medseg.networks.crf import mean_field
from medseg.tiling import SLAB_BYTES, Slab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.inference.clock import Clock
    from medseg.plan import CrfPlan, Plan
    from medseg.preprocess import WorkingImage
    from medseg.progress import Progress


def refined(
    slabs: Iterator[Slab], image: WorkingImage, plan: Plan, crf: CrfPlan, *, clock: Clock, progress: Progress
) -> Iterator[Slab]:
    """Yield slabs of log-probabilities that a CRF makes of the network's scores; what is held of them lies in files.

    Parameters
    ----------
    slabs : iterator of Slab
        All slabs of the scores, in rising order.
    image : WorkingImage
        What the network saw.
    plan : Plan
        The model's: its classes, and its slice axis where it is a 2-D network.
    crf : CrfPlan
        The CRF.
    clock : Clock
        Told the time of step ``crf``.
    progress : Progress
        Told the iterations.

    Raises
    ------
    InputError
        Where there is no place for the scores on the disk.
    """
    scores = scratch.empty((len(plan.labels) + 1, *image.geometry.shape))
    for start, part in slabs:
        scores[:, start : start + part.shape[1]] = part.numpy()
        scratch.let_go(scores)
    with clock("crf"):
        mean_field(
            torch.from_numpy(scores),
            image.whole(),
            crf,
            spacing_mm=image.geometry.spacing_mm,
            slice_axis=plan.slice_axis,
            progress=progress,
            out=scores,
        )
    depth = max(1, SLAB_BYTES // scores[:, 0].nbytes)
    for start in range(0, scores.shape[1], depth):
        part = torch.from_numpy(scores[:, start : start + depth].copy())
        scratch.let_go(scores)
        yield Slab(start, part)
