"""How long each loss takes, forward and backward, in milliseconds of processor time on one core.

Usage: python benchmarks/losses.py
The first line is MONAI's DiceCELoss with the settings of ``dice_ce``; each number is the least of fifteen.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from monai.losses import DiceCELoss

from medseg import plan
from medseg.training.loss import SegmentationLoss

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 15
PATCHES = ((3, 48), (9, 64))
"""Classes, and voxels along each side."""
KINDS = (
    plan.DiceCrossEntropy,
    plan.Dice,
    plan.CrossEntropy,
    plan.GeneralisedDice,
    plan.Focal,
    plan.DiceFocal,
    plan.Tversky,
    plan.Boundary,
    plan.CentrelineDice,
)


def main() -> None:
    """Print the least of some repeats, which other work on the machine disturbs least."""
    torch.set_num_threads(1)
    monai = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    rows: dict[str, Callable[..., torch.Tensor]] = {"MONAI": lambda logits, label: monai(logits, label[:, None])}
    rows |= {kind().kind: SegmentationLoss(kind()) for kind in KINDS}
    for name, loss in rows.items():
        times = [f"{1e3 * seconds(loss, classes, side):8.1f}" for classes, side in PATCHES]
        print(f"{name:18}", *times)


def seconds(loss: Callable[..., torch.Tensor], classes: int, side: int) -> float:
    """Return the seconds of one forward and backward pass over blocks of labels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, classes, side, side, side, generator=generator)
    logits = logits.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    index = torch.arange(side) // 12
    label = ((index[:, None, None] + index[:, None] + index) % classes)[None]
    took = []
    for _ in range(REPEATS):
        start = time.process_time()
        loss(logits, label).backward()
        took.append(time.process_time() - start)
    return min(took)


if __name__ == "__main__":
    main()
