"""Folds side by side: each ends by itself, a stop ends all, and the numbers are those of one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from medseg.errors import MedsegError, PlanError
from medseg.model import load_model
from medseg.progress import Cancelled, ignore
from medseg.workflows.folds import FoldJob, devices_for, side_by_side
from medseg.workflows.plan import PlanRequest
from medseg.workflows.train import TrainRequest, train
from tests.workflows.ellipsoids import SETTINGS, ellipsoids
from tests.workflows.fold_stand_ins import Root, StandInJob

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.progress import Step

REQUEST = TrainRequest(plan=PlanRequest(settings=SETTINGS, device="cpu"), fold="all")


def test_devices() -> None:
    assert devices_for(REQUEST, 5) == ("cpu",)
    assert devices_for(replace(REQUEST, devices=2), 5) == ("cpu", "cpu")
    assert devices_for(replace(REQUEST, devices=8), 5) == ("cpu",) * 5
    with pytest.raises(PlanError, match="several machines"):
        train(None, None, replace(REQUEST, nodes=2, rank=1))  # type: ignore[arg-type]  # refused before they are looked at


def test_a_fold_that_fails_is_named_and_the_others_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FoldJob.train

    def failing(job: FoldJob, fold: int, device: str, **more: Any) -> float:
        if fold == 0:
            raise PlanError("the loss became nan", remedy="Lower the learning rate")
        return whole(job, fold, device, **more)

    data = ellipsoids(tmp_path, 4)
    with monkeypatch.context() as patched:
        patched.setattr(FoldJob, "train", failing)
        with pytest.raises(PlanError, match=r"fold 0 failed: the loss became nan. Lower .* --resume goes on"):
            train(data, tmp_path / "run", REQUEST)
    assert list(load_model(tmp_path / "run" / "model").weights) == [1]
    assert not (tmp_path / "run" / "cross_validation").exists()
    log = (tmp_path / "run" / "fold_1" / "log.csv").read_text()
    train(data, tmp_path / "run", replace(REQUEST, resume=True))
    assert list(load_model(tmp_path / "run" / "model").weights) == [0, 1]
    assert (tmp_path / "run" / "fold_1" / "log.csv").read_text() == log


@pytest.mark.slow
def test_processes_end_as_they_end(tmp_path: Path) -> None:
    job: Any = StandInJob(Root(tmp_path), ("well", "fails", "dies", "well"))
    outcomes = {one.fold: one for one in side_by_side(job, range(4), ("a", "b"), begun=0.0, progress=ignore)}
    assert sorted(outcomes) == [0, 1, 2, 3]
    assert [outcomes[fold].seconds for fold in (0, 3)] == [2.5, 2.5]
    assert str(outcomes[1].error) == "the loss became nan. Lower the learning rate."
    assert isinstance(outcomes[1].error, PlanError)
    assert "ended by signal 9" in str(outcomes[2].error)
    assert (tmp_path / "set_up").exists()
    assert {(tmp_path / f"begun_{fold}").read_text() for fold in range(4)} == {"a", "b"}


@pytest.mark.slow
def test_a_stop_ends_every_process(tmp_path: Path) -> None:
    job: Any = StandInJob(Root(tmp_path), ("never ends", "never ends"))

    def stop_when_both_train(step: Step) -> None:
        if step.message.count("train") == 2:
            raise Cancelled

    outcomes = side_by_side(job, range(2), ("a", "b"), begun=0.0, progress=stop_when_both_train)
    with pytest.raises(Cancelled, match="--resume"):
        list(outcomes)
    assert not torch.multiprocessing.active_children()


@pytest.mark.slow
def test_side_by_side_learns_what_one_after_another_learns(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    data = ellipsoids(tmp_path, 4)
    reports = [train(data, tmp_path / f"run_{n}", replace(REQUEST, devices=n)) for n in (1, 2)]
    hashes = [load_model(report.model).sha256 for report in reports]
    assert hashes[0] == hashes[1]
    assert reports[0].to_json()["cross_validation"] == reports[1].to_json()["cross_validation"]
    with pytest.raises(MedsegError, match="not empty"):
        train(data, tmp_path / "run_2", replace(REQUEST, devices=2))
