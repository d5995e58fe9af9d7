"""A network's answer beside the labels on one grid: what every loss is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from medseg.labels import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Row:
    """Logits and labels on one grid; what several terms of a loss need is made once.

    Attributes
    ----------
    log_p : Tensor
        Logarithm of the softmax, (N, classes, *spatial).
    label : Tensor
        int64 (N, *spatial); `IGNORED` where nobody labelled.
    counted : Tensor or None
        (N, 1, *spatial), 1 where a voxel counts and 0 where it is ignored; None where all count.

    Examples
    --------
    >>> row = Row.of(torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, -1]]]))
    >>> row.p[0, 1].tolist(), row.y[0, 1].tolist()
    ([[0.5, 0.5, 0.0]], [[0.0, 1.0, 0.0]])
    """

    log_p: Tensor
    label: Tensor
    counted: Tensor | None

    @classmethod
    def of(cls, logits: Tensor, label: Tensor) -> Row:
        """Return the row of `logits` (N, classes, *spatial) and integer labels (N, *spatial)."""
        ignored = label == IGNORED
        counted = (~ignored)[:, None].to(logits.dtype) if bool(ignored.any()) else None
        return cls(logits.log_softmax(1), label.long(), counted)

    @cached_property
    def p(self) -> Tensor:
        """Softmax probabilities (N, classes, *spatial), 0 where a voxel is ignored."""
        p = self.log_p.exp()
        return p if self.counted is None else p * self.counted

    @cached_property
    def y(self) -> Tensor:
        """One-hot labels (N, classes, *spatial), all 0 where a voxel is ignored."""
        classes = torch.arange(self.log_p.shape[1], device=self.label.device)
        if self.log_p.stride(1) == 1:  # channels last, which products of the two should stay in
            return (self.label[..., None] == classes).to(self.log_p.dtype).movedim(-1, 1)
        return (self.label[:, None] == classes.view(1, -1, *[1] * (self.label.ndim - 1))).to(self.log_p.dtype)

    def per_class(self, values: Tensor, *, batch: bool) -> Tensor:
        """Return sums over the voxels, (N, classes), or (1, classes) over the whole batch."""
        sums = values.flatten(2).sum(2)
        return sums.sum(0, keepdim=True) if batch else sums

    def mean_over_cases(self, terms: Tensor) -> Tensor:
        """Return the mean of terms (N or 1, classes) over classes and cases; wholly ignored cases are left out."""
        if self.counted is None:
            return terms.mean()
        seen = self.counted.flatten(1).amax(1)
        if len(terms) < len(seen):
            seen = seen.amax(0, keepdim=True)
        return (terms.mean(1) * seen).sum() / seen.sum().clamp(min=1)

    def mean_over_voxels(self, values: Tensor, class_weights: tuple[float, ...] = ()) -> Tensor:
        """Return the mean of values (N, *spatial) over the voxels that count, each weighted by its label's class."""
        weights = None if self.counted is None else self.counted[:, 0]
        if class_weights:
            of_class = values.new_tensor(class_weights)[self.label.clamp(min=0)]
            weights = of_class if weights is None else of_class * weights
        if weights is None:
            return values.mean()
        return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)
