"""Losses of overlap equal MONAI's and the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss, GeneralizedDiceLoss, TverskyLoss

from medseg.training.loss_overlap import dice, generalised_dice, tversky
from medseg.training.loss_row import Row

SHAPES = [(2, 3, 6, 7), (2, 4, 4, 6, 5), (1, 2, 5, 5)]
MONAI = {"to_onehot_y": True, "softmax": True}


def example(shape: tuple[int, ...], *, absent: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    label = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    return logits, torch.where(label == absent, 0, label) if absent is not None else label


@pytest.mark.parametrize("absent", [None, 1])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_overlap_losses_equal_monais(shape: tuple[int, ...], batch: bool, absent: int | None):
    logits, label = example(shape, absent=absent)
    row, target = Row.of(logits, label), label[:, None]
    for squared in (False, True):
        oracle = DiceLoss(include_background=False, batch=batch, squared_pred=squared, **MONAI)
        torch.testing.assert_close(dice(row, batch=batch, squared=squared), oracle(logits, target))
    for alpha, beta in ((0.3, 0.7), (0.5, 0.5), (0.0, 1.0)):
        oracle = TverskyLoss(include_background=False, batch=batch, alpha=alpha, beta=beta, **MONAI)
        torch.testing.assert_close(tversky(row, alpha=alpha, beta=beta, batch=batch), oracle(logits, target))
    if (
        absent is None or shape[1] > 2
    ):  # MONAI divides 0 by 0 where it does not smooth and nothing but background is there
        oracle = GeneralizedDiceLoss(batch=batch, smooth_nr=0, smooth_dr=1e-12, **MONAI)
        torch.testing.assert_close(generalised_dice(row, batch=batch), oracle(logits, target), rtol=1e-5, atol=1e-5)


def test_generalised_dice_is_sudres_formula():
    logits, label = example((1, 3, 6, 6))
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    y = np.moveaxis(np.eye(3)[label.numpy()], -1, 1)
    weight = 1 / y.sum((0, 2, 3)) ** 2
    expected = 1 - 2 * (weight * (p * y).sum((0, 2, 3))).sum() / (weight * (p + y).sum((0, 2, 3))).sum()
    assert generalised_dice(Row.of(logits, label)).item() == pytest.approx(expected, rel=1e-5)


def test_generalised_dice_sees_a_large_patch_of_background():
    logits = torch.zeros(1, 3, 64, 64, 64)
    loss = generalised_dice(Row.of(logits, torch.zeros(1, 64, 64, 64)))
    assert loss.item() > 0.5  # weights of 1 over a squared volume would drown in the smoothing


def test_tversky_of_halves_is_dice_and_the_power_is_abrahams():
    logits, label = example((2, 3, 6, 7))
    row = Row.of(logits, label)
    torch.testing.assert_close(tversky(row, alpha=0.5, beta=0.5), dice(row), rtol=1e-6, atol=1e-6)
    p, y = row.p[:, 1:].sum((0, 2, 3)), row.y[:, 1:].sum((0, 2, 3))
    shared = (row.p * row.y)[:, 1:].sum((0, 2, 3))
    index = shared / (shared + 0.3 * (p - shared) + 0.7 * (y - shared))
    focal = tversky(row, alpha=0.3, beta=0.7, gamma=4 / 3)
    torch.testing.assert_close(focal, ((1 - index) ** 0.75).mean(), rtol=1e-5, atol=1e-5)


def test_alpha_weighs_false_positives_and_beta_false_negatives():
    label = torch.tensor([[[0, 0, 1, 1]]])
    too_much, too_little = torch.tensor([[[0, 1, 1, 1]]]), torch.tensor([[[0, 0, 0, 1]]])
    rows = [Row.of(40.0 * torch.stack([1 - said, said], 1), label) for said in (too_much, too_little)]
    assert tversky(rows[0], alpha=0.9, beta=0.1) > tversky(rows[0], alpha=0.1, beta=0.9)
    assert tversky(rows[1], alpha=0.9, beta=0.1) < tversky(rows[1], alpha=0.1, beta=0.9)
