from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from medseg.errors import ModelError, PlanError
from medseg.progress import Cancelled, Step
from medseg.tiling import Tiling, Window, place_windows, sliding_window, stream_logits, window_starts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def context_network(dimensions: int, *, classes: int = 3, channels: int = 1) -> Callable[[Tensor], Tensor]:
    """A network whose answer depends on the window's surroundings, so that blending shows."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(classes, channels, *(5,) * dimensions, generator=generator)
    convolve = F.conv3d if dimensions == 3 else F.conv2d

    def predict(windows: Tensor) -> Tensor:
        out = convolve(windows, kernel.to(windows.dtype), padding=2)
        mean = out.mean(dim=tuple(range(2, out.ndim)), keepdim=True)
        return torch.tanh(out - mean) * 4  # the mean makes it depend on the whole window

    return predict


def whole_accumulation(
    predict: Callable[[Tensor], Tensor],
    image_czyx: Tensor,
    tiling: Tiling,
    *,
    place: Callable[..., list[Window]] = place_windows,
) -> Tensor:
    """The same sum, the plain way: full volume, float64, and divided by the summed weights."""
    sizes = image_czyx.shape[1:]
    axes = [place(n, p, overlap=tiling.overlap) for n, p in zip(sizes, tiling.patch_size, strict=True)]
    total = torch.zeros(tiling.classes, *sizes, dtype=torch.float64)
    count = torch.zeros(sizes, dtype=torch.float64)
    for windows in itertools.product(*axes):
        box = tuple(slice(w.start, w.start + len(w.weights)) for w in windows)
        weight = torch.einsum("z,y,x->zyx", *(w.weights for w in windows))
        patch = image_czyx[(slice(None), *box)].double()[None]
        if tiling.slice_axis is not None:
            patch = patch.squeeze(tiling.slice_axis + 2)
        logits = predict(patch)
        if tiling.slice_axis is not None:
            logits = logits.unsqueeze(tiling.slice_axis + 2)
        total[(slice(None), *box)] += logits[0] * weight
        count[box] += weight
    return total / count


@pytest.mark.parametrize("size", [1, 5, 8, 13, 16, 17, 40])
@pytest.mark.parametrize("patch", [1, 2, 5, 8])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75, 0.9])
def test_windows_cover_an_axis_evenly_and_their_weights_sum_to_one(size: int, patch: int, overlap: float) -> None:
    size = max(size, patch)
    windows = place_windows(size, patch, overlap=overlap)
    starts = [w.start for w in windows]
    assert starts[0] == 0
    assert starts[-1] == size - patch
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(1 <= step < max(1, patch * (1 - overlap)) + 1 for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1
    total = torch.zeros(size, dtype=torch.float64)
    for window in windows:
        total[window.start : window.start + patch] += window.weights
    torch.testing.assert_close(total, torch.ones(size, dtype=torch.float64), rtol=0, atol=1e-12)


def test_windows_lie_where_nnunet_puts_them() -> None:
    assert window_starts(244, 128, overlap=0.5) == [0, 58, 116]
    assert window_starts(128, 128, overlap=0.5) == [0]
    assert window_starts(110, 64, overlap=0.5) == [0, 23, 46]


@pytest.mark.parametrize("patch", [7, 8, 32])
def test_the_weights_of_nnunet_peak_at_the_voxel_behind_the_middle(patch: int) -> None:
    import numpy as np
    from scipy.ndimage import gaussian_filter

    size = 2 * patch + 3
    peak = np.zeros(patch)
    peak[patch // 2] = 1
    gaussian = gaussian_filter(peak, patch / 8, mode="constant", cval=0)
    windows = place_windows(size, patch, overlap=0.5, style="nnunet")
    total = np.zeros(size)
    for window in windows:
        total[window.start : window.start + patch] += gaussian
    for window in windows:
        expected = gaussian / total[window.start : window.start + patch]
        np.testing.assert_allclose(window.weights, expected, atol=1e-6)
    others = place_windows(size, patch, overlap=0.5)
    assert all(torch.equal(a.weights, b.weights) for a, b in zip(windows, others, strict=True)) == (patch % 2 == 1)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("size", [(9, 8, 7), (17, 13, 11), (8, 21, 7)])
def test_a_streamed_window_equals_the_whole_accumulated_in_float64(size: tuple[int, ...], overlap: float) -> None:
    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(1))
    tiling = Tiling((8, 6, 7), classes=3, overlap=overlap, batch=3)
    predict = context_network(3)
    ours = sliding_window(lambda windows: predict(windows.double()), image, tiling=tiling)
    torch.testing.assert_close(ours.double(), whole_accumulation(predict, image, tiling), rtol=0, atol=5e-6)


def test_the_comparison_notices_wrong_weights() -> None:
    image = torch.randn(1, 17, 13, 11, generator=torch.Generator().manual_seed(1))
    tiling = Tiling((8, 6, 7), classes=3)
    predict = context_network(3)

    def shifted(size: int, patch: int, *, overlap: float) -> list[Window]:
        return [Window(w.start, w.weights.roll(1)) for w in place_windows(size, patch, overlap=overlap)]

    ours = sliding_window(predict, image, tiling=tiling)
    wrong = whole_accumulation(predict, image, tiling, place=shifted)
    assert (ours - wrong).abs().max() > 0.1
    assert (ours.argmax(0) != wrong.argmax(0)).float().mean() > 0.01


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_a_2d_network_sees_planes_across_any_axis(slice_axis: int) -> None:
    image = torch.randn(2, 9, 10, 11, generator=torch.Generator().manual_seed(2))
    patch = [6, 6, 6]
    patch[slice_axis] = 1
    tiling = Tiling((patch[0], patch[1], patch[2]), classes=3, overlap=0.4, batch=4, slice_axis=slice_axis)
    predict = context_network(2, channels=2)
    seen: list[tuple[int, ...]] = []

    def watched(windows: Tensor) -> Tensor:
        seen.append(tuple(windows.shape))
        return predict(windows)

    ours = sliding_window(watched, image, tiling=tiling)
    torch.testing.assert_close(ours.double(), whole_accumulation(predict, image, tiling), rtol=0, atol=1e-4)
    assert {shape[1:] for shape in seen} == {(2, 6, 6)}
    assert max(shape[0] for shape in seen) == 4


@pytest.mark.parametrize("size", [(3, 20, 20), (20, 3, 5), (1, 1, 1), (7, 8, 9)])
def test_an_image_smaller_than_the_patch_is_padded_and_cut_again(size: tuple[int, int, int]) -> None:
    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(3))
    tiling = Tiling((8, 8, 8), classes=3)
    predict = context_network(3)
    missing = [max(0, 8 - n) for n in size]
    pads = [(m // 2, m - m // 2) for m in missing]
    padded = F.pad(image, (*pads[2], *pads[1], *pads[0]))
    inner = tuple(slice(before, before + n) for (before, _), n in zip(pads, size, strict=True))
    expected = whole_accumulation(predict, padded, tiling)[(slice(None), *inner)]
    ours = sliding_window(predict, image, tiling=tiling)
    assert ours.shape == (3, *size)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-4)


def test_one_window_is_the_network_itself() -> None:
    image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(4))
    predict = context_network(3)
    ours = sliding_window(predict, image, tiling=Tiling((8, 8, 8), classes=3))
    torch.testing.assert_close(ours, predict(image[None])[0])


def test_it_agrees_with_monai_where_the_maps_agree() -> None:
    from monai.inferers.utils import sliding_window_inference

    image = torch.randn(1, 12, 16, 8, generator=torch.Generator().manual_seed(5))
    predict = context_network(3)
    # No overlap on a multiple of the patch: one window per voxel, so any weighting is the same.
    theirs = sliding_window_inference(image[None], (4, 8, 8), 1, predict, overlap=0.0, mode="constant")
    ours = sliding_window(predict, image, tiling=Tiling((4, 8, 8), classes=3, overlap=0.0))
    torch.testing.assert_close(ours, theirs[0], rtol=0, atol=1e-5)
    # Half a window's overlap along one axis, starts 0 2 4 .. in both, and their own function given our weights.
    starts = window_starts(12, 4, overlap=0.5)
    assert starts == [0, 2, 4, 6, 8]
    gaussian = torch.exp(-0.5 * ((torch.arange(4.0) - 1.5) / 0.5) ** 2)
    weights = gaussian[:, None, None].expand(4, 16, 8).contiguous()
    theirs = sliding_window_inference(
        image[None], (4, 16, 8), 1, predict, overlap=(0.5, 0.0, 0.0), roi_weight_map=weights
    )
    ours = sliding_window(predict, image, tiling=Tiling((4, 16, 8), classes=3, overlap=0.5))
    torch.testing.assert_close(ours, theirs[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("patch", [(4, 8, 6), (8, 8, 8), (5, 7, 6)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize("size", [(13, 17, 9), (6, 20, 6)])
def test_in_monais_style_it_is_monais_result(
    patch: tuple[int, int, int], overlap: float, size: tuple[int, int, int]
) -> None:
    from monai.inferers.utils import sliding_window_inference

    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(6))
    predict = context_network(3)
    theirs = sliding_window_inference(image[None], patch, 1, predict, overlap=overlap, mode="gaussian")[0]
    tiling = Tiling(patch, classes=3, overlap=overlap, style="monai")
    torch.testing.assert_close(sliding_window(predict, image, tiling=tiling), theirs, rtol=0, atol=1e-4)
    ours = sliding_window(predict, image, tiling=Tiling(patch, classes=3, overlap=overlap))
    if overlap > 0:
        assert not torch.allclose(ours, theirs, atol=1e-2)  # the comparison can fail


def test_an_image_made_by_slices_gives_the_same_logits() -> None:
    image = torch.randn(2, 21, 10, 7, generator=torch.Generator().manual_seed(7))
    asked = []

    class Sliced:
        shape = tuple(image.shape)

        def slices(self, start: int, stop: int) -> Tensor:
            asked.append((start, stop))
            return image[:, start:stop]

    predict = context_network(3, channels=2)
    for patch in ((8, 8, 8), (32, 8, 8)):
        tiling = Tiling(patch, classes=3)
        torch.testing.assert_close(
            sliding_window(predict, Sliced(), tiling=tiling),
            sliding_window(predict, image, tiling=tiling),
            rtol=0,
            atol=0,
        )
    assert asked == [*sorted(asked[:-1]), (0, 21)]
    assert all(stop - start <= 8 for start, stop in asked[:-1])


def test_slabs_come_in_order_each_slice_once_and_stay_as_they_are() -> None:
    image = torch.randn(1, 23, 9, 9, generator=torch.Generator().manual_seed(6))
    tiling = Tiling((8, 8, 8), classes=3, overlap=0.6)
    predict = context_network(3)
    slabs = list(stream_logits(predict, image, tiling=tiling))
    assert [s.start for s in slabs] == window_starts(23, 8, overlap=0.6)
    assert max(s.logits_kzyx.shape[1] for s in slabs) <= 8
    together = torch.cat([s.logits_kzyx for s in slabs], dim=1)
    torch.testing.assert_close(together, sliding_window(predict, image, tiling=tiling), rtol=0, atol=0)


def test_a_batch_of_windows_changes_nothing_but_speed() -> None:
    image = torch.randn(1, 12, 15, 14, generator=torch.Generator().manual_seed(7))
    predict = context_network(3)
    one, many = (
        sliding_window(predict, image, tiling=Tiling((8, 8, 8), classes=3, batch=n), progress=lambda step: None)
        for n in (1, 5)
    )
    torch.testing.assert_close(one, many, rtol=0, atol=1e-5)


@pytest.mark.parametrize("slice_axis", [None, 1])
def test_mirrored_views_are_averaged(slice_axis: int | None) -> None:
    patch = (8, 8, 8) if slice_axis is None else (8, 1, 8)
    image = torch.randn(1, *patch, generator=torch.Generator().manual_seed(8))
    predict = context_network(3 if slice_axis is None else 2)
    tiling = Tiling(patch, classes=3, mirror_axes=("Z", "X"), slice_axis=slice_axis)
    ours = sliding_window(predict, image, tiling=tiling)

    def plain(view: Tensor) -> Tensor:
        return sliding_window(predict, view, tiling=Tiling(patch, classes=3, slice_axis=slice_axis))

    expected = sum(plain(image.flip(axes)).flip(axes) for axes in ((), (1,), (3,), (1, 3))) / 4
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert (ours - plain(image)).abs().max() > 0.1
    flipped = sliding_window(predict, image.flip((1,)), tiling=tiling).flip((1,))
    torch.testing.assert_close(ours, flipped, rtol=0, atol=1e-5)


def test_progress_counts_windows_and_may_stop_the_work() -> None:
    image = torch.zeros(1, 8, 8, 16)
    tiling = Tiling((8, 8, 8), classes=3)
    steps: list[Step] = []
    sliding_window(context_network(3), image, tiling=tiling, progress=steps.append)
    assert [(s.stage, s.done, s.total) for s in steps] == [("network", n, 3) for n in range(4)]

    calls = 0

    def predict(windows: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros(windows.shape[0], 3, *windows.shape[2:])

    def stop(step: Step, /) -> None:
        if step.done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        sliding_window(predict, image, tiling=tiling, progress=stop)
    assert calls == 1


def test_a_network_of_another_shape_is_named() -> None:
    with pytest.raises(ModelError, match=r"returned the shape \(1, 3, 8, 8, 8\); expected \(1, 2, 8, 8, 8\)"):
        sliding_window(context_network(3), torch.zeros(1, 8, 8, 8), tiling=Tiling((8, 8, 8), classes=2))


@pytest.mark.parametrize(
    ("patch", "overlap", "batch", "slice_axis"),
    [((0, 8, 8), 0.5, 1, None), ((8, 8, 8), 1.0, 1, None), ((8, 8, 8), 0.5, 0, None), ((8, 8, 8), 0.5, 1, 0)],
)
def test_impossible_windows_are_refused(
    patch: tuple[int, int, int], overlap: float, batch: int, slice_axis: int | None
) -> None:
    with pytest.raises(PlanError):
        Tiling(patch, classes=2, overlap=overlap, batch=batch, slice_axis=slice_axis)


# -- scores added up elsewhere -------------------------------------------------------------------------------------


def added_up(image_czyx: Tensor, predict: Callable[[Tensor], Tensor], tiling: Tiling) -> Tensor:
    """The sum the plain way, float32: windows in order, each product rounded, then each sum."""
    axes = [
        place_windows(n, p, overlap=tiling.overlap)
        for n, p in zip(image_czyx.shape[1:], tiling.patch_size, strict=True)
    ]
    total = torch.zeros(tiling.classes, *image_czyx.shape[1:])
    for z, y, x in itertools.product(*axes):
        box = (slice(None), *(slice(w.start, w.start + len(w.weights)) for w in (z, y, x)))
        plane = torch.outer(y.weights, x.weights).float()
        total[box] = total[box] + predict(image_czyx[box][None])[0] * (z.weights.float()[:, None, None] * plane)
    return total


def test_where_scores_are_added_up_is_asked_and_each_step_is_rounded_as_on_any_device() -> None:
    image, predict = torch.randn(1, 40, 21, 19), context_network(3)
    tiling = Tiling((20, 8, 10), classes=3)  # more slices than are added at a time
    asked: list[tuple[int, ...]] = []

    def zeros(shape: tuple[int, ...]) -> Tensor:
        asked.append(shape)
        return torch.zeros(shape)

    slabs = list(stream_logits(predict, image, tiling=tiling, zeros=zeros))
    assert asked == [(20, 21, 19, 3)]
    found = torch.cat([slab.logits_kzyx for slab in slabs], dim=1)
    assert torch.equal(found, added_up(image, predict, tiling))
    torch.testing.assert_close(found, sliding_window(predict, image, tiling=tiling), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("of_network", "of_scores"), [("meta", "meta"), ("meta", "cpu"), ("cpu", "meta")])
@pytest.mark.parametrize(
    "tiling",
    [
        Tiling((4, 4, 4), classes=2, batch=2, mirror_axes=("Z", "X")),
        Tiling((4, 4, 4), classes=2, style="monai"),
        Tiling((1, 4, 4), classes=2, slice_axis=0),
    ],
    ids=["mirrored", "monai", "slices"],
)
def test_only_finished_slices_leave_the_device(of_network: str, of_scores: str, tiling: Tiling) -> None:
    def predict(windows: Tensor) -> Tensor:
        assert windows.device.type == "cpu"
        return torch.cat([windows, -windows], dim=1).to(of_network)

    image = torch.zeros(1, 9, 3, 7)  # narrower than a window: padding is cut off, too
    with FakeTensorMode(allow_non_fake_inputs=True):  # refuses to mix devices, as a GPU would
        slabs = stream_logits(predict, image, tiling=tiling, zeros=lambda shape: torch.zeros(shape, device=of_scores))
        shapes = [(slab.logits_kzyx.device.type, tuple(slab.logits_kzyx.shape)) for slab in slabs]
    assert {device for device, _ in shapes} == {"cpu"}
    assert sum(shape[1] for _, shape in shapes) == 9
    assert {(shape[0], *shape[2:]) for _, shape in shapes} == {(2, 3, 7)}
