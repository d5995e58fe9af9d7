from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medseg.plan import DiceCrossEntropy
from medseg.training.loss import SegmentationLoss


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 6, 8, generator=generator)
    label = torch.randint(0, 3, (2, 4, 6, 8), generator=generator)
    return logits, label


def _by_hand(logits: torch.Tensor, label: torch.Tensor, *, batch: bool) -> torch.Tensor:
    p = logits.double().softmax(1).flatten(2)
    y = F.one_hot(label, 3).movedim(-1, 1).double().flatten(2)
    axes = (0, 2) if batch else (2,)
    dice = 2 * (p * y).sum(axes) / (p.sum(axes) + y.sum(axes))
    return 1 - dice[..., 1:].mean() + F.cross_entropy(logits.double(), label)


@pytest.mark.parametrize("batch", [True, False])
def test_equals_the_formula(batch: bool) -> None:
    logits, label = _example()
    loss = SegmentationLoss(DiceCrossEntropy(batch_dice=batch))(logits, label)
    assert loss.item() == pytest.approx(_by_hand(logits, label, batch=batch).item(), rel=1e-5)


def test_coarser_grids_count_half_as_much() -> None:
    logits, label = _example()
    coarse = logits[:, :, ::2, ::2, ::2].contiguous()
    loss = SegmentationLoss(DiceCrossEntropy())
    target = F.interpolate(label[:, None].float(), coarse.shape[2:], mode="nearest-exact")[:, 0].long()
    expected = (loss(logits, label) + 0.5 * loss(coarse, target)) / 1.5
    torch.testing.assert_close(loss((logits, coarse), label), expected)


def test_labels_of_any_integer_type_and_bfloat16_logits() -> None:
    logits, label = _example()
    loss = SegmentationLoss(DiceCrossEntropy())
    assert loss(logits, label.to(torch.uint8)) == loss(logits, label)
    assert loss(logits.bfloat16(), label).dtype == torch.float32


def test_a_patch_of_background_only_is_finite_and_has_a_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    loss = SegmentationLoss(DiceCrossEntropy())(logits, torch.zeros(1, 4, 4, 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


def test_weights_choose_the_parts() -> None:
    logits, label = _example()
    only_ce = SegmentationLoss(DiceCrossEntropy(dice_weight=0.0))(logits, label)
    assert only_ce.item() == pytest.approx(F.cross_entropy(logits, label).item(), rel=1e-5)
