"""How grids lie in each other: axes that run along axes are told apart from the rounding beside them."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.resample.cells import Places
from medseg.resample.lattice import Lattice


def turned(angle: float, spacing: tuple[float, float, float], shape: tuple[int, int, int] = (5, 6, 7)) -> Geometry:
    """Return a grid turned about an axis that is no grid's."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), -axis)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    return Geometry(shape, affine)


@pytest.mark.parametrize("angle", [0.1, 0.7, 2.0])
def test_grids_turned_alike_are_separable_whatever_the_rounding(angle: float) -> None:
    lattice = Lattice.between(turned(angle, (3.0, 0.7, 0.9)), turned(angle, (1.1, 1.3, 0.31)))
    straight = lattice.straightened()
    assert np.abs(straight.matrix - lattice.matrix).max() < 1e-12
    assert np.count_nonzero(straight.matrix) == 3
    assert [p.size for p in straight.slab_positions(0, 5)] == [5, 6, 7]


def test_grids_turned_against_each_other_are_left_as_they_are() -> None:
    lattice = Lattice.between(turned(0.1, (1.0, 1.0, 1.0)), turned(0.2, (1.0, 1.0, 1.0)))
    assert lattice.straightened() is lattice


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 1), (1, 1, 5), (3, 4, 1), (3, 4, 5)])
def test_values_at_places_are_those_of_the_block(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    index = np.array([0, 7, 31, 59])
    places = Places([], (3, 4, 5), index)
    assert places.at(values).tolist() == np.broadcast_to(values, (3, 4, 5)).ravel()[index].tolist()
    assert places.part(1, 3).index.tolist() == [7, 31]
