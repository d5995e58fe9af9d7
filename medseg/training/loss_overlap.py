"""Losses of overlap: how far prediction and labels are from covering the same voxels.

All are 1 minus a share. `SMOOTH`, a part of one voxel, is added above and below the line: a class that is neither there
nor predicted is a perfect one, and nothing is divided by zero. With ``batch=True`` voxels are counted over the whole
batch before dividing, otherwise in each case by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.training.loss_row import Row

SMOOTH = 1e-5
LEAST_BASE = 1e-6
"""A root is as steep as one likes at zero; below this its gradient is not followed."""


def dice(row: Row, *, batch: bool = True, squared: bool = False) -> Tensor:
    """Return 1 minus the mean soft Dice of all classes but the background (Milletari 2016, arXiv:1606.04797).

    Examples
    --------
    >>> from medseg.training.loss_row import Row
    >>> label = torch.tensor([[0, 1, 1, 0]])
    >>> round(dice(Row.of(torch.zeros(1, 2, 4), label)).item(), 4)  # 1 minus 2 * 1 over 2 + 2 voxels
    0.5
    """
    p = row.p * row.p if squared else row.p
    shared = row.per_class(row.p * row.y, batch=batch)[:, 1:]
    both = (row.per_class(p, batch=batch) + row.per_class(row.y, batch=batch))[:, 1:]
    return row.mean_over_cases(1 - (2 * shared + SMOOTH) / (both + SMOOTH))


def generalised_dice(row: Row, *, batch: bool = True) -> Tensor:
    """Return 1 minus the generalised Dice of all classes together, background included (Sudre 2017, arXiv:1707.03237).

    A class is weighted by one over its squared volume. Only the ratio of weights matters, so the smallest class that is
    there has weight 1, and a class that is not there as well: else its false positives would weigh infinitely.
    """
    volume = row.per_class(row.y, batch=batch)
    there = volume > 0
    smallest = volume.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    weight = torch.where(there, (smallest / volume.clamp(min=1)).square(), 1.0)
    shared = (weight * row.per_class(row.p * row.y, batch=batch)).sum(1, keepdim=True)
    both = (weight * (row.per_class(row.p, batch=batch) + volume)).sum(1, keepdim=True)
    return row.mean_over_cases(1 - (2 * shared + SMOOTH) / (both + SMOOTH))


def tversky(row: Row, *, alpha: float, beta: float, gamma: float = 1.0, batch: bool = True) -> Tensor:
    """Return the Tversky loss of all classes but the background, to the power 1 / gamma.

    Salehi 2017 (arXiv:1706.05721): `alpha` weighs false positives, `beta` false negatives. The power is that of
    Abraham 2019 (arXiv:1810.07842), who gives alpha to the false negatives.
    """
    shared = row.per_class(row.p * row.y, batch=batch)[:, 1:]
    false_positive = row.per_class(row.p, batch=batch)[:, 1:] - shared
    false_negative = row.per_class(row.y, batch=batch)[:, 1:] - shared
    loss = 1 - (shared + SMOOTH) / (shared + alpha * false_positive + beta * false_negative + SMOOTH)
    return row.mean_over_cases(loss if gamma == 1.0 else loss.clamp(min=LEAST_BASE).pow(1 / gamma))
