"""Strokes on a Labels layer become edits of the mask behind it, whatever way its view runs. No window."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.review.changes import Edit

pytest.importorskip("napari")

from napari.layers import Labels

from napari_plugin.strokes import edit_of, within

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (5, 8, 11)


def views(mask: np.ndarray) -> Iterator[np.ndarray]:
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            yield mask.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]


@pytest.mark.parametrize("tool", ["paint", "fill", "set"])
def test_every_view_leads_back_to_the_mask(tool: str) -> None:
    for number in range(48):
        mask = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
        before = mask.copy()
        shown = next(itertools.islice(views(mask), number, None))
        layer = Labels(shown)
        layer.brush_size, layer.n_edit_dimensions = 3, 3
        strokes: list[list] = []
        layer.events.paint.connect(lambda event, kept=strokes: kept.append(event.value))
        if tool == "paint":
            layer.paint((2, 2, 2), 7)
        elif tool == "fill":
            layer.fill((2, 2, 2), 7)
        else:
            layer.data_setitem((np.array([0, 1]), np.array([2, 3]), np.array([1, 4])), 7)
        (stroke,) = strokes
        edit = edit_of(stroke, mask=mask, shown=shown)
        assert edit.n_voxels == np.count_nonzero(mask != before)
        redone = before.copy()
        edit.apply(redone)
        assert np.array_equal(redone, mask)
        edit.revert(mask)
        assert np.array_equal(mask, before)


def test_a_voxel_painted_twice_goes_back_to_its_first_label() -> None:
    mask = np.ones(SHAPE, np.uint8)
    layer = Labels(mask)
    layer.brush_size = 1
    strokes: list[list] = []
    layer.events.paint.connect(lambda event: strokes.append(event.value))
    with layer.block_history():
        layer.paint((2, 3, 4), 5)
        layer.paint((2, 3, 4), 6)
        layer.paint((2, 3, 5), 5)
        layer.paint((2, 3, 5), 1)
    edit = edit_of(strokes[0], mask=mask, shown=layer.data)
    assert (edit.n_voxels, edit.before.tolist(), edit.after.tolist()) == (1, [1], [6])
    whole = edit_of(strokes[0], mask=mask, shown=layer.data, everywhere=True)
    assert whole.n_voxels == 2


def test_limits_part_a_stroke_into_what_stays_and_what_goes_back() -> None:
    rng = np.random.default_rng(2)
    before, image = rng.integers(0, 3, SHAPE).astype(np.uint8), rng.normal(0, 50, SHAPE)
    painted = before.copy()
    painted[1:3, 2:6, 3:9] = 5
    voxels = np.flatnonzero(painted != before)
    stroke = Edit.of_voxels(SHAPE, voxels, before=before.ravel()[voxels], after=painted.ravel()[voxels])
    kept, back = within(stroke, image_zyx=image, low=-10, high=60)
    back.apply(painted)
    inside = (image >= -10) & (image <= 60)
    wanted = before.copy()
    wanted[1:3, 2:6, 3:9][inside[1:3, 2:6, 3:9]] = 5
    assert np.array_equal(painted, wanted)
    kept.revert(painted)
    assert np.array_equal(painted, before)
