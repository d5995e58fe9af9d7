from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.geometry import Box
from medseg.plan import Divide, Unchanged, ZScore
from medseg.transforms.foreground import nonzero, nonzero_box
from medseg.transforms.intensity import normalise


def test_the_box_holds_every_voxel_of_any_channel() -> None:
    image = np.zeros((2, 6, 7, 8), np.int16)
    image[0, 1, 2, 3] = -5
    image[1, 4, 2, 6] = 5
    assert nonzero_box(image) == Box((1, 2, 3), (5, 3, 7))


def test_a_scan_of_nothing_is_not_cropped() -> None:
    assert nonzero_box(np.zeros((1, 3, 4, 5))) == Box((0, 0, 0), (3, 4, 5))


def test_holes_belong_to_the_foreground() -> None:
    image = np.zeros((1, 7, 7, 7))
    image[0, 1:6, 1:6, 1:6] = 1
    image[0, 3, 3, 3] = 0
    assert nonzero(image).sum() == 125


def test_statistics_of_the_foreground_leave_the_rest_at_zero() -> None:
    image = torch.zeros(2, 5, 6, 7)
    draw = np.random.default_rng(0).normal(40, 9, (2, 3, 4, 5))
    image[:, 1:4, 1:5, 1:6] = torch.from_numpy(draw).float()
    found = normalise(image, [ZScore(within="nonzero"), ZScore()])
    inside = found[0, 1:4, 1:5, 1:6]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert found[0].count_nonzero() == inside.numel()
    assert float(found[1].mean()) == pytest.approx(0, abs=1e-5)


def test_a_scan_of_nothing_stays_nothing() -> None:
    assert not normalise(torch.zeros(1, 2, 2, 2), [ZScore(within="nonzero")]).any()


def test_values_are_divided_or_left() -> None:
    image = torch.tensor([51.0, 255.0]).expand(2, 1, 1, 2)
    found = normalise(image, [Divide(by=255), Unchanged()])
    torch.testing.assert_close(found.reshape(2, 2), torch.tensor([[0.2, 1.0], [51.0, 255.0]]))
