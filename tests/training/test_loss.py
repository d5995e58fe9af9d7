"""The loss of a plan: its rows, its numbers, the voxels it leaves out, and that it can be learnt from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss
from torch import nn
from torch.nn import functional as F

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
from medseg.training.loss import SegmentationLoss

LOSSES = {
    "dice_ce": DiceCrossEntropy(),
    "dice_ce by case": DiceCrossEntropy(batch_dice=False, class_weights=(0.5, 1.0, 2.0)),
    "dice": Dice(),
    "dice by case, squared": Dice(batch_dice=False, squared=True),
    "cross_entropy": CrossEntropy(),
    "cross_entropy weighted": CrossEntropy(class_weights=(0.5, 1.0, 2.0)),
    "generalised_dice": GeneralisedDice(),
    "generalised_dice by case": GeneralisedDice(batch_dice=False),
    "focal": Focal(class_weights=(0.5, 1.0, 2.0)),
    "dice_focal": DiceFocal(),
    "tversky": Tversky(),
    "tversky, focal": Tversky(gamma=4 / 3, batch_dice=False),
    "boundary": Boundary(),
    "cldice": CentrelineDice(batch_dice=False),
}
every_loss = pytest.mark.parametrize("spec", LOSSES.values(), ids=LOSSES)


def _example(*spatial: int) -> tuple[torch.Tensor, torch.Tensor]:
    spatial = spatial or (4, 6, 8)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, *spatial, generator=generator)
    label = torch.randint(0, 3, (2, *spatial), generator=generator)
    return logits, label


def _logits_of(label: torch.Tensor, sure: float) -> torch.Tensor:
    return sure * F.one_hot(label.clamp(min=0), 3).movedim(-1, 1).float()


# -- the default, and rows -----------------------------------------------------------------------------------------


def _by_hand(logits: torch.Tensor, label: torch.Tensor, *, batch: bool) -> torch.Tensor:
    p = logits.double().softmax(1).flatten(2)
    y = F.one_hot(label, 3).movedim(-1, 1).double().flatten(2)
    axes = (0, 2) if batch else (2,)
    dice = 2 * (p * y).sum(axes) / (p.sum(axes) + y.sum(axes))
    return 1 - dice[..., 1:].mean() + F.cross_entropy(logits.double(), label)


@pytest.mark.parametrize("batch", [True, False])
def test_equals_the_formula_and_monai(batch: bool):
    logits, label = _example()
    loss = SegmentationLoss(DiceCrossEntropy(batch_dice=batch))(logits, label)
    assert loss.item() == pytest.approx(_by_hand(logits, label, batch=batch).item(), rel=1e-5)
    oracle = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=batch)
    torch.testing.assert_close(loss, oracle(logits, label[:, None]))
    channels_last = logits.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(SegmentationLoss(DiceCrossEntropy(batch_dice=batch))(channels_last, label), loss)


def test_dice_focal_is_the_sum_of_both():
    logits, label = _example()
    dice = DiceLoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)(logits, label[:, None])
    focal = 3 * FocalLoss(to_onehot_y=True, use_softmax=True, gamma=3.0)(logits, label[:, None])
    loss = SegmentationLoss(DiceFocal(dice_weight=0.5, focal_weight=2.0, gamma=3.0))(logits, label)
    torch.testing.assert_close(loss, 0.5 * dice + 2.0 * focal)


def test_coarser_grids_count_half_as_much():
    logits, label = _example()
    coarse = logits[:, :, ::2, ::2, ::2].contiguous()
    loss = SegmentationLoss(DiceCrossEntropy())
    target = F.interpolate(label[:, None].float(), coarse.shape[2:], mode="nearest-exact")[:, 0].long()
    expected = (loss(logits, label) + 0.5 * loss(coarse, target)) / 1.5
    torch.testing.assert_close(loss((logits, coarse), label), expected)


@every_loss
def test_rows_count_by_their_weights_whatever_their_grid(spec):
    logits, label = _example()
    auxiliary, coarse = logits.flip(0), logits[:, :, ::2, ::2, ::2]
    loss = SegmentationLoss(spec, (1.0, 0.4, 0.25), spacing_mm=(3.0, 1.0, 1.0))
    target = F.interpolate(label[:, None].float(), coarse.shape[2:], mode="nearest-exact")[:, 0]
    on_coarse = SegmentationLoss(spec, spacing_mm=(6.0, 2.0, 2.0))(coarse, target)
    expected = loss(logits, label) + 0.4 * loss(auxiliary, label) + 0.25 * on_coarse
    torch.testing.assert_close(loss((logits, auxiliary, coarse), label), expected)


def test_as_many_weights_as_rows():
    logits, label = _example()
    with pytest.raises(ValueError, match="longer"):
        SegmentationLoss(Dice(), (1.0,))((logits, logits), label)


def test_weights_choose_the_parts():
    logits, label = _example()
    only_ce = SegmentationLoss(DiceCrossEntropy(dice_weight=0.0))(logits, label)
    assert only_ce.item() == pytest.approx(F.cross_entropy(logits, label).item(), rel=1e-5)
    plain = SegmentationLoss(DiceCrossEntropy())(logits, label)
    assert SegmentationLoss(CentrelineDice())(logits, label) > plain
    assert SegmentationLoss(Boundary())(logits, label) > plain


# -- numbers -------------------------------------------------------------------------------------------------------


@every_loss
def test_labels_of_any_type_and_float32_whatever_the_network(spec):
    logits, label = _example()
    loss = SegmentationLoss(spec)
    assert loss(logits, label.to(torch.uint8)) == loss(logits, label.float()) == loss(logits, label)
    assert loss(logits.bfloat16(), label).dtype == torch.float32
    plain = loss(logits, label)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(logits, label), plain, rtol=0, atol=0)


@every_loss
@pytest.mark.parametrize("sure", [0.0, 1.0, 300.0])
def test_a_patch_of_background_only_is_finite(spec, sure: float):
    logits = (sure * torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
    loss = SegmentationLoss(spec)(logits, torch.zeros(2, 4, 4, 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert sure == 300.0 or logits.grad.abs().sum() > 0


@every_loss
def test_gradients_are_those_of_the_values(spec):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.randint(-1, 3, (2, 4, 5), generator=generator)
    assert torch.autograd.gradcheck(lambda x: SegmentationLoss(spec)(x, label), logits)


@every_loss
def test_falls_as_the_prediction_improves(spec):
    _, label = _example(8, 8, 8)
    label[:, :4] = 0
    loss = SegmentationLoss(spec)
    values = [loss(_logits_of(label, sure), label).item() for sure in (-2.0, 0.0, 1.0, 3.0, 9.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.05 * values[1]


# -- voxels nobody labelled ----------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("spatial", [(8, 8), (6, 6, 8)])
def test_ignored_voxels_have_no_part(spec, spatial: tuple[int, ...]):
    logits, label = _example(*spatial)
    generator = torch.Generator().manual_seed(5)
    ignored = torch.rand(label.shape, generator=generator) < 0.4
    label[ignored] = -1
    coarse = logits[(..., *(slice(None, None, 2),) * len(spatial))].clone().requires_grad_()
    logits.requires_grad_()
    loss = SegmentationLoss(spec, (1.0, 0.5))
    value = loss((logits, coarse), label)
    value.backward()
    hidden = ignored[:, None].expand_as(logits)
    assert (logits.grad[hidden] == 0).all()
    assert (logits.grad[~hidden] != 0).any()
    hidden_coarse = F.interpolate(ignored[:, None].float(), coarse.shape[2:], mode="nearest-exact").bool()
    assert (coarse.grad[hidden_coarse.expand_as(coarse)] == 0).all()
    other = torch.where(hidden, 9 * torch.randn(logits.shape, generator=generator), logits.detach())
    torch.testing.assert_close(loss((other, coarse), label), value)


@every_loss
def test_a_batch_nobody_labelled_is_worth_nothing(spec):
    logits = _example()[0].requires_grad_()
    loss = SegmentationLoss(spec)((logits, logits[:, :, ::2]), torch.full((2, 4, 6, 8), -1))
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()


@every_loss
def test_a_case_nobody_labelled_is_as_good_as_none(spec):
    logits, label = _example()
    label[1] = -1
    loss = SegmentationLoss(spec)
    torch.testing.assert_close(loss(logits, label), loss(logits[:1], label[:1]))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cldice"])  # whose padding is not like its border
def test_an_ignored_border_is_as_good_as_none(name: str):
    logits, label = _example()
    loss = SegmentationLoss(LOSSES[name])
    alone = loss(logits, label)
    padded = F.pad(label, (2, 1, 0, 3), value=-1)
    torch.testing.assert_close(loss(F.pad(logits, (2, 1, 0, 3), value=5.0), padded), alone)


# -- learning ------------------------------------------------------------------------------------------------------


def _phantom() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a bright and a dark ball in noise, some of it not labelled."""
    random = np.random.default_rng(0)
    z, y, x = np.ogrid[:12, :16, :16]
    label = np.where((z - 6) ** 2 + (y - 5) ** 2 + (x - 5) ** 2 < 36, 1, 0)
    label[(z - 6) ** 2 + (y - 11) ** 2 + (x - 11) ** 2 < 30] = 2
    image = np.array([0.0, 3.0, -3.0])[label] + random.normal(0, 0.3, label.shape)
    label[:, :, :2] = -1
    return torch.from_numpy(image[None, None]).float(), torch.from_numpy(label[None])


@every_loss
def test_a_tiny_network_halves_it_on_a_phantom(spec):
    image, label = _phantom()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, 3, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    loss = SegmentationLoss(spec, spacing_mm=(2.0, 1.0, 1.0))
    values = []
    for _ in range(21):
        optimizer.zero_grad()
        value = loss(network(image), label)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]
