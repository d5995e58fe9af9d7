"""Losses of voxels equal PyTorch's, MONAI's and the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import FocalLoss
from torch.nn import functional as F

from medseg.training.loss_row import Row
from medseg.training.loss_voxels import cross_entropy, focal

GENERATOR = torch.Generator().manual_seed(2)
LOGITS = torch.randn(2, 3, 4, 5, 6, generator=GENERATOR)
LABEL = torch.randint(-1, 3, (2, 4, 5, 6), generator=GENERATOR)


@pytest.mark.parametrize("weights", [(), (0.2, 1.0, 3.0), (0.0, 1.0, 1.0)])
def test_cross_entropy_equals_pytorchs(weights: tuple[float, ...]):
    oracle = F.cross_entropy(LOGITS, LABEL, torch.tensor(weights) if weights else None, ignore_index=-1)
    torch.testing.assert_close(cross_entropy(Row.of(LOGITS, LABEL), weights), oracle)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_equals_monais_and_lins_formula(gamma: float):
    whole = LABEL.clamp(min=0)
    ours = focal(Row.of(LOGITS, whole), gamma=gamma)
    oracle = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma)(LOGITS, whole[:, None])
    torch.testing.assert_close(ours, oracle * 3)  # MONAI divides by the number of classes, too
    p = LOGITS.double().softmax(1).gather(1, whole[:, None]).numpy()
    assert ours.item() == pytest.approx(float((-((1 - p) ** gamma) * np.log(p)).mean()), rel=1e-5)


def test_focal_without_focus_is_cross_entropy_weights_included():
    row = Row.of(LOGITS, LABEL)
    torch.testing.assert_close(focal(row, gamma=0, class_weights=(1, 2, 3)), cross_entropy(row, (1, 2, 3)))


def test_focal_hardly_sees_easy_voxels():
    easy, hard = (Row.of(torch.tensor([[[0.0], [x]]]), torch.tensor([[1]])) for x in (4.0, -4.0))
    plain = cross_entropy(hard) / cross_entropy(easy)
    assert focal(hard, gamma=2.0) / focal(easy, gamma=2.0) > 100 * plain


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_a_certain_voxel_has_a_finite_gradient(gamma: float):
    logits = torch.tensor([[[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]]], requires_grad=True)
    focal(Row.of(logits, torch.tensor([[0, 0, 1]])), gamma=gamma).backward()
    assert torch.isfinite(logits.grad).all()
