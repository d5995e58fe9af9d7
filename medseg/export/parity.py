"""How far an exported member is from PyTorch's: logits, labels, and Dice, on the example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.inference.exported import MemberParity

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.labels import LabelSet


def compared(expected: Tensor, found: Tensor, labels: LabelSet) -> MemberParity:
    """Return how far logits are from those expected.

    Parameters
    ----------
    expected, found : (N, K, *spatial) float32
        Logits of PyTorch and of the exported member.
    labels : LabelSet
        The K - 1 labels, by rising id as the channels are.

    Examples
    --------
    >>> import torch
    >>> from medseg.labels import LabelSet
    >>> logits = torch.tensor([[[2.0, 0.0], [1.0, 4.0]]])
    >>> record = compared(logits, logits + 0.5, LabelSet.from_names({1: "liver"}))
    >>> record.max_absolute, record.max_relative, record.share_equal, record.dice
    (0.5, 0.125, 1.0, {'liver': 1.0})
    """
    largest = float((found - expected).abs().max())
    ours, theirs = expected.argmax(dim=1), found.argmax(dim=1)
    return MemberParity(
        max_absolute=largest,
        max_relative=largest / max(float(expected.abs().max()), 1e-12),
        share_equal=float((ours == theirs).double().mean()),
        dice={name: _dice(ours == k, theirs == k) for k, name in enumerate(labels.names, start=1)},
    )


def _dice(a: Tensor, b: Tensor) -> float | None:
    """Return the Dice of two masks; None where both are empty."""
    voxels = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / voxels if voxels else None
