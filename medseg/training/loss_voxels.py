"""Losses of single voxels, averaged: cross-entropy and its focal form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

from medseg.labels import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.training.loss_row import Row

LEAST_MISS = 1e-7
"""A power below 1 is as steep as one likes at zero; below this its gradient is not followed."""


def cross_entropy(row: Row, class_weights: tuple[float, ...] = ()) -> Tensor:
    """Return the mean of -log p of each voxel's label, weighted by the class of the label.

    Examples
    --------
    >>> import torch
    >>> from medseg.training.loss_row import Row
    >>> row = Row.of(torch.tensor([[[0.0, 0.0], [0.0, 9.0]]]), torch.tensor([[0, -1]]))
    >>> round(cross_entropy(row).item(), 4)  # log 2
    0.6931
    """
    return row.mean_over_voxels(_surprise(row), class_weights)


def focal(row: Row, *, gamma: float, class_weights: tuple[float, ...] = ()) -> Tensor:
    """Return the mean of -(1 - p) ** gamma * log p over the voxels (Lin 2017, arXiv:1708.02002, with softmax).

    The mean is weighted as in `cross_entropy`, so a gamma of 0 is exactly that.
    """
    surprise = _surprise(row)
    miss = (-surprise).expm1().neg().clamp(min=LEAST_MISS)
    return row.mean_over_voxels(miss.pow(gamma) * surprise, class_weights)


def _surprise(row: Row) -> Tensor:
    """Return -log p of the label, (N, *spatial); 0 where a voxel is ignored."""
    return F.nll_loss(row.log_p, row.label, ignore_index=IGNORED, reduction="none")
