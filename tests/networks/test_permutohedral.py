"""Gaussian sums on the lattice against the sum over all pairs of points."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.permutohedral import Permutohedral


def points(dimensions: int, number: int = 600) -> torch.Tensor:
    draw = torch.Generator().manual_seed(dimensions)
    return torch.rand(dimensions, number, generator=draw, dtype=torch.float64) * 4


@pytest.mark.parametrize(("dimensions", "error"), [(1, 0.01), (2, 0.01), (3, 0.015), (4, 0.025), (5, 0.06), (6, 0.09)])
def test_sums_are_those_over_all_pairs(dimensions: int, error: float) -> None:
    features = points(dimensions)
    kernel = torch.exp(-0.5 * torch.cdist(features.T, features.T) ** 2)
    values = torch.rand(600, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = kernel @ values
    found = Permutohedral.around(features).summed(values)
    assert (found - exact).abs().mean() < error * exact.mean()
    assert found.sum() == pytest.approx(float(exact.sum()), rel=error)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 6])
def test_the_kernel_is_symmetric_positive_and_knows_what_a_point_gives_itself(dimensions: int) -> None:
    lattice = Permutohedral.around(points(dimensions, 60))
    kernel = lattice.summed(torch.eye(60, dtype=torch.float64))
    torch.testing.assert_close(kernel, kernel.T, atol=0.05, rtol=0)  # at the rim, the directions' order is seen
    assert kernel.min() >= 0
    torch.testing.assert_close(kernel.diag(), lattice.own(), atol=0.05, rtol=0)
    assert 0.6 < lattice.own().min() <= lattice.own().max() < 1.4


def test_shares_are_barycentric() -> None:
    lattice = Permutohedral.around(points(4))
    assert lattice.shares.min() > -1e-12
    torch.testing.assert_close(lattice.shares.sum(dim=1), torch.ones(600, dtype=torch.float64))
    assert lattice.corners.max() < lattice.neighbours.shape[2]


def test_points_on_one_spot_share_their_values() -> None:
    lattice = Permutohedral.around(torch.zeros(3, 5))
    found = lattice.summed(torch.arange(5.0)[:, None])
    torch.testing.assert_close(found, found[:1].expand(5, 1))
    assert float(found[0]) == pytest.approx(10.0, rel=0.2)
