"""Strokes on a Labels layer become edits of the mask behind it, whatever way its view runs. No window."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.review import OpenCase, ReviewCase, Version
from medseg.review.changes import Edit
from medseg.volume import Volume

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Labels

from napari_plugin.painting import PaintedMask, ShownCase
from napari_plugin.strokes import as_it_is, edit_of, within

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
    whole = as_it_is(strokes[0], mask=mask, shown=layer.data)
    assert (whole.n_voxels, whole.after.tolist()) == (2, [6, 1])


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


class Kept:
    """A desk that writes down what it is given."""

    def __init__(self) -> None:
        self.parts: list[Edit] = []
        self.edits: list[Edit] = []

    def keep(self, edit: Edit, **_: bool) -> None:
        self.parts.append(edit)

    def edit(self, edit: Edit, **_: bool) -> None:
        self.edits.append(edit)


def painted_mask(said: list[str]) -> tuple[PaintedMask, Kept, np.ndarray]:
    from pathlib import Path

    grid = Geometry(SHAPE, np.eye(4)[:, [2, 1, 0, 3]])
    labels = LabelSet.from_names({1: "liver", 2: "spleen"})
    mask = np.zeros(SHAPE, np.uint8)
    mask[2, 2:6, 2:6] = 1
    case = OpenCase(
        case=ReviewCase("a", (), Path("a"), labels),
        scan=Volume(np.arange(mask.size, dtype=np.int16).reshape(1, *SHAPE), grid),
        mask=mask,
        labels=labels,
        version=Version(0, Path("a"), ""),
        journal=None,  # type: ignore[arg-type] - the desk here has none
    )
    desk = Kept()
    return PaintedMask(ViewerModel(), desk, ShownCase.of(case), told=said.append), desk, mask  # type: ignore[arg-type]


def replayed(before: np.ndarray, parts: list[Edit]) -> np.ndarray:
    result = before.copy()
    for part in parts:
        part.apply(result)
    return result


def test_a_stroke_is_kept_part_by_part_and_is_one_edit() -> None:
    painted, desk, mask = painted_mask([])
    before = mask.copy()
    painted.layer.brush_size = 3
    with painted.layer.block_history():
        painted.layer.paint((1, 3, 3), 2)
        assert np.array_equal(replayed(before, desk.parts), mask)
        painted.layer.paint((1, 3, 5), 2)
        assert np.array_equal(replayed(before, desk.parts), mask)
        assert not desk.edits
    assert np.array_equal(replayed(before, desk.parts), mask)
    (edit,) = desk.edits
    edit.revert(mask)
    assert np.array_equal(mask, before)


def test_a_label_the_mask_does_not_know_is_taken_back() -> None:
    said: list[str] = []
    painted, desk, mask = painted_mask(said)
    before = mask.copy()
    painted.layer.paint((1, 3, 3), 9)
    assert np.array_equal(mask, before)
    assert np.array_equal(replayed(before, desk.parts), before)
    assert not desk.edits
    assert "The label 9 is none of the mask's" in said[0]


def test_a_released_layer_is_kept_no_more() -> None:
    painted, desk, _ = painted_mask([])
    painted.release()
    painted.layer.editable = True
    painted.layer.paint((1, 3, 3), 2)
    assert not desk.parts
    assert not desk.edits


@pytest.mark.parametrize("limits", [None, (0.0, 150.0)])
def test_a_stroke_told_of_before_it_is_written_is_an_edit_all_the_same(limits: tuple[float, float] | None) -> None:
    painted, desk, mask = painted_mask([])
    before = mask.copy()
    painted.limits = limits
    seen: list[bool] = []
    painted.layer.events.paint.connect(lambda _: seen.append(np.array_equal(mask, before)))
    painted.layer.paint_polygon([(1, 1, 1), (1, 6, 1), (1, 6, 8), (1, 1, 8)], 2)
    painted.settle()
    assert seen == [True]  # why this test is here
    assert np.count_nonzero(mask != before) > 10
    assert np.array_equal(replayed(before, desk.parts), mask)
    (edit,) = desk.edits
    edit.revert(mask)
    assert np.array_equal(mask, before)


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_stroke_given_up_leaves_no_trace(is_settled: bool) -> None:
    painted, desk, mask = painted_mask([])
    before = mask.copy()
    painted.layer._begin_stroke()
    painted.layer.paint((1, 3, 3), 2)
    assert len(desk.parts) == 1
    painted.layer._abort_stroke()
    assert np.array_equal(mask, before)
    if is_settled:
        painted.settle()
        assert np.array_equal(replayed(before, desk.parts), before)
    painted.layer._begin_stroke()
    painted.layer.paint((3, 3, 3), 2)
    painted.layer._commit_stroke()
    assert np.array_equal(replayed(before, desk.parts), mask)
    assert len(desk.edits) == 1
