"""The way back along an axis that is treated apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from medseg.geometry import Box, Geometry
from medseg.preprocess import Restoration, nearest_slices, working_grid
from medseg.volume import Volume
from tests.nnunet.folders import configuration, resampled
from tests.nnunet.test_translate import plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.plan import Plan


def restored(logits: Volume, onto: Geometry, plan: Plan, *, depth: int = 2) -> NDArray[Any]:
    """The mask, by slabs of some slices."""
    scores = torch.from_numpy(logits.array)
    slabs = ((start, scores[:, start : start + depth]) for start in range(0, scores.shape[1], depth))
    slices = nearest_slices(logits.geometry, onto, plan)
    restoration = Restoration(slices.geometry if slices else logits.geometry, onto, plan.labels)
    for _, slab in slices.through(slabs) if slices else slabs:
        restoration.add(slab)
    return restoration.mask


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
    whole = restored(logits, scan, plan)
    expected = np.stack([resampled(k, scan.shape, 1, 0) for k in scores]).argmax(axis=0)
    assert (whole == expected).mean() > 0.999
    part = scan.crop(BOX)
    assert np.array_equal(restored(logits, part, plan, depth=3), whole[BOX.slices])


def test_without_an_axis_apart_nothing_is_done(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, configuration())
    scan = Geometry((8, 10, 11), np.eye(4))
    assert nearest_slices(working_grid(scan, plan), scan, plan) is None


def test_beside_the_cropped_grid_there_is_nothing_to_take(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, configuration(spacing=[5.0, 1.0, 1.0]))
    scan = Geometry((9, 10, 11), np.diag([5.0, 1.0, 1.0, 1.0]))
    inner = working_grid(scan.crop(Box((4, 0, 0), (9, 10, 11))), plan)
    logits = Volume(np.ones((3, *inner.shape), np.float32), inner, ("background", "core", "rim"))
    outer = scan.crop(Box((0, 0, 0), (3, 10, 11)))
    assert not restored(logits, outer, plan).any()
