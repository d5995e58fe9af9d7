"""The session without a window: a background that works at once."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import ModelError
from medseg.geometry import Box
from medseg.inference import Segmenter
from medseg.progress import Cancelled, Step
from napari_plugin.bridge import segmentation_of
from napari_plugin.measures import rows_of
from napari_plugin.preview import Preview
from napari_plugin.runs import Choices, Task
from napari_plugin.session import Outcome, Session
from napari_plugin.source import Source
from napari_plugin.suitability import remarks, verdict_of


class AtOnce:
    """Does work where it is, and may be told beforehand to stop it at a stage."""

    def __init__(self, stop_at: str = "") -> None:
        self.stop_at = stop_at

    def start(self, work, listener) -> None:
        class Here:
            def __call__(desk, step: Step) -> None:  # noqa: N805
                if self.stop_at and step.stage == self.stop_at:
                    raise Cancelled
                listener.reported(step)

            def hand(desk, part) -> None:  # noqa: N805
                listener.handed(part)

        try:
            outcome = Outcome(work(Here()))
        except Cancelled:
            outcome = Outcome(is_cancelled=True)
        except ModelError as error:
            outcome = Outcome(error=error)
        listener.ended(outcome)

    def cancel(self) -> None:
        pass


def heard(session):
    """Return a list of what the session says from now on."""
    said = []
    for name in ("grown", "finished", "failed", "stopped"):
        getattr(session, name).connect(lambda what, name=name: said.append((name, what)))
    return said


def task_on(torso, **more):
    return Task("mask", (torso.volume,), Source("torso", torso.volume.geometry, "CT"), **more)


def test_a_run_gives_what_the_segmenter_gives(torso, model):
    from napari.layers import Layer

    session = Session(AtOnce())
    session.load(model.folder, Choices(device="cpu"))
    said = heard(session)
    session.run(task_on(torso, choices=Choices(device="cpu")))
    finished = said[-1][1]
    assert [name for name, _ in said][-1] == "finished"
    assert "grown" in [name for name, _ in said]
    truth = Segmenter.load(model.folder, device="cpu").segment(torso.volume).segmentation
    shown = segmentation_of(Layer.create(*finished.layer))
    np.testing.assert_array_equal(shown.array, truth.array)
    assert shown.geometry.same_grid(torso.volume.geometry)
    assert finished.rows == rows_of(truth)
    assert session.state == "idle"


def test_a_cancelled_run_leaves_nothing_and_the_next_one_runs(torso, model):
    background = AtOnce()
    session = Session(background)
    session.load(model.folder, Choices(device="cpu"))
    said = heard(session)
    background.stop_at = "network"
    session.run(task_on(torso))
    assert [name for name, _ in said] == ["stopped"]
    background.stop_at = ""
    session.run(task_on(torso))
    assert said[-1][0] == "finished"
    assert said[-1][1].number == 2


def test_a_region_bounds_mask_and_preview(torso, model):
    region = Box((3, 10, 10), (9, 40, 50))
    session = Session(AtOnce())
    session.load(model.folder, Choices(device="cpu"))
    said = heard(session)
    session.run(task_on(torso, region=region))
    mask = said[-1][1].result.segmentation.array.copy()
    mask[region.slices] = 0
    assert not mask.any()


@pytest.mark.parametrize("name", [None, "spleen"])
def test_probabilities_are_laid_over_the_scan(torso, model, name):
    session = Session(AtOnce())
    session.load(model.folder, Choices(device="cpu"))
    layers = []
    session.overlaid.connect(layers.append)
    label = None if name is None else model.plan.labels.by_name(name)
    session.overlay(task_on(torso), label)
    chances = Segmenter.load(model.folder, device="cpu").probabilities(torso.volume).array
    wanted = 1 - chances.max(axis=0) if name is None else chances[2]
    assert layers[0].array.dtype == np.uint8
    np.testing.assert_allclose(layers[0].array, 100 * wanted, atol=0.51)


def test_a_folder_that_is_no_model_is_said(tmp_path):
    session = Session(AtOnce())
    said = heard(session)
    session.load(tmp_path, Choices())
    assert [name for name, _ in said] == ["failed"]
    assert "card.yaml" in str(said[0][1])
    assert session.model is None
    assert session.state == "idle"


@pytest.mark.parametrize("codes", ["SPL", "LIP"])
def test_a_preview_puts_slabs_where_the_mask_will_be(torso, codes):
    """Slabs of the truth itself, on its own grid, make the truth on a turned one."""
    from medseg.resample import resample
    from medseg.volume import Segmentation

    truth = torso.segmentation
    target = truth.geometry.reoriented(codes)
    preview = Preview(target, np.uint8)
    depth = truth.geometry.shape[0]
    for start in range(0, depth, 5):
        box = Box((start, 0, 0), (min(start + 5, depth), *truth.geometry.shape[1:]))
        preview.add(Segmentation(truth.array[box.slices], truth.geometry.crop(box), truth.labels))
    np.testing.assert_array_equal(preview.array, resample(truth, onto=target).array)


def test_rows_say_volume_and_largest_slice(torso):
    mask = torso.segmentation
    rows = {row.label.name: row for row in rows_of(mask)}
    heart = mask.labels.by_name("heart").id
    assert rows["heart"].volume_ml == pytest.approx(mask.volumes_ml()[heart])
    z = int((mask.array == heart).sum(axis=(1, 2)).argmax())
    x = int((mask.array == heart).sum(axis=(0, 1)).argmax())
    lps = mask.geometry.to_lps((z, 0, x))
    assert rows["heart"].largest_world is not None
    assert rows["heart"].largest_world[0] == pytest.approx(lps[2])
    assert rows["heart"].largest_world[2] == pytest.approx(lps[0])


def test_what_does_not_fit_is_said(torso, model):
    grid = torso.volume.geometry

    def say(*sources):
        return remarks(sources, model.plan, model.card)

    assert say(Source("a", grid, "CT")) == ()
    assert verdict_of(say(Source("a", grid, "MR"))) == "unfit"
    assert verdict_of(say(Source("a", grid))) == "doubtful"
    coarse = grid.with_spacing((40.0, 6.0, 6.0))
    assert any("coarser" in remark.words for remark in say(Source("a", coarse, "CT")))
    small = grid.crop(Box((0, 0, 0), (20, 4, 40)))
    assert any("missing" in remark.words for remark in say(Source("a", small, "CT")))
    assert verdict_of(say(Source("a", grid, "CT"), Source("b", grid, "CT"))) == "unfit"


def test_a_rectangle_bounds_its_slice_and_rectangles_on_several_bound_these_too(torso):
    from napari.layers import Shapes

    from napari_plugin.region import region_of

    source = Source("torso", torso.volume.geometry, "CT")

    def corners(z, low, high):
        ends = [(z, low, low), (z, low, high), (z, high, high), (z, high, low)]
        return source.display.to_world(ends)

    one = region_of(Shapes([corners(5, 10, 20)]), source)
    assert (one.start, one.stop) == ((0, 10, 10), (torso.volume.geometry.shape[0], 21, 21))
    two = region_of(Shapes([corners(5, 10, 20), corners(8, 12, 14)]), source)
    assert (two.start, two.stop) == ((5, 10, 10), (9, 21, 21))
