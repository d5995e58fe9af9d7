"""The way back along an axis that is treated apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.geometry import Box, Geometry
from medseg.preprocess import in_slices_of, restore, working_grid
from medseg.volume import Volume
from tests.nnunet.folders import configuration, resampled
from tests.nnunet.test_translate import plan_of

if TYPE_CHECKING:
    from pathlib import Path

BOX = Box((2, 2, 1), (5, 8, 9))


@pytest.mark.parametrize("thickness", [2.5, 5.0, 7.0, 10.0])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_slices_are_the_nearest_and_a_part_is_a_part_of_the_whole(
    thickness: float, offset: float, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, configuration(spacing=[5.0, 1.2, 1.2]))
    affine = np.array([[0, 0, 1.0, 7], [0, 1.0, 0, -3], [thickness, 0, 0, offset], [0, 0, 0, 1]])
    scan = Geometry((8, 10, 11), affine)
    grid = working_grid(scan, plan)
    scores = np.random.default_rng(1).normal(size=(3, *grid.shape)).astype(np.float32)
    logits = Volume(scores, grid, ("background", "core", "rim"))
    whole = restore(in_slices_of(logits, scan, plan), scan, plan.labels).array
    expected = np.stack([resampled(k, scan.shape, 1, 0) for k in scores]).argmax(axis=0)
    assert (whole == expected).mean() > 0.999
    part = scan.crop(BOX)
    assert np.array_equal(restore(in_slices_of(logits, part, plan), part, plan.labels).array, whole[BOX.slices])


def test_without_an_axis_apart_nothing_is_done(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, configuration())
    scan = Geometry((8, 10, 11), np.eye(4))
    logits = Volume(np.zeros((3, 8, 10, 11), np.float32), working_grid(scan, plan), ("background", "core", "rim"))
    assert in_slices_of(logits, scan, plan) is logits


def test_beside_the_cropped_grid_there_is_nothing_to_take(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, configuration(spacing=[5.0, 1.0, 1.0]))
    scan = Geometry((9, 10, 11), np.diag([5.0, 1.0, 1.0, 1.0]))
    inner = working_grid(scan.crop(Box((4, 0, 0), (9, 10, 11))), plan)
    logits = Volume(np.ones((3, *inner.shape), np.float32), inner, ("background", "core", "rim"))
    outer = scan.crop(Box((0, 0, 0), (3, 10, 11)))
    assert not restore(in_slices_of(logits, outer, plan), outer, plan.labels).array.any()
