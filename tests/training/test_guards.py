from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from medseg.errors import OutputError, PlanError
from medseg.progress import Cancelled, Step, ignore
from medseg.training import PreparedCase, PreparedStore, TrainSettings, checkpoint, train
from medseg.training.checkpoint import load_checkpoint
from medseg.training.feed import Feed
from medseg.training.learner import Learner
from medseg.training.waits import Waits
from tests.training.stand_ins import Balls, small_plan

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.training import TrainResult

SHAPE = (10, 12, 9)


def _store(folder: Path, *, poisoned: int | None = None) -> PreparedStore:
    cases = []
    for i, (image, label) in enumerate(zip(*Balls(SHAPE, seed=1).draw(3), strict=True)):
        place = folder / f"case_{i}"
        place.mkdir(parents=True)
        voxels = np.argwhere(label.numpy()).astype(np.int32)
        if i == poisoned:
            image[...] = torch.nan
        for name, array in (("image", image.numpy()), ("label", label.numpy()), ("foreground", voxels)):
            np.save(place / f"{name}.npy", array)
        cases.append(PreparedCase(place.name, place, SHAPE, {1: (0, len(voxels))}))
    return PreparedStore(tuple(cases))


def _train(store: PreparedStore, folder: Path, *, progress: Progress = ignore, resume: bool = False) -> TrainResult:
    settings = TrainSettings(device="cpu", precision="fp32", resume=resume)
    return train(small_plan(), store, PreparedStore(()), folder=folder, settings=settings, progress=progress)


def test_a_loss_that_is_no_number_names_the_cases_of_its_batch(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"case_\d.*the loss became nan") as caught:
        _train(_store(tmp_path / "store", poisoned=1), tmp_path / "fold_0")
    assert "case_1" in caught.value.where.split(", ")
    assert len(caught.value.where.split(", ")) <= 2


def test_a_full_disk_while_last_is_written_is_a_sentence_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path / "store")
    whole = _train(store, tmp_path / "whole")
    save, calls = torch.save, []

    def full(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) > 2:  # the first checkpoint and epoch 1's have room
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.torch, "save", full)
        with pytest.raises(OutputError, match=r"last.*the disk is full.*--resume"):
            _train(store, tmp_path / "parts")
    assert load_checkpoint(tmp_path / "parts" / "last").state["steps"] == 3
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["last", "log.csv", "log.jsonl"]
    resumed = _train(store, tmp_path / "parts", resume=True)
    assert all(torch.equal(whole.weights[k], resumed.weights[k]) for k in whole.weights)


def test_stopped_by_ctrl_c_while_last_is_written_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path / "store")
    save, calls = torch.save, []

    def stop(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        save(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.torch, "save", stop)
        with pytest.raises(Cancelled, match=r"go on with --resume"):
            _train(store, tmp_path / "parts")
    assert load_checkpoint(tmp_path / "parts" / "last").state["steps"] == 3
    steps: list[Step] = []
    _train(store, tmp_path / "parts", progress=steps.append, resume=True)
    assert sorted({step.done for step in steps}) == [4, 5, 6]


def test_a_step_that_the_scaler_skips_is_no_error_and_moves_nothing() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126, backoff_factor=2.0**-60)  # the first gradients overflow
    engine = Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", device="cpu", scaler=scaler)])
    plan = small_plan()
    with Feed(Balls((8, 8, 8)), plan) as feed:
        learner = Learner(plan, feed, engine=engine)
        before = {name: tensor.clone() for name, tensor in learner.weights().items()}
        assert np.isfinite(learner.step(1e-3))
        assert all(torch.equal(before[name], tensor) for name, tensor in learner.weights().items())
        assert scaler.get_scale() < 2.0**126
        for _ in range(4):
            assert np.isfinite(learner.step(1e-3))
        assert not all(torch.equal(before[name], tensor) for name, tensor in learner.weights().items())


def test_waiting_is_said_above_five_per_cent_only() -> None:
    waits = Waits()
    assert waits.remark() == ""
    assert waits.add(0.4, 10.0) == pytest.approx(0.04)
    assert waits.remark() == ""
    waits.add(2.0, 10.0)
    assert "waited for data 12 % of their time" in waits.remark()
    assert waits.add(0.0, 0.0) == 0.0
