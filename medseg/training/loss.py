"""Dice plus cross-entropy, on one or several resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from monai.losses.dice import DiceCELoss
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.plan import DiceCrossEntropy


class SegmentationLoss(nn.Module):
    """Soft Dice of the labels (Milletari 2016, arXiv:1606.04797) plus cross-entropy of all classes.

    Where a network gives logits on several grids (deep supervision, Lee 2015, arXiv:1409.5185), each coarser grid
    counts half as much as the one before it, the weights add up to 1, and the labels are taken by nearest neighbour.

    Parameters
    ----------
    spec : DiceCrossEntropy
        Weights of the two parts, and whether overlap is summed over the batch.

    Examples
    --------
    >>> import torch
    >>> from medseg.plan import DiceCrossEntropy
    >>> label = torch.tensor([[[0, 1], [1, 0]]])
    >>> logits = 50.0 * torch.stack([1 - label, label], dim=1)
    >>> SegmentationLoss(DiceCrossEntropy())(logits, label).item() < 1e-3
    True
    """

    def __init__(self, spec: DiceCrossEntropy) -> None:
        super().__init__()
        self.at_one_grid = DiceCELoss(
            include_background=False,
            to_onehot_y=True,
            softmax=True,
            batch=spec.batch_dice,
            lambda_dice=spec.dice_weight,
            lambda_ce=spec.cross_entropy_weight,
        )

    def forward(self, logits: Tensor | tuple[Tensor, ...], label: Tensor) -> Tensor:
        """Return the loss of `logits` (N, classes, *spatial), or a row of them, against `label` (N, *spatial)."""
        rows = logits if isinstance(logits, tuple) else (logits,)
        weights = [0.5**i for i in range(len(rows))]
        target = label[:, None].float()
        terms = [self.at_one_grid(row.float(), _onto(target, row)) for row in rows]
        weighted = [weight * term for weight, term in zip(weights, terms, strict=True)]
        return cast("Tensor", sum(weighted) / sum(weights))


def _onto(target: Tensor, row: Tensor) -> Tensor:
    """Return labels on the grid of a row of logits."""
    if target.shape[2:] == row.shape[2:]:
        return target
    return F.interpolate(target, row.shape[2:], mode="nearest-exact")
