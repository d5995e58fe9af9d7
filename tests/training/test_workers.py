from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import torch

from medseg.errors import InputError, PlanError
from medseg.inference import hardware
from medseg.plan import AugmentPlan
from medseg.training.feed import Feed
from medseg.training.patches import PatchSampler
from medseg.training.store import PreparedCase
from medseg.training.workers import MOST, how_many
from medseg.transforms.augment import Augmentation
from tests.training.stand_ins import Balls, small_plan

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.training.feed import Batch

VARIED = AugmentPlan(rotation_probability=1.0, elastic_probability=0.5, noise_probability=0.5)


@pytest.fixture
def cases(tmp_path: Path) -> list[PreparedCase]:
    found, shape = [], (12, 14, 10)
    for i, (image, label) in enumerate(zip(*Balls(shape, seed=3).draw(3), strict=True)):
        folder = tmp_path / f"case_{i}"
        folder.mkdir()
        voxels = np.argwhere(label.numpy()).astype(np.int32)
        for name, array in (("image", image.numpy()), ("label", label.numpy()), ("foreground", voxels)):
            np.save(folder / f"{name}.npy", array)
        found.append(PreparedCase(folder.name, folder, shape, {1: (0, len(voxels))}))
    return found


def _feed(cases: list[PreparedCase], **how: Any) -> Feed:
    plan = small_plan(augment=VARIED)
    extract = Augmentation(plan).extract_size
    return Feed(PatchSampler(cases, plan.train, seed=1, extract_size=extract), plan, **how)


def _kept(batch: Batch) -> Batch:
    return batch._replace(image=batch.image.clone(), label=batch.label.clone())


def _same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.label, b.label) and a.cases == b.cases


def _take_many(feed: Feed) -> None:
    for _ in range(1000):
        feed.take()


def test_workers_and_threads_change_no_number_and_a_killed_one_is_named(cases: list[PreparedCase]) -> None:
    with _feed(cases) as plain, _feed(cases, ahead=2) as threads, _feed(cases, workers=2) as feed:
        early = [_kept(feed.take()) for _ in range(2)]  # perhaps made in line, while processes start
        assert feed.wait_for_workers()
        pids = feed._workers.pids if feed._workers else ()
        late = [_kept(feed.take()) for _ in range(4)]
        place = feed.state_dict()
        expected = [plain.take() for _ in range(6)]
        assert all(_same(a, b) for a, b in zip(expected, early + late, strict=True))
        assert all(_same(a, threads.take()) for a in expected)
        with _feed(cases) as later:
            later.load_state_dict(place)
            assert all(_same(later.take(), feed.take()) for _ in range(3))
        assert feed.remark == ""
        os.kill(pids[1], signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(PlanError, match=r"worker 2 of 2.*killed by signal 9 \(SIGKILL\).*--workers 0"):
            _take_many(feed)
        assert time.monotonic() - began < 5
    assert not any(map(psutil.pid_exists, pids))


def test_a_worker_goes_on_from_a_saved_place_is_deaf_to_ctrl_c_and_names_the_case_it_cannot_read(
    cases: list[PreparedCase],
) -> None:
    with _feed(cases) as plain, _feed(cases, workers=1) as feed:
        plain.take()
        feed.load_state_dict(plain.state_dict())
        assert feed.wait_for_workers()
        os.kill(feed._workers.pids[0] if feed._workers else 0, signal.SIGINT)
        assert all(_same(plain.take(), feed.take()) for _ in range(5))
        (cases[1].folder / "image.npy").write_bytes(b"")
        with pytest.raises(InputError, match=r"case_1: the prepared case cannot be read .*--resume") as caught:
            _take_many(feed)
    assert "Traceback" in str(caught.value.__cause__)


def test_without_shared_memory_batches_are_made_in_line(
    cases: list[PreparedCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with _feed(cases) as plain, _feed(cases, workers=2) as feed:
        assert "no worker process can be started (RuntimeError: unable to allocate shared memory" in feed.remark
        assert not feed.wait_for_workers()
        assert all(_same(plain.take(), feed.take()) for _ in range(3))


def test_a_worker_that_cannot_begin_leaves_the_work_to_the_parent(cases: list[PreparedCase]) -> None:
    with _feed(cases) as plain, _feed(cases, workers=1) as feed:
        os.kill(feed._workers.pids[0] if feed._workers else 0, signal.SIGKILL)
        assert not feed.wait_for_workers()
        assert "a worker process ended as it began (was killed by signal 9 (SIGKILL))" in feed.remark
        assert all(_same(plain.take(), feed.take()) for _ in range(3))


def test_a_sampler_that_does_not_choose_needs_no_workers() -> None:
    plan = small_plan()
    with Feed(Balls((8, 8, 8)), plan, workers=2) as feed:
        assert not feed.wait_for_workers()
        assert feed.take().cases == ()


@pytest.mark.parametrize(
    ("cores", "free", "device", "processes", "count"),
    [
        (2, 10**11, "cpu", 1, 0),
        (2, 10**11, "cuda", 1, 0),
        (8, 10**11, "cpu", 1, 2),
        (8, 10**11, "cuda", 1, 7),
        (64, 10**11, "cuda", 1, MOST),
        (16, 10**11, "cuda", 2, 7),
        (64, 3 * 10**9, "cuda", 1, 2),
        (64, 10**8, "cuda", 1, 0),
    ],
)
def test_automatic_count_goes_by_cores_and_free_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, free: int, device: str, processes: int, count: int
) -> None:
    monkeypatch.setattr(hardware, "usable_cores", lambda: cores)
    monkeypatch.setattr(hardware, "free_memory_bytes", lambda _: free)
    assert how_many("auto", small_plan(), device=device, processes=processes) == count
    assert how_many(3, small_plan(), device=device, processes=processes) == 3
