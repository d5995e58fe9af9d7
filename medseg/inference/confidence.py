"""How sure a network is of what it labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Confidence:
    """The mean, over the voxels that won as a label, of the largest softmax probability.

    Examples
    --------
    >>> import numpy as np
    >>> confidence = Confidence()
    >>> confidence.add(torch.tensor([[0.0, 5.0], [0.0, 0.0]]).reshape(2, 1, 1, 2), np.array([[[1, 0]]]))
    >>> confidence.mean
    0.5
    """

    def __init__(self) -> None:
        self._sum, self._voxels = 0.0, 0

    def add(self, logits_kzyx: Tensor, mask_zyx: NDArray[Any]) -> None:
        """Take note of slices: their scores (K, n, Y, X), and which label won where."""
        rows = logits_kzyx.permute(1, 2, 3, 0)[torch.from_numpy(mask_zyx > 0)]
        odds = rows.sub_(rows.amax(dim=1, keepdim=True)).exp_().sum(dim=1)  # of all classes against the one that won
        self._sum += float(odds.reciprocal_().sum(dtype=torch.float64))
        self._voxels += len(rows)

    @property
    def mean(self) -> float | None:
        """None where no label won anywhere."""
        return self._sum / self._voxels if self._voxels else None
