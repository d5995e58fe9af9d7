"""The loss of a plan, on one or several resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

from medseg.networks import halving
from medseg.plan import (
    Boundary,
    CentrelineDice,
    CrossEntropy,
    Dice,
    DiceCrossEntropy,
    DiceFocal,
    Focal,
    GeneralisedDice,
    Tversky,
)
from medseg.training.loss_overlap import dice, generalised_dice, tversky
from medseg.training.loss_row import Row
from medseg.training.loss_shape import boundary, centreline_dice
from medseg.training.loss_voxels import cross_entropy, focal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.plan import Loss


class SegmentationLoss(nn.Module):
    """The loss a plan names, of logits against labels; voxels labelled -1 are left out of every part of it.

    A network may give several rows of logits: on coarser grids (deep supervision, Lee 2015, arXiv:1409.5185), where the
    labels are taken by nearest neighbour, or more than one on the full grid (auxiliary heads, Zhao 2017,
    arXiv:1612.01105). It is computed in float32, whatever the network was computed in; logits in float64 stay so.

    Parameters
    ----------
    spec : Loss
        One of the losses of `medseg.plan`.
    weights : sequence of float, optional
        How much each row counts. By default each counts half as much as the one before it, and they add up to 1.
    spacing_mm : tuple of float, optional
        Spacing along the spatial axes of the full grid, for losses in mm; 1 mm by default.

    Examples
    --------
    >>> label = torch.tensor([[[0, 1], [1, -1]]])
    >>> logits = 50.0 * torch.stack([1 - label, label], dim=1)
    >>> SegmentationLoss(DiceCrossEntropy())(logits, label).item() < 1e-3
    True
    """

    def __init__(
        self, spec: Loss, weights: Sequence[float] | None = None, *, spacing_mm: tuple[float, ...] | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.weights = None if weights is None else tuple(weights)
        self.spacing_mm = spacing_mm

    def forward(self, logits: Tensor | tuple[Tensor, ...], label: Tensor) -> Tensor:
        """Return the loss of `logits` (N, classes, *spatial), or a row of them, against `label` (N, *spatial)."""
        if not isinstance(logits, tuple):
            return self._at_one_grid(logits, label)
        weights = self.weights or halving(len(logits))
        terms = [weight * self._at_one_grid(row, label) for weight, row in zip(weights, logits, strict=True)]
        return cast("Tensor", sum(terms))

    def _at_one_grid(self, logits: Tensor, label: Tensor) -> Tensor:
        full = label.shape[1:]
        spacing = self.spacing_mm or (1.0,) * len(full)
        spacing = tuple(s * n / m for s, n, m in zip(spacing, full, logits.shape[2:], strict=True))
        with torch.autocast(logits.device.type, enabled=False):
            exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
            return _loss(self.spec, Row.of(exact, _onto(label, exact)), spacing)


def _loss(spec: Loss, row: Row, spacing_mm: tuple[float, ...]) -> Tensor:
    match spec:
        case Dice() | GeneralisedDice() | Tversky():
            return _overlap(spec, row)
        case CrossEntropy():
            return cross_entropy(row, spec.class_weights)
        case Focal():
            return focal(row, gamma=spec.gamma, class_weights=spec.class_weights)
        case DiceFocal():
            by_voxel = focal(row, gamma=spec.gamma, class_weights=spec.class_weights)
            return spec.dice_weight * dice(row, batch=spec.batch_dice) + spec.focal_weight * by_voxel
        case DiceCrossEntropy() | Boundary() | CentrelineDice():
            by_voxel = cross_entropy(row, spec.class_weights)
            region = spec.dice_weight * dice(row, batch=spec.batch_dice) + spec.cross_entropy_weight * by_voxel
            return region + _shape(spec, row, spacing_mm)


def _overlap(spec: Dice | GeneralisedDice | Tversky, row: Row) -> Tensor:
    match spec:
        case Dice():
            return dice(row, batch=spec.batch_dice, squared=spec.squared)
        case GeneralisedDice():
            return generalised_dice(row, batch=spec.batch_dice)
        case Tversky():
            return tversky(row, alpha=spec.alpha, beta=spec.beta, gamma=spec.gamma, batch=spec.batch_dice)


def _shape(
    spec: DiceCrossEntropy | Boundary | CentrelineDice, row: Row, spacing_mm: tuple[float, ...]
) -> Tensor | float:
    match spec:
        case DiceCrossEntropy():
            return 0.0
        case Boundary():
            return spec.boundary_weight * boundary(row, spacing_mm=spacing_mm)
        case CentrelineDice():
            return spec.cldice_weight * centreline_dice(row, iterations=spec.iterations, batch=spec.batch_dice)


def _onto(label: Tensor, row: Tensor) -> Tensor:
    """Return labels on the grid of a row of logits."""
    if label.shape[1:] == row.shape[2:]:
        return label
    return F.interpolate(label[:, None].float(), row.shape[2:], mode="nearest-exact")[:, 0]
