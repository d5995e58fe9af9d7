"""The fully connected CRF against the sum over all pairs, and against known truth."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax, softmax

from medseg import scratch
from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.networks import crf
from medseg.networks.crf import mean_field
from medseg.phantom import HEAD_LABELS, head_mr
from medseg.plan import CrfPlan
from medseg.progress import Cancelled, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

STRONG = CrfPlan(
    smoothness_weight=2.0,
    smoothness_sigma_mm=2.0,
    appearance_weight=3.0,
    appearance_sigma_mm=4.0,
    appearance_sigma_intensity=0.5,
)
ISOTROPIC = (1.0, 1.0, 1.0)
MEAN_ERROR, LARGEST_ERROR = 0.004, 0.06
"""What the lattice may change of a probability, on average over voxels and classes, and at the worst voxel."""


def brute_force(logits_kzyx: Tensor, image_czyx: Tensor, plan: CrfPlan, spacing_mm: Sequence[float]) -> NDArray[Any]:
    """Probabilities by the sum over all pairs of voxels, in double precision: Algorithm 1 of the paper."""
    shape = logits_kzyx.shape[1:]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    apart = index[:, None] * np.array(spacing_mm) - index[None] * np.array(spacing_mm)
    far = (apart**2).sum(axis=-1)
    grey = image_czyx.double().numpy().reshape(len(image_czyx), -1)
    unlike = ((grey[:, :, None] - grey[:, None]) ** 2).sum(axis=0)
    kernels = (
        (plan.smoothness_weight, np.exp(-far / (2 * plan.smoothness_sigma_mm**2))),
        (
            plan.appearance_weight,
            np.exp(-far / (2 * plan.appearance_sigma_mm**2) - unlike / (2 * plan.appearance_sigma_intensity**2)),
        ),
    )
    edges = np.zeros_like(far)
    for weight, kernel in kernels:
        scale = 1 / np.sqrt(kernel.sum(axis=1))
        edges += weight * scale[:, None] * kernel * scale
    np.fill_diagonal(edges, 0)
    unary = log_softmax(logits_kzyx.double().numpy().reshape(len(logits_kzyx), -1), axis=0)
    scores = unary
    for _ in range(plan.iterations):
        scores = unary + softmax(scores, axis=0) @ edges
    return softmax(scores, axis=0).reshape(logits_kzyx.shape)


def doubtful(shape: tuple[int, int, int], *, channels: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Logits that are mostly noise, and an image of two grey values with noise of its own."""
    draw = torch.Generator().manual_seed(7)
    halves = (torch.arange(shape[2]) >= shape[2] // 2).float().expand(shape)
    image = halves * 2 + 0.25 * torch.randn(channels, *shape, generator=draw)
    logits = 1.5 * torch.randn(classes, *shape, generator=draw)
    logits[1] += 2 * halves - 1
    return logits, image


CASES = {
    "3-D": ((9, 11, 12), 1, ISOTROPIC),
    "3-D, thick slices": ((6, 13, 14), 1, (3.0, 0.9, 1.1)),
    "3-D, two channels": ((8, 11, 12), 2, (1.6, 1.0, 0.8)),
    "2-D": ((1, 28, 30), 1, (5.0, 0.8, 0.8)),
    "2-D, anisotropic": ((1, 28, 30), 1, (5.0, 1.4, 0.6)),
    "2-D, two channels": ((1, 28, 30), 2, (5.0, 1.0, 0.7)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_equals_the_sum_over_all_pairs(name: str) -> None:
    shape, channels, spacing = CASES[name]
    logits, image = doubtful(shape, channels=channels)
    exact = brute_force(logits, image, STRONG, spacing)
    error = np.abs(mean_field(logits, image, STRONG, spacing_mm=spacing).exp().numpy() - exact)
    assert error.mean() < MEAN_ERROR
    assert error.max() < LARGEST_ERROR
    assert np.abs(logits.softmax(dim=0).numpy() - exact).mean() > 20 * MEAN_ERROR  # the CRF has much to do


@pytest.mark.parametrize(
    "change",
    [
        {"appearance_weight": 3.6},
        {"smoothness_weight": 2.4},
        {"appearance_sigma_mm": 5.0},
        {"appearance_sigma_intensity": 0.8},
        {"smoothness_sigma_mm": 2.5},
        {"iterations": 2},
    ],
    ids=str,
)
def test_the_comparison_sees_a_wrong_kernel(change: dict[str, float]) -> None:
    shape, channels, spacing = CASES["3-D, thick slices"]
    logits, image = doubtful(shape, channels=channels)
    exact = brute_force(logits, image, STRONG, spacing)
    broken = mean_field(logits, image, STRONG.model_copy(update=change), spacing_mm=spacing)
    assert np.abs(broken.exp().numpy() - exact).mean() > MEAN_ERROR


def test_the_comparison_sees_another_spacing() -> None:
    shape, channels, spacing = CASES["3-D, thick slices"]
    logits, image = doubtful(shape, channels=channels)
    broken = mean_field(logits, image, STRONG, spacing_mm=ISOTROPIC).exp().numpy()
    assert np.abs(broken - brute_force(logits, image, STRONG, spacing)).mean() > MEAN_ERROR


def test_smoothness_alone_is_exact() -> None:
    logits, image = doubtful((6, 9, 8), channels=1)
    plan = STRONG.model_copy(update={"appearance_weight": 0.0})
    refined = mean_field(logits.double(), image, plan, spacing_mm=(2.5, 0.9, 1.1)).exp()
    np.testing.assert_allclose(refined.numpy(), brute_force(logits, image, plan, (2.5, 0.9, 1.1)), atol=1e-6)


def truth_and_doubt(seed: int) -> tuple[NDArray[Any], Tensor, Tensor]:
    """The middle of a head: true classes, the image, and logits as of a network that blurs by 2 mm and errs."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]
    affine[:3, 3] = -36.0
    phantom = head_mr(seed, geometry=Geometry((36, 36, 36), affine))
    truth = phantom.segmentation.array
    image = torch.from_numpy(phantom.volume.array.astype(np.float32))
    draw = np.random.default_rng(seed)
    blurred = np.stack([gaussian_filter((truth == k).astype(np.float32), 1.0) for k in (0, *HEAD_LABELS.ids)])
    noise = np.stack([gaussian_filter(draw.normal(size=truth.shape), 1.0) for _ in blurred])
    logits = np.log(blurred + 0.01) + noise / noise.std()
    return truth, (image - image.mean()) / image.std(), torch.from_numpy(logits.astype(np.float32))


def dice(scores_kzyx: Tensor, truth: NDArray[Any]) -> NDArray[Any]:
    winner = scores_kzyx.argmax(dim=0).numpy()
    both = [2 * ((winner == k) & (truth == k)).sum() / ((winner == k).sum() + (truth == k).sum()) for k in range(1, 6)]
    return np.array(both)


@pytest.mark.parametrize("seed", [1, 2])
def test_it_raises_dice_where_boundaries_are_blurred(seed: int) -> None:
    truth, image, logits = truth_and_doubt(seed)
    before, after = dice(logits, truth), dice(mean_field(logits, image, CrfPlan(), spacing_mm=(2.0,) * 3), truth)
    assert after.mean() > before.mean() + 0.05
    assert (after > before).all()


def test_slices_of_a_2d_network_know_nothing_of_each_other() -> None:
    logits, image = doubtful((4, 9, 10), channels=1)
    together = mean_field(logits, image, STRONG, spacing_mm=(1.0, 1.2, 0.9), slice_axis=0)
    for z in range(4):
        alone = mean_field(logits[:, z : z + 1], image[:, z : z + 1], STRONG, spacing_mm=(7.0, 1.2, 0.9))
        torch.testing.assert_close(together[:, z : z + 1], alone)
    turned = mean_field(
        logits.movedim(1, 3), image.movedim(1, 3), STRONG, spacing_mm=(1.2, 0.9, 1.0), slice_axis=2
    ).movedim(3, 1)
    torch.testing.assert_close(turned, together, atol=1e-4, rtol=0)
    joined = mean_field(logits, image, STRONG, spacing_mm=(1.0, 1.2, 0.9))
    assert not torch.allclose(joined, together, atol=0.05)


def test_a_turned_or_shifted_image_gets_the_turned_or_shifted_result() -> None:
    logits, image = doubtful((7, 9, 8), channels=1)
    spacing = (1.5, 0.8, 1.1)
    refined = mean_field(logits, image, STRONG, spacing_mm=spacing).exp()
    turned = mean_field(logits.permute(0, 3, 1, 2), image.permute(0, 3, 1, 2), STRONG, spacing_mm=(1.1, 1.5, 0.8))
    flipped = mean_field(logits.flip(2), image.flip(2), STRONG, spacing_mm=spacing)
    brighter = mean_field(logits, image + 5.3, STRONG, spacing_mm=spacing)
    for other in (turned.permute(0, 2, 3, 1), flipped.flip(2), brighter):
        difference = (other.exp() - refined).abs()
        assert difference.mean() < 2 * MEAN_ERROR  # the lattice lies otherwise, and each is within the error of the sum
        assert difference.max() < 2 * LARGEST_ERROR


def test_smoothing_is_by_millimetres_in_every_direction() -> None:
    """One voxel of doubt amid a class: the same pull from neighbours 3 mm away, whatever the axis."""
    plan = CrfPlan(iterations=1, appearance_weight=0.0, smoothness_sigma_mm=2.0)
    pulls = []
    for axis in range(3):
        logits = torch.zeros(2, 9, 9, 9)
        logits.select(1 + axis, 5)[1] = 6.0  # a plane one step beside the middle
        spacing = [1.0, 1.0, 1.0]
        spacing[axis] = 3.0
        pulls.append(float(mean_field(logits, torch.zeros(1, 9, 9, 9), plan, spacing_mm=spacing)[1, 4, 4, 4]))
    assert max(pulls) - min(pulls) < 1e-5


def test_only_the_ratio_of_spacing_and_sigma_counts() -> None:
    logits, image = doubtful((5, 8, 9), channels=1)
    finer = STRONG.model_copy(update={"smoothness_sigma_mm": 0.5, "appearance_sigma_mm": 1.0})
    small = mean_field(logits, image, finer, spacing_mm=(0.5, 0.25, 0.25))
    torch.testing.assert_close(small, mean_field(logits, image, STRONG, spacing_mm=(2.0, 1.0, 1.0)))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_probabilities_sum_to_one_and_nothing_given_is_changed(kind: torch.dtype) -> None:
    logits, image = doubtful((5, 8, 9), channels=2, classes=4)
    logits = (logits * 30).to(kind)
    before = logits.clone(), image.clone()
    refined = mean_field(logits, image, CrfPlan(), spacing_mm=ISOTROPIC)
    assert refined.dtype is kind
    torch.testing.assert_close(refined.exp().sum(dim=0), torch.ones(5, 8, 9, dtype=kind), atol=1e-5, rtol=0)
    assert torch.equal(before[0], logits)
    assert torch.equal(before[1], image)


def test_without_weights_it_is_the_softmax_of_the_logits() -> None:
    logits, image = doubtful((4, 6, 7), channels=1)
    idle = CrfPlan(smoothness_weight=0.0, appearance_weight=0.0)
    torch.testing.assert_close(mean_field(logits, image, idle, spacing_mm=ISOTROPIC), logits.log_softmax(dim=0))


def test_a_voxel_unlike_all_others_is_left_alone() -> None:
    image = torch.zeros(1, 5, 5, 5)
    image[0, 2, 2, 2] = 40.0
    logits = torch.stack([torch.full((5, 5, 5), 2.0), torch.zeros(5, 5, 5)])
    logits[:, 2, 2, 2] = torch.tensor([0.0, 0.5])
    plan = CrfPlan(smoothness_weight=0.0, appearance_weight=3.0)
    refined = mean_field(logits, image, plan, spacing_mm=ISOTROPIC)
    assert float(refined[1, 2, 2, 2]) == pytest.approx(float(logits.log_softmax(dim=0)[1, 2, 2, 2]), abs=0.02)


def test_a_single_voxel_and_a_single_class_are_no_trouble() -> None:
    one = mean_field(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1), torch.ones(1, 1, 1, 1), STRONG, spacing_mm=ISOTROPIC)
    torch.testing.assert_close(one.flatten(), torch.tensor([1.0, 2.0]).log_softmax(dim=0), atol=1e-5, rtol=0)
    same = mean_field(torch.rand(1, 3, 4, 5), torch.zeros(1, 3, 4, 5), STRONG, spacing_mm=ISOTROPIC)
    torch.testing.assert_close(same, torch.zeros(1, 3, 4, 5))


@pytest.mark.parametrize(
    ("logits", "image", "said"),
    [
        (
            torch.zeros(2, 3, 4, 5).bfloat16(),
            torch.zeros(1, 3, 4, 5),
            r"bfloat16; expected float32 or float64.*\.float",
        ),
        (torch.zeros(2, 3, 4, 5).half(), torch.zeros(1, 3, 4, 5), "float16"),
        (torch.zeros(2, 3, 4, 5).int(), torch.zeros(1, 3, 4, 5), "int32"),
        (torch.zeros(2, 3, 4, 5), torch.zeros(1, 3, 4, 5).short(), "image is int16; expected floating-point"),
        (torch.zeros(2, 3, 4, 5), torch.zeros(1, 3, 5, 4), r"\(2, 3, 4, 5\) and .* \(1, 3, 5, 4\).*same grid"),
        (torch.zeros(2, 3, 4), torch.zeros(1, 3, 4), "expected .classes, Z, Y, X"),
        (torch.zeros(0, 3, 4, 5), torch.zeros(1, 3, 4, 5), "no voxel, class or channel"),
        (torch.full((2, 3, 4, 5), torch.nan), torch.zeros(1, 3, 4, 5), "logits .* NaN"),
        (torch.zeros(2, 3, 4, 5), torch.full((1, 3, 4, 5), torch.inf), "image .* infinity"),
        (torch.zeros(2, 3, 4, 5), torch.linspace(0, 1e12, 60).reshape(1, 3, 4, 5), "too far apart"),
    ],
)
def test_what_it_cannot_refine_is_refused(logits: Tensor, image: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        mean_field(logits, image, CrfPlan(), spacing_mm=ISOTROPIC)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0), (1.0, 1.0, float("inf"))])
def test_a_spacing_that_is_none_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError, match="three lengths in mm"):
        mean_field(torch.zeros(2, 3, 4, 5), torch.zeros(1, 3, 4, 5), CrfPlan(), spacing_mm=spacing)


def test_progress_is_told_and_stops_it_between_iterations() -> None:
    logits, image = doubtful((3, 5, 6), channels=1)
    told: list[Step] = []
    mean_field(logits, image, CrfPlan(iterations=3), spacing_mm=ISOTROPIC, progress=told.append)
    assert [(step.stage, step.done, step.total) for step in told] == [("crf", i, 3) for i in range(4)]
    told.clear()
    mean_field(logits, image, CrfPlan(iterations=2), spacing_mm=ISOTROPIC, slice_axis=0, progress=told.append)
    assert [step.done for step in told] == [0, 1, 2, 2, 3, 4, 4, 5, 6]
    assert {step.total for step in told} == {6}

    def stop(step: Step, /) -> None:
        if step.done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        mean_field(logits, image, CrfPlan(), spacing_mm=ISOTROPIC, progress=stop)


def all_at_once(logits_kzyx: Tensor, image_czyx: Tensor, plan: CrfPlan, spacing_mm: Sequence[float]) -> Tensor:
    """The iterations written down plainly: every array of all classes and voxels in memory, nothing in parts."""
    unary = logits_kzyx.log_softmax(dim=0)
    kernels = [crf._smoothness(unary, plan, spacing_mm), crf._appearance(image_czyx, plan, spacing_mm)]
    scores = unary
    for _ in range(plan.iterations):
        beliefs, scores = scores.softmax(dim=0), unary.clone()
        for messages in kernels:
            scores += messages(beliefs)
    return scores.log_softmax(dim=0)


@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("channels", [1, 2])
def test_parts_and_files_change_no_number(classes: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(classes, 7, 13, 11, generator=generator) * 3
    image = torch.rand(channels, 7, 13, 11, generator=generator)
    wanted = all_at_once(logits, image, STRONG, (2.0, 1.0, 1.2))
    before = logits.clone()
    assert torch.equal(mean_field(logits, image, STRONG, spacing_mm=(2.0, 1.0, 1.2)), wanted)
    for at_once, tolerance in ((crf.AT_ONCE_BYTES, 0), (30_000, 1e-6), (1, 1e-6)):  # what rounds otherwise in parts
        monkeypatch.setattr(crf, "AT_ONCE_BYTES", at_once)
        array = scratch.empty(logits.shape)
        array[:] = logits.numpy()
        for source in (logits, torch.from_numpy(array)):  # the second is written over
            found = mean_field(source, image, STRONG, spacing_mm=(2.0, 1.0, 1.2), out=array)
            assert found.data_ptr() == array.ctypes.data
            torch.testing.assert_close(found.exp(), wanted.exp(), rtol=0, atol=tolerance)
            array[:] = logits.numpy()
    assert torch.equal(logits, before)


def test_slices_are_refined_in_place_too() -> None:
    logits, image = doubtful((5, 9, 8), channels=1)
    wanted = mean_field(logits, image, STRONG, spacing_mm=ISOTROPIC, slice_axis=1)
    array = scratch.empty(logits.shape)
    array[:] = logits.numpy()
    mean_field(torch.from_numpy(array), image, STRONG, spacing_mm=ISOTROPIC, slice_axis=1, out=array)
    np.testing.assert_array_equal(array, wanted.numpy())


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 3, 4, 6), np.float32), np.zeros((2, 3, 4, 5)), np.zeros((5, 4, 3, 2)).T]
)
def test_an_array_of_another_kind_is_not_written_to(wrong: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="the array to write to"):
        mean_field(torch.zeros(2, 3, 4, 5), torch.zeros(1, 3, 4, 5), CrfPlan(), spacing_mm=ISOTROPIC, out=wrong)


PROGRAM = """
import threading
import time
import torch
from medseg import scratch
from medseg.networks import crf
from medseg.plan import CrfPlan

SIDE, AT_ONCE = 48, 48**3 * 4  # one class
appearance, peak, now = crf._appearance, {}, ["before"]

def anonymous():
    return int(open("/proc/self/status").read().partition("RssAnon:")[2].split()[0]) * 1024

def watch():
    while now[0] != "done":
        peak[now[0]] = max(peak.get(now[0], 0), anonymous())
        time.sleep(0.001)

def watched(*args, **kwargs):
    now[0] = "lattice"
    messages = appearance(*args, **kwargs)
    start = anonymous()
    now[0] = start
    return messages

crf._appearance, crf.AT_ONCE_BYTES = watched, AT_ONCE
for classes in (3, 20):
    generator, found = torch.Generator().manual_seed(0), []
    image = torch.rand(1, SIDE, SIDE, SIDE, generator=generator) * 0.3
    array = scratch.empty((classes, SIDE, SIDE, SIDE))
    for row in array:
        row[:] = torch.randn(SIDE, SIDE, SIDE, generator=generator).numpy()
    peak, now = {}, ["before"]
    thread = threading.Thread(target=watch)
    thread.start()
    crf.mean_field(torch.from_numpy(array), image, CrfPlan(iterations=1), spacing_mm=(1.5,) * 3, out=array)
    start, now[0] = now[0], "done"
    thread.join()
    print((peak[start] - start) / AT_ONCE)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory by kind is told by Linux alone")
def test_beyond_the_lattice_memory_does_not_grow_with_the_classes() -> None:
    """In maps of one class, at the peak; what is not backed by a file, as the rest can be let go of."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "200000"}  # so that freed memory goes back at once
    child = [sys.executable, "-c", PROGRAM]
    text = subprocess.run(child, capture_output=True, text=True, check=True, env=environment).stdout
    of_few, of_many = (float(line) for line in text.split())
    assert 1 < of_few < 12
    assert 1 < of_many < 12  # 104 where all are sent at once
