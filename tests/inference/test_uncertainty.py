"""Maps beside the mask: entropy against plain NumPy on the whole grid, in the same pass, in temporary files."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from medseg.errors import InputError, PlanError
from medseg.geometry import Box, Geometry
from medseg.inference import NumericPath, Segmenter
from medseg.inference.uncertainty import FLOOR, Uncertainty, entropy
from medseg.labels import LabelSet
from medseg.plan import CrfPlan, InferPlan
from medseg.resample import resample
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.plan import Plan

AXIAL = np.fliplr(np.eye(3))
CPU = NumericPath()


def turned(degrees: float) -> np.ndarray[Any, Any]:
    a = np.deg2rad(degrees)
    return np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])


def plain_entropy(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Normalised entropy by SciPy in double precision, without the floor."""
    return np.asarray(scipy_entropy(softmax(scores.astype(np.float64), axis=0), axis=0) / np.log(len(scores)))


def agrees(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    near = np.abs(wanted - FLOOR) < 1e-5
    floored = np.where(wanted < FLOOR, 0, wanted)
    np.testing.assert_allclose(found[~near], floored[~near], atol=1e-5)
    assert near.mean() < 0.01


def test_certain_is_none_and_evenly_likely_is_all() -> None:
    for classes in (2, 3, 14, 105):
        found = entropy(torch.stack([torch.zeros(classes), torch.eye(classes)[1] * 40]))
        torch.testing.assert_close(found, torch.tensor([1.0, 0.0]))
    scores = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0)) * 4
    found = entropy(scores)
    agrees(found.numpy(), plain_entropy(scores.T.numpy()))
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize(
    "steps",
    [np.eye(3), np.diag([0.5, 0.7, 0.6]), np.diag([2.1, 1.3, 1.7]), turned(23) * 0.8],
    ids=["same", "finer", "coarser", "oblique"],
)
def test_the_streamed_map_is_the_entropy_of_interpolated_scores(classes: int, steps: np.ndarray[Any, Any]) -> None:
    """Scores that are sure of different classes in different places: the middle between them must show."""
    rng = np.random.default_rng(classes)
    shape = (11, 13, 12)
    scores = rng.normal(size=(classes, *shape)).astype(np.float32)
    place = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    sure = np.where(place[2] < 6, 0, 1)
    scores += 25 * (np.arange(classes)[:, None, None, None] == sure)
    scores[:, :, 4:6, 3:5] = rng.normal(size=(classes, 11, 2, 2))
    working = Geometry(shape, np.eye(4))
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = 5 - steps @ np.full(3, 9.5)
    scan = working if np.array_equal(steps, np.eye(3)) else Geometry((20, 20, 20), affine)
    made = Uncertainty(working, scan, np.zeros(scan.shape, np.float32))
    for start in range(0, 11, 4):
        made.add(torch.from_numpy(scores[:, start : start + 4]))
    names = tuple(f"{k}" for k in range(classes))
    agrees(made.out, plain_entropy(resample(Volume(scores, working, names), onto=scan).array))
    assert 0.1 < (made.out == 0).mean() < 1  # and most of it was not computed
    assert made.out.max() > 0.1


def test_doubt_between_certain_voxels_shows_where_interpolated_entropy_would_not() -> None:
    working = Geometry((1, 1, 2), np.eye(4))
    finer = Geometry((1, 1, 3), np.diag([1, 1, 0.5, 1.0]))
    made = Uncertainty(working, finer, np.zeros(finer.shape, np.float32))
    made.add(torch.tensor([[30.0, 0.0], [0.0, 30.0]]).reshape(2, 1, 1, 2))
    np.testing.assert_allclose(made.out.ravel(), [0, 1, 0])


class Counting(torch.nn.Module):
    """Three classes by brightness, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = windows[:, 0]
        return torch.stack([1 - 4 * x, 6 * x - 3, x.square()], dim=1)


@pytest.fixture
def three(make_plan: Callable[..., Plan]) -> Callable[..., Plan]:
    def make(**changes: Any) -> Plan:
        return make_plan(labels=LabelSet.from_names({2: "lesion", 7: "cyst"}), **changes)

    return make


@pytest.fixture
def noisy(scan_of: Callable[..., Volume], centred: Callable[..., Geometry]) -> Volume:
    scan = scan_of(centred((20, 24, 26), AXIAL @ turned(15) * [2.0, 1.2, 1.1]))
    noise = np.random.default_rng(0).integers(0, 900, scan.array.shape)
    return Volume((scan.array + noise).astype(np.int16), scan.geometry, scan.channels)


@pytest.mark.parametrize("crf", [None, CrfPlan(iterations=2)], ids=["network", "crf"])
def test_maps_come_with_the_mask_in_one_pass(three: Callable[..., Plan], noisy: Volume, crf: CrfPlan | None) -> None:
    network, again = Counting(), Counting()
    plan = three(infer=InferPlan(crf=crf))
    alone = Segmenter(plan, [again], path=CPU).segment(noisy)
    result = Segmenter(plan, [network], path=CPU).segment(noisy, maps=("probabilities", "uncertainty"))
    assert network.calls == again.calls
    assert alone.maps == {}
    np.testing.assert_array_equal(result.segmentation.array, alone.segmentation.array)
    uncertainty, probabilities = result.maps["uncertainty"], result.maps["probabilities"]
    assert uncertainty.geometry is noisy.geometry
    assert uncertainty.array.shape == (1, *noisy.geometry.shape)
    assert uncertainty.array.dtype == np.float32
    assert uncertainty.channels == ("uncertainty",)
    assert probabilities.channels == ("background", "lesion", "cyst")
    np.testing.assert_allclose(probabilities.array.sum(axis=0), 1.0, atol=1e-5)
    agrees(uncertainty.array[0], plain_entropy(np.log(probabilities.array + 1e-30)))
    inside = np.take([0, 2, 7], probabilities.array.argmax(axis=0)) == result.segmentation.array
    assert inside[uncertainty.array[0] < 0.5].mean() > 0.999
    same = Segmenter(plan, [network], path=CPU).probabilities(noisy).array
    np.testing.assert_array_equal(same, probabilities.array)


def test_a_networks_doubt_lies_between_its_classes(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = scan_of(centred((30, 32, 34), AXIAL))
    result = Segmenter(make_plan(), [bright()], path=CPU).segment(scan, maps=("uncertainty",))
    mask, doubt = result.segmentation.array, result.maps["uncertainty"].array[0]
    edge = np.zeros(mask.shape, bool)
    for axis in range(3):
        edge |= (mask != np.roll(mask, 1, axis)) | (mask != np.roll(mask, -1, axis))
    assert doubt[edge].mean() > 0.2
    assert doubt[~edge].mean() < 0.03


def test_what_was_cropped_away_is_background_for_certain() -> None:
    working = Geometry((2, 2, 2), np.eye(4))
    scan = Geometry((4, 2, 2), np.eye(4))
    for is_cropped, beyond in ((True, 0), (False, 1)):
        made = Uncertainty(working, scan, np.zeros(scan.shape, np.float32), is_cropped=is_cropped)
        made.add(torch.zeros(3, 2, 2, 2))
        np.testing.assert_allclose(made.out[:, 0, 0], [1, 1, beyond, beyond])


def test_outside_a_region_background_is_certain(three: Callable[..., Plan], noisy: Volume) -> None:
    box = Box((3, 4, 5), (15, 18, 20))
    segmenter = Segmenter(three(), [Counting()], path=CPU)
    part = segmenter.segment(noisy, region=box, maps=("uncertainty", "probabilities")).maps
    whole = segmenter.segment(noisy, maps=("uncertainty", "probabilities")).maps
    outside = np.ones(noisy.geometry.shape, bool)
    outside[box.slices] = False
    assert not part["uncertainty"].array[0, outside].any()
    np.testing.assert_array_equal(part["probabilities"].array[:, outside].T, np.tile([1, 0, 0], (outside.sum(), 1)))
    inside = part["uncertainty"].array[0][box.slices]
    np.testing.assert_allclose(inside, whole["uncertainty"].array[0][box.slices], atol=1e-4)


def test_what_does_not_fit_onto_the_disk_is_refused_before_the_network_runs(
    three: Callable[..., Plan], noisy: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Counting()
    segmenter = Segmenter(three(), [network], path=CPU)
    voxels = int(np.prod(noisy.geometry.shape))
    for free, maps in ((4 * voxels, ("uncertainty",)), (12 * voxels, ("probabilities",))):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free - 1))
        before = network.calls
        with pytest.raises(InputError, match=r"temporary files take .* GB of disk") as caught:
            segmenter.segment(noisy, maps=maps)
        assert caught.value.code == "disk"
        assert network.calls == before
        segmenter.segment(noisy)  # a mask alone needs none
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        segmenter.segment(noisy, maps=maps)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(InputError, match="temporary files"):
        segmenter.with_crf(on=True).segment(noisy)


def test_a_disk_that_fills_up_meanwhile_is_told_in_a_sentence(
    three: Callable[..., Plan], noisy: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    for segmenter, maps in (
        (Segmenter(three(), [Counting()], path=CPU), ("uncertainty",)),
        (Segmenter(three(infer=InferPlan(crf=CrfPlan())), [Counting()], path=CPU), ()),
    ):
        with pytest.raises(InputError, match=r"No space left on device.*TMPDIR"):
            segmenter.segment(noisy, maps=maps)


def test_a_map_of_another_name_is_refused(three: Callable[..., Plan], noisy: Volume) -> None:
    with pytest.raises(PlanError, match="the map 'entropy' is not known; expected some of uncertainty, probabilities"):
        Segmenter(three(), [Counting()], path=CPU).segment(noisy, maps=("entropy",))  # type: ignore[arg-type]
