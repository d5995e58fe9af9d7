"""Distances in mm and skeletons: against SciPy, MONAI and shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import BoundaryLoss, SoftclDiceLoss

from medseg.training.loss_row import Row
from medseg.training.loss_shape import boundary, centreline_dice, signed_distance_mm


def example(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=generator), torch.randint(
        0, shape[1], (shape[0], *shape[2:]), generator=generator
    )


def block(*shape: int) -> np.ndarray:
    label = np.zeros(shape, dtype=np.int64)
    label[tuple(slice(n // 4, n - n // 4) for n in shape)] = 1
    return label


def test_distances_are_in_mm_along_each_axis():
    label = block(8, 8, 8)
    found = signed_distance_mm(label, 1, (3.0, 1.0, 0.5))
    assert found[0, 4, 4] == 6.0
    assert found[4, 0, 4] == 2.0
    assert found[4, 4, 0] == 1.0
    assert found[4, 4, 2] == -0.5
    assert ((found < 0) == (label == 1)).all()


def test_distances_equal_a_search_over_all_voxels():
    random = np.random.default_rng(0)
    label = random.integers(-1, 3, (4, 5, 6))
    spacing = np.array([2.0, 1.0, 0.7])
    places = np.argwhere(np.ones_like(label)) * spacing
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    flat = label.ravel()
    for k in (0, 1, 2):
        to_inside = apart[:, flat == k].min(1)
        to_outside = apart[:, (flat != k) & (flat >= 0)].min(1)
        expected = np.where(flat == k, -to_outside, np.where(flat >= 0, to_inside, 0)).reshape(label.shape)
        np.testing.assert_allclose(signed_distance_mm(label, k, tuple(spacing)), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (1, 3, 6, 7, 8)])
def test_boundary_equals_monais_but_for_the_two_known_constants(shape: tuple[int, ...]):
    logits, label = example(*shape)
    row = Row.of(logits, label)
    oracle = BoundaryLoss(include_background=False, to_onehot_y=True, softmax=True)
    # MONAI counts the outermost voxels of a class as distance 0, ours as one voxel inside; ours is 0 at the labels
    distance, p, y = oracle.compute_distance_map(row.y)[:, 1:], row.p[:, 1:], row.y[:, 1:]
    expected = oracle(logits, label[:, None]) - (distance * y).mean() - (y * (p - y)).mean()
    torch.testing.assert_close(boundary(row, spacing_mm=(1.0,) * label[0].ndim), expected, rtol=1e-4, atol=1e-5)


def test_boundary_grows_with_the_distance_of_the_error_and_with_the_voxels():
    label = torch.from_numpy(block(1, 16, 16))

    def loss(x: int, spacing: float) -> float:
        said = label.clone()
        said[0, 8, x] = 1
        return boundary(Row.of(40.0 * torch.stack([1 - said, said], 1), label), spacing_mm=(spacing,) * 2).item()

    assert loss(8, 1.0) == pytest.approx(0.0, abs=1e-6)
    assert 0 < loss(12, 1.0) < loss(13, 1.0) < loss(15, 1.0)
    assert loss(15, 2.5) == pytest.approx(2.5 * loss(15, 1.0), rel=1e-6)


@pytest.mark.parametrize("value", [0, 1])
def test_without_a_boundary_there_is_no_term(value: int):
    row = Row.of(example(1, 2, 6, 6)[0], torch.full((1, 6, 6), value))
    assert boundary(row, spacing_mm=(1.0, 1.0)).item() == 0.0


@pytest.mark.parametrize("shape", [(2, 2, 9, 10), (2, 2, 6, 8, 9)])
def test_cldice_of_one_class_equals_monais(shape: tuple[int, ...]):
    logits, label = example(*shape)
    ours = centreline_dice(Row.of(logits, label), iterations=3, batch=False)
    oracle = SoftclDiceLoss(iter_=3, smooth=1e-9, include_background=False, to_onehot_y=True, softmax=True)
    torch.testing.assert_close(ours, oracle(logits, label[:, None]))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_gap_in_a_vessel_costs_more_than_a_thinner_vessel(dimensions: int):
    label = torch.zeros((1, *(12,) * (dimensions - 1), 24), dtype=torch.int64)
    middle = (slice(None), *(slice(5, 8),) * (dimensions - 1))
    label[middle] = 1
    thin, gap = torch.zeros_like(label), label.clone()
    thin[(slice(None), *(slice(6, 7),) * (dimensions - 1))] = 1
    gap[..., 10:13] = 0
    whole, thin_loss, gap_loss = (
        centreline_dice(Row.of(40.0 * torch.stack([1 - said, said], 1), label), iterations=3).item()
        for said in (label, thin, gap)
    )
    assert whole == pytest.approx(0.0, abs=1e-5)
    assert thin_loss < gap_loss
