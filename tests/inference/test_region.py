"""Where a network looks: boxes around bodies of known place, and masks equal to those of the box given by hand."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from medseg.errors import InputError, ModelError
from medseg.geometry import Box, Geometry
from medseg.inference import NumericPath, Segmenter, memory
from medseg.inference.region import MARGIN_MM, body_box, box_around
from medseg.labels import LabelSet
from medseg.phantom import torso_ct
from medseg.plan import ClipZScore, CrfPlan, InferPlan, PreprocessPlan, ScanFirst
from medseg.progress import Cancelled, Step
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.plan import Plan

    Array = np.ndarray[Any, Any]

AXIAL = np.fliplr(np.eye(3))
CPU = NumericPath()
TO_ONE = ClipZScore(low=-1000, high=1000, mean=-1000, std=2000)
MIDDLE_AND_RADII = ((45, 65, 90), (30, 40, 60))  # mm
SPACINGS = {"fine": (1.5, 1.5, 1.5), "thick": (6.0, 1.2, 1.2)}
ORDERS = (((0, 1, 2), (False, False, False)), ((1, 2, 0), (True, False, True)), ((2, 1, 0), (False, True, True)))


def grid(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = AXIAL * np.array(spacing_mm)
    return Geometry((shape[0], shape[1], shape[2]), affine)


def inside(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (((index - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) <= 1


def bounds(found: Array) -> list[tuple[int, int]]:
    hits = [np.flatnonzero(found.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(int(h[0]), int(h[-1]) + 1) for h in hits]


def shuffled(array: Array, order: tuple[int, ...], flips: tuple[bool, ...]) -> Array:
    turned = array.transpose(order)
    return np.ascontiguousarray(turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)])


@pytest.mark.parametrize("name", SPACINGS)
@pytest.mark.parametrize(("order", "flips"), ORDERS)
def test_the_box_holds_the_body_tightly_and_leaves_the_table_out(
    name: str, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    spacing = SPACINGS[name]
    shape = tuple(round(mm / step) for mm, step in zip((90, 150, 180), spacing, strict=True))
    centre, radii = ([mm / step for mm, step in zip(lengths, spacing, strict=True)] for lengths in MIDDLE_AND_RADII)
    body = inside(shape, tuple(centre), tuple(radii))
    hu = np.random.default_rng(0).normal(-1000, 15, shape)
    hu[body] = 40
    table = slice(round(138 / spacing[1]), round(141 / spacing[1]))
    hu[:, table] = 60
    hu, body = shuffled(hu, order, flips), shuffled(body, order, flips)
    steps = tuple(spacing[axis] for axis in order)
    box = body_box(Volume(hu.astype(np.int16)[None], grid(hu.shape, steps), ("CT",)), ["CT"])
    assert box is not None
    for start, stop, (low, high), step in zip(box.start, box.stop, bounds(body), steps, strict=True):
        assert start <= low < high <= stop
        assert max(low - start, stop - high) * step <= 10 + 4 + step
    assert box.shape[order.index(1)] * spacing[1] < 120  # 138 mm from its far side to the table


def test_the_box_of_a_torso_holds_every_label_and_not_the_air() -> None:
    torso = torso_ct(3, spacing_mm=(8, 5, 5))
    _, y, x = torso.volume.geometry.shape
    wide = np.full((1, torso.volume.geometry.shape[0], 2 * y, 2 * x), -1000, np.int16)
    wide[0, :, y // 2 : y // 2 + y, x // 2 : x // 2 + x] = torso.volume.array[0]
    geometry = torso.volume.geometry.pad((0, y // 2, x // 2), (0, y - y // 2, x - x // 2))
    box = body_box(Volume(wide, geometry, ("CT",)), ["CT"])
    assert box is not None
    (z0, z1), (y0, y1), (x0, x1) = bounds(torso.segmentation.array > 0)
    low, high = (z0, y0 + y // 2, x0 + x // 2), (z1, y1 + y // 2, x1 + x // 2)
    assert all(a <= b for a, b in zip(box.start, low, strict=True))
    assert all(a >= b for a, b in zip(box.stop, high, strict=True))
    assert box.shape[1] <= y
    assert box.shape[2] <= x


def test_two_legs_are_both_body() -> None:
    hu = np.full((20, 40, 90), -1000, np.int16)
    hu[:, 10:30, 5:30] = 40
    hu[:, 12:30, 60:80] = 40
    box = body_box(Volume(hu[None], grid(hu.shape, (4, 4, 4)), ("CT",)), ["CT"])
    assert box is not None
    assert (box.start[2], box.stop[2]) == (2, 83)  # 3 voxels of 4 mm are the first 10 mm and more


def test_in_mr_body_is_what_is_brighter_than_a_tenth() -> None:
    shape = (40, 50, 60)
    body = inside(shape, (20, 22, 30), (14, 15, 20))
    draw = np.random.default_rng(1)
    grey = np.where(body, draw.uniform(150, 900, shape), np.abs(draw.normal(0, 15, shape)))
    one = Volume(grey.astype(np.int16)[None], grid(shape, (3, 3, 3)), ("T1",))
    box = body_box(one, ["T1"])
    assert box is not None
    for start, stop, (low, high) in zip(box.start, box.stop, bounds(body), strict=True):
        assert low - 6 <= start <= low
        assert high <= stop <= high + 6
    two = Volume(np.stack([grey, np.roll(grey, 4, axis=2)]), one.geometry, ("T1", "FLAIR"))
    both = body_box(two, ["T1", "FLAIR"])
    assert both is not None
    assert both.stop[2] == box.stop[2] + 4


@pytest.mark.parametrize("channels", [["PT"], ["XR"], ["MR", "PT"], ["red", "green", "blue"]])
def test_where_nothing_tells_body_from_air_there_is_no_box(channels: list[str]) -> None:
    array = np.zeros((len(channels), 20, 20, 20), np.float32)
    array[:, 8:12, 8:12, 8:12] = 500
    assert body_box(Volume(array, grid(array.shape[1:], (4, 4, 4)), tuple(channels)), channels) is None


@pytest.mark.parametrize("value", [-1000.0, np.nan])
def test_a_scan_without_body_has_no_box(value: float) -> None:
    empty = Volume(np.full((1, 8, 8, 8), value, np.float32), grid((8, 8, 8), (4, 4, 4)), ("CT",))
    assert body_box(empty, ["CT"]) is None
    assert body_box(empty, ["MR"]) is None


@pytest.fixture
def ct_plan(make_plan: Callable[..., Plan]) -> Callable[..., Plan]:
    def make(**changes: Any) -> Plan:
        spacing = changes.pop("spacing_mm", (2.0, 2.0, 2.0))
        how = PreprocessPlan(spacing_mm=spacing, normalisation=(TO_ONE,), **changes.pop("how", {}))
        return make_plan(**({"channels": ("CT",), "preprocess": how} | changes))

    return make


def in_air(shape: tuple[int, int, int] = (40, 64, 64), geometry: Geometry | None = None) -> Volume:
    """A body of -200 HU with a bright organ of 1000 HU in it, in a wide field of air."""
    hu = np.full(shape, -1000, np.int16)
    hu[8:32, 10:30, 10:30] = -200
    hu[14:24, 16:24, 16:24] = 1000
    return Volume(hu[None], geometry or grid(shape, (2, 2, 2)), ("CT",))


def watched(segmenter: Segmenter, scan: Volume, **how: Any) -> tuple[Any, dict[str, int], list[Step]]:
    """Return the result, the windows of every stage, and all steps."""
    steps: list[Step] = []
    result = segmenter.segment(scan, progress=steps.append, **how)
    return result, {s.stage: max(t.total for t in steps if t.stage == s.stage) for s in steps}, steps


TILTED = AXIAL @ np.array([[1.0, 0, 0], [0.2, 1, 0], [0, 0, 1]]) * 2.0


@pytest.mark.parametrize("look", ["body", "coarse"])
@pytest.mark.parametrize("steps", [AXIAL * 2.0, AXIAL * [-2.0, 2.0, -2.0], np.eye(3)[:, [1, 2, 0]] * 2.0, TILTED])
def test_looking_at_a_part_is_the_region_given_by_hand_and_saves_windows(
    look: Any, steps: Array, ct_plan: Callable[..., Plan], bright: type, centred: Callable[..., Geometry]
) -> None:
    scan = in_air(geometry=centred((40, 64, 64), steps))
    segmenter = Segmenter(ct_plan(), [bright()], path=CPU)
    whole, all_windows, _ = watched(segmenter, scan)
    part, windows, told = watched(segmenter.looking_at(look), scan)
    assert part.region is not None
    by_hand = segmenter.segment(scan, region=part.region)
    np.testing.assert_array_equal(part.segmentation.array, by_hand.segmentation.array)
    np.testing.assert_array_equal(part.segmentation.array, whole.segmentation.array)
    assert part.segmentation.array.any()
    assert part.flags == ()
    assert windows["look"] + windows["network"] < all_windows["network"]
    assert "look" in part.seconds
    assert "look" not in whole.seconds
    assert whole.region is None
    assert any(step.stage == "look" and step.message.startswith("looks at ") for step in told)
    if look == "body":
        assert part.region == body_box(scan, ["CT"])
    else:
        for start, stop, low, high in zip(part.region.start, part.region.stop, (14, 16, 16), (24, 24, 24), strict=True):
            assert start <= max(0, low - MARGIN_MM / 2)
            assert stop >= high + MARGIN_MM / 2 or stop in scan.geometry.shape


def test_the_body_is_not_looked_for_where_it_saves_nothing(ct_plan: Callable[..., Plan], bright: type) -> None:
    small = Volume(in_air().array[:, 6:34, 8:32, 8:32], grid((28, 24, 24), (2, 2, 2)), ("CT",))
    segmenter = Segmenter(ct_plan(), [bright()], path=CPU)
    whole, part = segmenter.segment(small), segmenter.looking_at("body").segment(small)
    assert part.region is None
    assert part.confidence == whole.confidence
    np.testing.assert_array_equal(part.segmentation.array, whole.segmentation.array)


def test_a_model_that_crops_scans_itself_looks_at_the_whole(ct_plan: Callable[..., Plan], bright: type) -> None:
    plan = ct_plan(how={"orientation": "stored", "scan_first": ScanFirst()})
    assert Segmenter(plan, [bright()], path=CPU).looking_at("body").segment(in_air()).region is None


class Nothing(torch.nn.Module):
    """Finds nothing anywhere."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.ones_like(windows[:, 0]), torch.zeros_like(windows[:, 0])], dim=1)


def test_where_a_first_pass_finds_nothing_the_whole_scan_is_looked_at(
    ct_plan: Callable[..., Plan], bright: type
) -> None:
    scan = in_air()
    scan.array[scan.array == 1000] = -200
    scan.array[0, 20, 21, 21] = 1000  # one voxel, gone on a grid three times as coarse
    segmenter = Segmenter(ct_plan(), [bright()], path=CPU)
    assert segmenter.rough().extent(scan) is None
    whole, part = segmenter.segment(scan), segmenter.looking_at("coarse").segment(scan)
    assert part.region is None
    assert part.segmentation.array.sum() == 1
    np.testing.assert_array_equal(part.segmentation.array, whole.segmentation.array)
    empty = Segmenter(ct_plan(), [Nothing()], path=CPU).looking_at("coarse").segment(scan)
    assert (empty.region, empty.flags) == (None, ("empty",))


def test_there_is_no_first_pass_where_it_would_take_as_many_windows(ct_plan: Callable[..., Plan], bright: type) -> None:
    small = Volume(in_air().array[:, 12:26, 14:28, 14:28], grid((14, 14, 14), (2, 2, 2)), ("CT",))
    _, windows, _ = watched(Segmenter(ct_plan(), [bright()], path=CPU).looking_at("coarse"), small)
    assert (windows["look"], windows["network"]) == (0, 1)


def test_a_first_pass_is_coarse_plain_and_keeps_slices_of_2d(make_plan: Callable[..., Plan], bright: type) -> None:
    plan = make_plan(infer=InferPlan(crf=CrfPlan(), mirror_axes=("Z",)))
    rough = Segmenter(plan, [bright()], path=CPU, mirrored=True).looking_at("coarse").fast().rough()
    assert rough.plan.infer.crf is None
    assert not rough.is_mirrored
    assert rough.sight.look == "whole"
    flat = Segmenter(make_plan(dimensions=2), [bright()], path=CPU).rough()
    assert flat.plan.preprocess.spacing_mm == pytest.approx((1.5, 4.5, 4.5))


def test_a_label_at_a_face_of_the_region_is_flagged(ct_plan: Callable[..., Plan], bright: type) -> None:
    segmenter = Segmenter(ct_plan(), [bright()], path=CPU)
    cut = segmenter.segment(in_air(), region=Box((16, 0, 0), (40, 64, 64)))
    assert cut.flags == ("touches-region",)
    scan = in_air()
    scan.array[0, :3] = 1000
    edge = segmenter.segment(scan, region=Box((0, 0, 0), (10, 64, 64)))
    assert edge.flags == ("touches-edge",)  # a face of the scan's own is no face of the region


def other_of(ct_plan: Callable[..., Plan], network: torch.nn.Module) -> Segmenter:
    return Segmenter(
        ct_plan(spacing_mm=(4.0, 4.0, 4.0), labels=LabelSet.from_names({2: "liver", 5: "spleen"})), [network], path=CPU
    )


def test_a_cascade_looks_in_the_box_of_the_other_models_labels(ct_plan: Callable[..., Plan], bright: type) -> None:
    scan, organs = in_air(), other_of(ct_plan, bright(classes=3, label=1))
    box = box_around(scan.geometry.crop(Box((14, 16, 16), (24, 24, 24))), scan.geometry, margin=[10, 10, 10])
    segmenter = Segmenter(ct_plan(), [bright()], path=CPU)
    inner = segmenter.looking_within(organs, ["liver"])
    result, windows, _ = watched(inner, scan)
    by_hand = segmenter.segment(scan, region=result.region)
    np.testing.assert_array_equal(result.segmentation.array, by_hand.segmentation.array)
    assert result.region is not None
    for ours, exact in zip((*result.region.start, *result.region.stop), (*box.start, *box.stop), strict=True):
        assert abs(ours - exact) <= 2  # a voxel of the other model's grid
    assert windows["look"] > 0
    nothing = segmenter.looking_within(organs, ["spleen"]).segment(scan)
    assert nothing.flags == ("empty", "nothing-within")
    assert nothing.confidence is None
    assert nothing.region is None
    assert not nothing.segmentation.array.any()
    assert nothing.segmentation.geometry is scan.geometry
    everything = segmenter.looking_within(organs).segment(scan)
    assert everything.region == result.region


def test_a_cascade_takes_the_channels_it_knows_and_says_which_it_lacks(
    make_plan: Callable[..., Plan], ct_plan: Callable[..., Plan], bright: type
) -> None:
    both = Segmenter(make_plan(channels=("PT", "CT"), preprocess=two_channels()), [bright()], path=CPU)
    organs = other_of(ct_plan, bright(classes=3, label=1))
    ct = in_air()
    scan = Volume(np.concatenate([np.zeros_like(ct.array), ct.array]), ct.geometry, ("PT", "CT"))
    assert both.looking_within(organs).segment(scan).region == organs_box(organs, ct)
    with pytest.raises(ModelError, match="has no label 'pancreas'; expected some of liver, spleen"):
        both.looking_within(organs, ["pancreas"])
    with pytest.raises(ModelError, match="takes the channel MR; expected one of this model's: PT, CT"):
        both.looking_within(Segmenter(make_plan(), [bright()], path=CPU))
    mr = Segmenter(make_plan(channels=("T1",)), [bright()], path=CPU)
    assert mr.looking_within(Segmenter(make_plan(), [bright()], path=CPU)).sight.within is not None  # MR is T1


@pytest.mark.parametrize("kind", ["body", "coarse", "within"])
def test_a_scan_that_does_not_fit_the_model_is_refused_however_it_is_looked_at(
    kind: Any, ct_plan: Callable[..., Plan], bright: type
) -> None:
    segmenter = Segmenter(ct_plan(), [bright()], path=CPU)
    organs = other_of(ct_plan, bright(classes=3, label=1))
    looking = segmenter.looking_within(organs) if kind == "within" else segmenter.looking_at(kind)
    one = in_air().array
    with pytest.raises(InputError, match="has 2 channels; expected 1: CT"):
        looking.segment(Volume(np.concatenate([one, one]), in_air().geometry, ("CT", "PT")))
    broken = one.astype(np.float32)
    broken[0, 3, 3, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        looking.segment(Volume(broken, in_air().geometry, ("CT",)))


def two_channels() -> PreprocessPlan:
    return PreprocessPlan(spacing_mm=(2, 2, 2), normalisation=(TO_ONE,) * 2)


def organs_box(organs: Segmenter, scan: Volume) -> Box:
    found = bounds(organs.segment(scan).segmentation.array > 0)
    low, high = zip(*found, strict=True)
    box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return box_around(scan.geometry.crop(box), scan.geometry, margin=[10, 10, 10])


def test_a_box_around_a_part_of_an_oblique_grid_covers_all_of_its_corners(centred: Callable[..., Geometry]) -> None:
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    scan, other = centred((30, 40, 40), AXIAL * 1.5), centred((40, 50, 50), turn @ AXIAL * 1.5)
    target = scan.crop(Box((10, 15, 15), (15, 22, 25)))
    box = box_around(target, other, margin=(1, 1, 1))
    corners = other.to_index(target.to_lps(list(itertools.product(*((-0.5, n - 0.5) for n in target.shape)))))
    assert (corners.min(axis=0) >= np.array(box.start) + 0.5).all()
    assert (corners.max(axis=0) <= np.array(box.stop) - 1.5).all()


def test_what_is_counted_is_what_is_seen(
    ct_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, bright: type
) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: 500_000_000)
    plan, scan = ct_plan(infer=InferPlan(crf=CrfPlan())), in_air((40, 128, 128))
    region = Box((8, 10, 10), (32, 30, 30))
    whole = memory.fit(scan, plan, CPU, max_ram=10**11).footprint
    part = memory.fit(scan, plan, CPU, max_ram=10**11, region=region).footprint
    assert part.scores < whole.scores
    assert part.crf < whole.crf / 5
    assert part._replace(scores=0, crf=0) == whole._replace(scores=0, crf=0)
    told: list[str] = []
    Segmenter(ct_plan(), [bright()], path=CPU).looking_at("coarse").segment(
        scan, progress=lambda step: told.append(f"{step.stage} {step.message}")
    )
    fits = [line.split(" fits")[0] for line in told if " fits, " in line]
    assert fits == ["look", "prepare"]  # either pass is counted


@pytest.mark.parametrize("kind", ["coarse", "within"])
def test_looking_can_be_stopped(kind: str, ct_plan: Callable[..., Plan], bright: type) -> None:
    segmenter = Segmenter(ct_plan(), [bright()], path=CPU)
    organs = other_of(ct_plan, bright(classes=3, label=1))
    looking = segmenter.looking_at("coarse") if kind == "coarse" else segmenter.looking_within(organs)

    def stop(step: Step, /) -> None:
        if step.stage == "look" and step.done:
            raise Cancelled

    with pytest.raises(Cancelled):
        looking.segment(in_air((64, 128, 128)), progress=stop)
