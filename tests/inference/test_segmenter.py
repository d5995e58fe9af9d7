from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from medseg.errors import GeometryError, InputError, ModelError
from medseg.geometry import Box
from medseg.inference import NumericPath, Segmenter
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.plan import InferPlan, PreprocessPlan, ZScore
from medseg.progress import Cancelled, Step
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.geometry import Geometry
    from medseg.plan import Plan

AXIAL = np.fliplr(np.eye(3))  # columns: a step along z goes up, along y to the back, along x to the left
CPU = NumericPath()


def oblique(steps: np.ndarray[Any, Any], degrees: float) -> np.ndarray[Any, Any]:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    tip = np.array([[1.0, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return tip @ turn @ steps


GRIDS = {
    "isotropic": ((36, 32, 34), AXIAL * 1.5),
    "thick slices": ((12, 40, 44), AXIAL * [4.0, 0.9, 0.9]),
    "flipped": ((36, 32, 34), AXIAL * [-1.5, 1.5, -1.5]),
    "coronal": ((30, 36, 34), np.eye(3)[:, [1, 2, 0]] * [1.3, -1.2, 1.4]),
    "oblique": ((38, 36, 36), oblique(AXIAL * 1.4, 20)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_known_ellipsoid_comes_back_on_the_scans_own_grid(
    name: str,
    make_plan: Callable[..., Plan],
    bright: type,
    scan_of: Callable[[Geometry], Volume],
    truth_of: Callable[..., Any],
    centred: Callable[..., Geometry],
) -> None:
    geometry = centred(*GRIDS[name])
    result = Segmenter(make_plan(), [bright()], path=CPU).segment(scan_of(geometry))
    mask, truth = result.segmentation.array, truth_of(geometry)
    assert result.segmentation.geometry is geometry
    assert mask.dtype == np.uint8
    assert 2 * (mask.astype(bool) & truth).sum() / (mask.sum() + truth.sum()) > 0.93
    centroid = geometry.to_lps(np.argwhere(mask).mean(axis=0))
    np.testing.assert_allclose(centroid, [5.0, -12.0, 40.0], atol=0.5)
    assert result.confidence is not None
    assert 0.8 < result.confidence <= 1.0
    assert result.flags == ()
    assert set(result.seconds) == {"prepare", "network", "restore"}
    assert result.peak_ram_mb > 50


def test_a_flipped_copy_gets_the_same_mask_in_the_patient(
    make_plan: Callable[..., Plan], scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    plan = make_plan(preprocess=PreprocessPlan(spacing_mm=(1.5, 1.5, 1.5), normalisation=(ZScore(),)))
    torch.manual_seed(0)
    segmenter = Segmenter(plan, [build(plan.network, 1, 2).eval()], path=CPU)
    geometry = centred((20, 22, 24), AXIAL * [2.0, 1.5, 1.5])
    noise = np.random.default_rng(0).normal(size=(1, 20, 22, 24)).astype(np.float32) * 300
    scan = Volume(scan_of(geometry).array + noise, geometry, ("MR",))
    mask = segmenter.segment(scan).segmentation.array
    flipped_geometry = geometry.reoriented("ILA")
    flipped = Volume(np.ascontiguousarray(scan.array.transpose(0, 1, 3, 2)[:, ::-1, :, ::-1]), flipped_geometry)
    again = segmenter.segment(flipped).segmentation.array
    assert 0 < mask.mean() < 1
    assert (mask.transpose(0, 2, 1)[::-1, :, ::-1] != again).mean() < 1e-3


def test_labels_keep_their_ids_also_large_ones(
    make_plan: Callable[..., Plan],
    bright: type,
    scan_of: Callable[..., Volume],
    truth_of: Callable[..., Any],
    centred: Callable[..., Geometry],
) -> None:
    labels = LabelSet.from_names({3: "a", 7: "b", 300: "c"})
    geometry = centred((36, 32, 34), AXIAL * 1.5)
    for channel, label_id in ((1, 3), (2, 7), (3, 300)):
        segmenter = Segmenter(make_plan(labels=labels), [bright(classes=4, label=channel)], path=CPU)
        result = segmenter.segment(scan_of(geometry))
        assert set(np.unique(result.segmentation.array)) == {0, label_id}
        assert result.segmentation.array.dtype == np.uint16


def test_an_ensemble_is_the_mean_of_logits(
    make_plan: Callable[..., Plan], scan_of: Callable[..., Volume], centred: Callable[..., Geometry], bright: type
) -> None:
    scan = scan_of(centred((36, 32, 34), AXIAL * 1.5))

    class Always(torch.nn.Module):
        def __init__(self, logit: float) -> None:
            super().__init__()
            self.logit = logit

        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.zeros_like(windows[:, 0]), torch.full_like(windows[:, 0], self.logit)], dim=1)

    result = Segmenter(make_plan(), [Always(-1.0), Always(4.0)], path=CPU).segment(scan)
    assert result.segmentation.array.all()
    assert result.confidence == pytest.approx(1 / (1 + np.exp(-1.5)), rel=1e-5)
    assert result.flags == ("touches-edge",)
    # The mean of probabilities would be (0.269 + 0.982) / 2; of logits (-5 + 4) / 2 < 0 is background.
    result = Segmenter(make_plan(), [Always(-5.0), Always(4.0)], path=CPU).segment(scan)
    assert not result.segmentation.array.any()
    assert result.confidence is None
    assert result.flags == ("empty",)


def test_only_the_largest_piece_stays_where_the_plan_says_so(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = scan_of(centred((36, 32, 34), AXIAL * 1.5))
    scan.array[0, 1:4, 1:4, 1:4] = 1000
    both = Segmenter(make_plan(), [bright()], path=CPU).segment(scan).segmentation.array
    plan = make_plan(infer=InferPlan(largest_component=(1,)))
    one = Segmenter(plan, [bright()], path=CPU).segment(scan).segmentation.array
    assert both[2, 2, 2] == 1
    assert one[2, 2, 2] == 0
    np.testing.assert_array_equal(both[8:], one[8:])


def test_small_pieces_go_and_holes_are_filled_where_the_plan_says_so(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = scan_of(centred((36, 32, 34), AXIAL * 1.5))
    scan.array[0, 1:4, 1:4, 1:4] = 1000
    scan.array[0, 16:20, 14:18, 15:19] = 0
    plain = Segmenter(make_plan(), [bright()], path=CPU).segment(scan).segmentation.array
    plan = make_plan(infer=InferPlan(minimum_ml={1: 1.0}, fill_holes=(1,)))
    tidy = Segmenter(plan, [bright()], path=CPU).segment(scan).segmentation.array
    assert (plain[2, 2, 2], plain[18, 16, 17]) == (1, 0)
    assert (tidy[2, 2, 2], tidy[18, 16, 17]) == (0, 1)


def test_a_region_is_the_whole_inside_and_background_outside(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = scan_of(centred((20, 40, 40), oblique(AXIAL * [2.5, 1.1, 1.2], 10)))
    segmenter = Segmenter(make_plan(), [bright()], path=CPU)
    whole = segmenter.segment(scan).segmentation.array
    box = Box((8, 15, 0), (16, 30, 21))
    part = segmenter.segment(scan, region=box).segmentation
    assert part.geometry is scan.geometry
    np.testing.assert_array_equal(part.array[box.slices], whole[box.slices])
    assert part.array.any()
    outside = part.array.copy()
    outside[box.slices] = 0
    assert not outside.any()
    with pytest.raises(GeometryError):
        segmenter.segment(scan, region=Box((0, 0, 0), (21, 1, 1)))


def test_slabs_are_told_as_they_come_and_cover_the_working_grid(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = scan_of(centred((36, 32, 34), AXIAL * 1.5))
    slabs: list[Segmentation] = []
    steps: list[Step] = []
    result = Segmenter(make_plan(), [bright()], path=CPU).segment(scan, on_slab=slabs.append, progress=steps.append)
    assert len(slabs) > 1
    joined = np.concatenate([slab.array for slab in slabs])
    np.testing.assert_array_equal(joined, result.segmentation.array)  # working grid and scan grid coincide here
    assert slabs[1].geometry.same_grid(
        scan.geometry.crop(Box((slabs[0].array.shape[0], 0, 0), (sum(s.array.shape[0] for s in slabs[:2]), 32, 34)))
    )
    assert [s.stage for s in steps if s.stage != "network"] == ["prepare", "restore"]


def test_probabilities_sum_to_one_and_agree_with_the_mask(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = scan_of(centred((14, 40, 44), AXIAL * [3.0, 0.9, 0.9]))
    segmenter = Segmenter(make_plan(), [bright()], path=CPU)
    probabilities = segmenter.probabilities(scan)
    assert probabilities.array.shape == (2, *scan.geometry.shape)
    assert probabilities.array.dtype == np.float32
    assert probabilities.channels == ("background", "lesion")
    assert probabilities.geometry is scan.geometry
    np.testing.assert_allclose(probabilities.array.sum(axis=0), 1.0, atol=1e-5)
    mask = segmenter.segment(scan).segmentation.array
    assert (probabilities.array.argmax(axis=0) != mask).mean() < 1e-4


def test_a_2d_network_segments_slices(
    make_plan: Callable[..., Plan],
    bright: type,
    scan_of: Callable[..., Volume],
    truth_of: Callable[..., Any],
    centred: Callable[..., Geometry],
) -> None:
    geometry = centred((12, 40, 44), AXIAL * [4.0, 0.9, 0.9])
    seen: list[tuple[int, ...]] = []

    class Watched(bright):  # type: ignore[misc]
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(windows.shape))
            return super().forward(windows)

    path = NumericPath(window_batch=3)
    result = Segmenter(make_plan(dimensions=2), [Watched()], path=path).segment(scan_of(geometry))
    mask, truth = result.segmentation.array.astype(bool), truth_of(geometry)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.93
    assert all(shape[1:] == (1, 16, 16) for shape in seen)
    assert {shape[0] for shape in seen} <= {1, 2, 3}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(
    value: float, make_plan: Callable[..., Plan], bright: type, centred: Callable[..., Geometry]
) -> None:
    array = np.zeros((1, 20, 20, 20), np.float32)
    array[0, 3, 4, 5] = value
    with pytest.raises(InputError, match="not finite") as caught:
        Segmenter(make_plan(), [bright()], path=CPU).segment(Volume(array, centred((20, 20, 20), AXIAL)))
    assert caught.value.code == "non-finite"


def test_another_number_of_channels_is_refused(
    make_plan: Callable[..., Plan], bright: type, centred: Callable[..., Geometry]
) -> None:
    scan = Volume(np.zeros((2, 20, 20, 20), np.float32), centred((20, 20, 20), AXIAL), ("T1", "T2"))
    with pytest.raises(InputError, match="has 2 channels; expected 1: MR"):
        Segmenter(make_plan(), [bright()], path=CPU).segment(scan)


def test_a_person_can_stop_it_between_windows(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    def stop(step: Step, /) -> None:
        if step.stage == "network" and step.done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        Segmenter(make_plan(), [bright()], path=CPU).segment(scan_of(centred((36, 32, 34), AXIAL * 1.5)), progress=stop)


@pytest.fixture
def model_folder(tmp_path: Path, make_plan: Callable[..., Plan]) -> Path:
    plan = make_plan(
        labels=LabelSet.from_names({1: "a", 2: "b"}),
        preprocess=PreprocessPlan(spacing_mm=(1.5, 1.5, 1.5), normalisation=(ZScore(),)),
        infer=InferPlan(mirror_axes=("Z", "Y")),
    )
    torch.manual_seed(1)
    members = {fold: build(plan.network, 1, 3).state_dict() for fold in (0, 1)}
    card = Card(name="t", created="2026-01-01T00:00:00Z", medseg="0", data=DataNote(name="d"), modalities=("MR",))
    save_model(tmp_path / "model", plan=plan, members=members, card=card)
    return tmp_path / "model"


def noise_scan(geometry: Geometry, seed: int = 0) -> Volume:
    smooth = np.random.default_rng(seed).normal(size=(1, *geometry.shape)).astype(np.float32)
    smooth = (smooth + np.roll(smooth, 1, 1) + np.roll(smooth, 1, 2) + np.roll(smooth, 1, 3)) * 100
    return Volume(smooth, geometry, ("MR",))


def test_a_loaded_model_gives_the_same_mask_every_time_and_leaves_torch_as_it_was(
    model_folder: Path, centred: Callable[..., Geometry]
) -> None:
    scan = noise_scan(centred((22, 24, 26), AXIAL * [2.0, 1.4, 1.4]))
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.random.get_rng_state())
    first, second = (
        Segmenter.load(model_folder, device="cpu", precision="fp32").segment(scan).segmentation.array for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert set(np.unique(first)) == {0, 1, 2}
    after = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.random.get_rng_state())
    assert before[:3] == after[:3]
    assert torch.equal(before[3], after[3])
    assert not torch.is_inference_mode_enabled()


def test_the_mask_of_a_scan_is_not_changed_and_bf16_is_close_to_fp32(
    model_folder: Path, centred: Callable[..., Geometry]
) -> None:
    scan = noise_scan(centred((22, 24, 26), AXIAL * [2.0, 1.4, 1.4]))
    copy = scan.array.copy()
    exact = Segmenter.load(model_folder, device="cpu", precision="fp32")
    short = Segmenter.load(model_folder, device="cpu", precision="bf16")
    assert (exact.path.precision, short.path.precision) == ("fp32", "bf16")
    p, q = exact.probabilities(scan).array, short.probabilities(scan).array
    assert np.abs(p - q).max() < 0.05
    assert np.abs(p - q).max() > 0
    np.testing.assert_array_equal(scan.array, copy)


def test_mirroring_follows_the_plan_and_only_when_asked(model_folder: Path, centred: Callable[..., Geometry]) -> None:
    scan = noise_scan(centred((12, 16, 16), AXIAL * 1.5))
    plain = Segmenter.load(model_folder, precision="fp32", device="cpu").probabilities(scan).array
    mirrored = Segmenter.load(model_folder, precision="fp32", device="cpu", mirrored=True)
    again = mirrored.probabilities(Volume(np.ascontiguousarray(scan.array[:, ::-1]), scan.geometry)).array[:, ::-1]
    once = mirrored.probabilities(scan).array
    np.testing.assert_allclose(once, again, atol=1e-4)
    assert np.abs(once - plain).max() > 1e-3


def test_single_members_can_be_taken_from_an_ensemble(model_folder: Path, centred: Callable[..., Geometry]) -> None:
    scan = noise_scan(centred((12, 16, 16), AXIAL * 1.5))

    def logits(members: tuple[int, ...] | None) -> np.ndarray[Any, Any]:
        segmenter = Segmenter.load(model_folder, device="cpu", precision="fp32", members=members)
        probabilities = segmenter.probabilities(scan).array
        return np.log(probabilities[1:]) - np.log(probabilities[:1])

    first, second, both = logits((0,)), logits((1,)), logits(None)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-3)
    with pytest.raises(ModelError, match="no member 5"):
        logits((5,))


def test_a_path_decided_before_is_kept(model_folder: Path) -> None:
    path = NumericPath(precision="fp32", window_batch=3)
    assert Segmenter.load(model_folder, device="cpu", precision="bf16", path=path).path == path


def test_there_must_be_a_network(make_plan: Callable[..., Plan]) -> None:
    with pytest.raises(ModelError, match="no network"):
        Segmenter(make_plan(), [], path=CPU)


def test_peak_memory_is_this_process_own() -> None:
    held = np.ones(1_200_000_000, dtype=np.uint8)  # a child inherits what its parent held, in ru_maxrss
    program = "from medseg.inference.memory import peak_ram_mb; print(peak_ram_mb())"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert held.nbytes / 1e6 > float(child.stdout) > 50


def test_a_fast_pass_sees_a_coarser_grid_and_finds_the_same_body(
    model_folder: Path,
    make_plan: Callable[..., Plan],
    bright: type,
    scan_of: Callable[..., Volume],
    centred: Callable[..., Geometry],
) -> None:
    scan = scan_of(centred((48, 46, 44), AXIAL))
    segmenter = Segmenter(make_plan(), [bright()], path=CPU)
    seen: list[list[Segmentation]] = [[], []]
    masks = [
        one.segment(scan, on_slab=slabs.append).segmentation.array
        for one, slabs in zip((segmenter, segmenter.fast()), seen, strict=True)
    ]
    assert seen[1][0].geometry.spacing_mm == pytest.approx((2.25, 2.25, 2.25), rel=0.05)
    usual, fast = (sum(slab.array.size for slab in slabs) for slabs in seen)
    assert fast < 0.4 * usual
    assert 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()) > 0.95
    loaded = Segmenter.load(model_folder)
    assert (loaded.is_fast, loaded.fast().is_fast, loaded.fast().with_crf(on=True).is_fast) == (False, True, True)
    flat = Segmenter(make_plan(dimensions=2), [bright()], path=CPU).fast()
    assert flat.plan.preprocess.spacing_mm == pytest.approx((1.5, 2.25, 2.25))
