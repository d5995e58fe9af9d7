from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from medseg.errors import InputError, ModelError
from medseg.inference import NumericPath, Segmenter, memory
from medseg.inference.sparing import Sparing
from medseg.io import write_volume
from medseg.io.mapped import map_volume
from medseg.labels import LabelSet
from medseg.networks.footprint import peak_features
from medseg.plan import CrfPlan, InferPlan, PreprocessPlan, UNetSpec, ZScore
from medseg.preprocess import working_grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.geometry import Geometry
    from medseg.plan import Plan
    from medseg.progress import Step
    from medseg.volume import Volume

AXIAL = np.fliplr(np.eye(3))
CPU = NumericPath()


@pytest.fixture
def looking_plan(make_plan: Callable[..., Plan]) -> Plan:
    """A plan that looks at the image before it normalises it."""
    return make_plan(preprocess=PreprocessPlan(spacing_mm=(1.5, 1.5, 1.5), normalisation=(ZScore(),)))


def scan(centred: Callable[..., Geometry], scan_of: Callable[..., Volume]) -> Volume:
    return scan_of(centred((30, 34, 36), AXIAL * [2.0, 1.1, 1.3]))


def test_a_person_is_told_how_a_scan_fits(
    looking_plan: Plan, centred: Callable[..., Geometry], scan_of: Callable[..., Volume], bright: type
) -> None:
    volume = scan(centred, scan_of)
    fit = memory.fit(volume, looking_plan, CPU)
    assert not fit.is_split
    assert fit.footprint.held == 4 * np.prod(working_grid(volume.geometry, looking_plan).shape)
    assert fit.footprint.resident > 100e6  # Python and PyTorch
    steps: list[Step] = []
    Segmenter(looking_plan, [bright()], path=CPU).segment(volume, progress=steps.append)
    assert steps[0].stage == "prepare"
    assert steps[0].message.startswith("fits, ")


def test_a_limit_decides_between_holding_splitting_and_refusing(
    looking_plan: Plan,
    centred: Callable[..., Geometry],
    scan_of: Callable[..., Volume],
    monkeypatch: pytest.MonkeyPatch,
    bright: type,
) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: 500_000_000)
    volume = scan(centred, scan_of)
    whole = memory.fit(volume, looking_plan, CPU, max_ram=10**11)
    working = working_grid(volume.geometry, looking_plan)
    least = memory.footprint(volume, working, looking_plan, CPU, resident=500_000_000).total
    assert whole.footprint.network > memory.footprint(volume, working, looking_plan, CPU, resident=0).network
    assert not whole.is_split
    assert whole.footprint.held > 0
    split = memory.fit(volume, looking_plan, CPU, max_ram=least)
    assert split.is_split
    assert split.in_words.startswith("will split, ")
    with pytest.raises(InputError, match=r"takes .* GB of memory \(resident 0.5") as caught:
        memory.fit(volume, looking_plan, CPU, max_ram=least - 1)
    named = float(caught.value.remedy.removeprefix("Allow --max-ram ").removesuffix("GB")) * 1e9
    assert least <= named < least + 1e8
    memory.fit(volume, looking_plan, CPU, max_ram=int(named))
    masks = [
        Segmenter(looking_plan, [bright()], path=CPU, max_ram=limit).segment(volume).segmentation.array
        for limit in (10**11, least)
    ]
    np.testing.assert_array_equal(*masks)
    with pytest.raises(InputError, match="memory"):
        Segmenter(looking_plan, [bright()], path=CPU).with_max_ram(least - 1).segment(volume)


def test_what_is_counted_follows_what_is_done(
    make_plan: Callable[..., Plan], centred: Callable[..., Geometry], scan_of: Callable[..., Volume]
) -> None:
    def told(slices: int = 30, infer: InferPlan | None = None, **path: Any) -> memory.Footprint:
        plan = make_plan(infer=infer or InferPlan())
        volume = scan_of(centred((slices, 34, 36), AXIAL * 1.5))
        working = working_grid(volume.geometry, plan)
        return memory.footprint(volume, working, plan, NumericPath(**path), resident=0)

    few, many = told(120), told(1200)
    assert many._replace(mask=0) == few._replace(mask=0)  # nothing grows with the number of slices but the mask
    assert many.mask == 10 * few.mask
    assert told(window_batch=4).network == 4 * told().network
    assert told(precision="bf16").network < told().network
    assert told(device="cuda").network < told().network  # features lie on the card
    assert told(infer=InferPlan(crf=CrfPlan())).crf > 0
    assert told(infer=InferPlan(largest_component=(1,))).mask > told().mask


def test_what_lies_in_files_is_counted_as_disk(
    make_plan: Callable[..., Plan],
    centred: Callable[..., Geometry],
    scan_of: Callable[..., Volume],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "AT_ONCE_BYTES", 1)
    volume = scan_of(centred((30, 34, 36), AXIAL * [2.0, 1.1, 1.3]))
    voxels = int(np.prod(volume.geometry.shape))

    def told(classes: int, *maps: Any, crf: bool = False, dimensions: int = 3) -> memory.Fit:
        labels = LabelSet.from_names({i: f"organ {i}" for i in range(1, classes)})
        infer = InferPlan(crf=CrfPlan() if crf else None)
        return memory.fit(volume, make_plan(labels=labels, infer=infer, dimensions=dimensions), CPU, maps=maps)

    assert told(3).disk == told(3).footprint.maps == 0
    assert "temporary" not in told(3).in_words
    assert told(3, "uncertainty").disk == 4 * voxels
    assert told(3, "uncertainty", "probabilities").disk == 4 * 4 * voxels
    assert told(3, "probabilities").in_words.endswith(f"; temporary files of {12 * voxels / 1e9:.1f} GB")
    assert told(3, "probabilities").footprint.maps > told(3, "uncertainty").footprint.maps > 0
    working = working_grid(volume.geometry, make_plan())
    of_few, of_many = told(3, crf=True), told(20, crf=True)
    assert of_few.disk == 2 * 3 * 4 * np.prod(working.shape)
    assert of_many.disk == 2 * 20 * 4 * np.prod(working.shape)
    assert of_few.footprint.crf == of_many.footprint.crf > 0  # memory does not grow with classes
    assert told(3, crf=True, dimensions=2).footprint.crf < of_few.footprint.crf / 10  # a slice at a time


PROGRAM = """
import sys
import numpy as np
import torch
from medseg.geometry import Geometry
from medseg.inference import NumericPath, Segmenter
from medseg.inference.memory import fit, peak_ram_mb
from medseg.labels import LabelSet
from medseg.plan import *
from medseg.volume import Volume

slices = int(sys.argv[1])
spec = UNetSpec(dimensions=3, features=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2)
plan = Plan(
    channels=("CT",), labels=LabelSet.from_names({i: f"organ {i}" for i in range(1, 14)}), network=spec,
    preprocess=PreprocessPlan(spacing_mm=(1.25, 1.25, 1.25), normalisation=(ClipZScore(low=0, high=9, mean=4, std=2),)),
    train=TrainPlan(patch_size=(32, 64, 64), batch_size=1, epochs=1, steps_per_epoch=1),
)

class Classes(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.avg_pool3d(torch.cat([x * (k - 6) for k in range(14)], dim=1), 3, 1, 1)

rng = np.random.default_rng(0)
array = np.empty((1, slices, 160, 160), np.int16)
for z in range(slices):
    array[0, z] = rng.integers(0, 9, (160, 160))
axial = np.eye(4)[[2, 1, 0, 3]]  # slices go up
volume = Volume(array, Geometry(array.shape[1:], axial), ("CT",))
segmenter = Segmenter(plan, [Classes()], path=NumericPath())
told = fit(volume, plan, NumericPath()).footprint
before = peak_ram_mb()
mask = segmenter.segment(volume).segmentation.array
print(before, peak_ram_mb() - before - mask.nbytes / 1e6, (told.total - told.resident - told.mask) / 1e6)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_slices() -> None:
    def peak_beyond_arrays(slices: int) -> tuple[float, float]:
        child = [sys.executable, "-c", PROGRAM, str(slices)]
        text = subprocess.run(child, capture_output=True, text=True, check=True).stdout
        before, more, told = (float(word) for word in text.split())
        assert more < told
        return before - slices * 160 * 160 * 2 / 1e6, more

    (start, of_few), (_, of_many) = (peak_beyond_arrays(slices) for slices in (100, 600))
    assert start + of_many < 1.1 * (start + of_few)  # the logits of 500 slices would take 360 MB


class FullAbove:
    """Predicts so many windows at once and no more."""

    def __init__(self, most: int) -> None:
        self.most, self.seen = most, []

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(windows))
        if len(windows) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return 2 * windows


def test_a_full_card_goes_on_with_half_as_many_windows_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    card = FullAbove(most=2)
    sparing = Sparing(card, "cuda:0")
    windows = torch.arange(7.0).reshape(7, 1, 1)
    for _ in range(2):
        torch.testing.assert_close(sparing(windows), 2 * windows)
    assert card.seen == [7, 3] + [1] * 7 + [1] * 7
    assert len(caplog.records) == 1
    assert "cuda:0 does not hold 7 windows" in caplog.text


def test_a_card_too_small_for_one_window_is_named_with_the_remedy() -> None:
    with pytest.raises(ModelError, match="does not hold one window") as caught:
        Sparing(FullAbove(most=0), "cuda")(torch.zeros(4, 1, 1))
    assert "--device cpu" in caught.value.remedy


def test_scores_go_to_main_memory_where_the_card_is_too_full_for_them_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.zeros

    def zeros(shape: tuple[int, ...], device: str = "cpu") -> torch.Tensor:
        if device == "cuda:1":
            raise torch.OutOfMemoryError("out of memory")
        return plain(shape, device=device)

    monkeypatch.setattr(torch, "zeros", zeros)
    sparing = Sparing(FullAbove(most=1), "cuda:1")
    for _ in range(2):
        assert sparing.zeros((2, 3), on="cuda:1").device.type == "cpu"
    assert len(caplog.records) == 1
    assert "cuda:1 does not hold the scores; they are added up in main memory" in caplog.text
    assert sparing.zeros((2, 3), on="meta").device.type == "meta"


def test_free_memory_of_a_card_decides_where_scores_are_added_up(
    make_plan: Callable[..., Plan],
    centred: Callable[..., Geometry],
    scan_of: Callable[..., Volume],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, volume = make_plan(), scan_of(centred((30, 134, 136), AXIAL * 1.5))
    free = {"cpu": 10**11}
    monkeypatch.setattr(memory, "free_memory_bytes", free.__getitem__)

    def told(of_card: int, **path: Any) -> memory.Fit:
        free["cuda"] = of_card
        return memory.fit(volume, plan, NumericPath(**({"device": "cuda"} | path)))

    ring, slab = 16 * 134 * 136 * 2 * 4, 16 * 134 * 136 * 2 * 4
    features = memory._features(plan, NumericPath(device="cuda"), is_counted=True)
    least = (ring + 3 * slab + 2 * features) / 0.9
    enough, short = told(int(least) + 8), told(int(least) - 8)
    assert (enough.scores_on, short.scores_on) == ("cuda", "cpu")
    assert enough.in_words.endswith("scores on the card")
    assert short.in_words.endswith("scores in main memory")
    assert short.footprint.scores - enough.footprint.scores == ring
    assert told(10**12, backend="onnx").scores_on == "cpu"  # its scores come in main memory
    on_cpu = told(0, device="cpu")
    assert on_cpu.scores_on is None
    assert "scores" not in on_cpu.in_words


def test_a_mapped_scan_counts_under_a_limit_as_if_it_was_read(
    make_plan: Callable[..., Plan],
    centred: Callable[..., Geometry],
    scan_of: Callable[..., Volume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: 500_000_000)
    monkeypatch.setattr(memory, "free_memory_bytes", lambda _: 10**10)
    plan, volume = make_plan(), scan(centred, scan_of)
    write_volume(volume, tmp_path / "scan.nii")
    read, mapped = (memory.fit(v, plan, CPU) for v in (volume, map_volume(tmp_path / "scan.nii")))
    more = volume.array.nbytes
    assert mapped.footprint.resident - read.footprint.resident == more
    assert mapped.limit - read.limit == more  # what is free is not taken up by pages that can be given back


@pytest.mark.parametrize("placed", ["cpu", None])
def test_masks_do_not_depend_on_where_scores_are_added_up(
    placed: str | None,
    make_plan: Callable[..., Plan],
    centred: Callable[..., Geometry],
    scan_of: Callable[..., Volume],
    monkeypatch: pytest.MonkeyPatch,
    bright: type,
) -> None:
    plan, volume = make_plan(), scan(centred, scan_of)
    segmenter = Segmenter(plan, [bright()], path=CPU)
    wanted = segmenter.segment(volume).segmentation.array
    asked: list[str] = []
    plain = segmenter._sparing.zeros

    def zeros(shape: tuple[int, ...], *, on: str) -> torch.Tensor:
        asked.append(on)
        return plain(shape, on=on)

    monkeypatch.setattr(memory, "_scores_on", lambda *_: placed)
    monkeypatch.setattr(segmenter._sparing, "zeros", zeros)
    np.testing.assert_array_equal(segmenter.segment(volume).segmentation.array, wanted)
    np.testing.assert_array_equal(segmenter.probabilities(volume).array.argmax(axis=0) > 0, wanted > 0)
    assert asked == ([] if placed is None else [placed] * 2)


UNET = {
    "dimensions": 3,
    "features": (8, 16, 32),
    "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    "kernels": ((3,) * 3,) * 3,
}
UNETS = {
    "plain": UNetSpec(**UNET),
    "residual": UNetSpec(**UNET, residual_blocks=(1, 3, 4)),
    "deep supervision": UNetSpec(**UNET, deep_supervision=True),
    "four convolutions a stage": UNetSpec(**UNET, convs_per_stage=4),
    "2-D": UNetSpec(dimensions=2, features=(8, 16), strides=((1, 1), (2, 2)), kernels=((3, 3),) * 2),
}


@pytest.mark.parametrize("classes", [2, 15, 106])
@pytest.mark.parametrize("kind", UNETS)
def test_what_is_assumed_of_a_u_net_is_more_than_it_takes(kind: str, classes: int) -> None:
    spec, side = UNETS[kind], 16
    taken = peak_features(spec, (1, 1, *(side,) * spec.dimensions), classes)
    assert taken <= memory._most_kept(spec, classes) * side**spec.dimensions
