"""Training as a person starts it: run folder, model, validation, resuming; on ellipsoids of a few voxels."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from medseg.cli.app import main
from medseg.errors import InputError, MedsegError, OutputError, PlanError
from medseg.io import read_segmentation
from medseg.model import load_model
from medseg.plan import Plan
from medseg.progress import Cancelled, Step
from medseg.workflows.plan import PlanRequest
from medseg.workflows.train import TrainRequest, train
from tests.workflows.ellipsoids import SETTINGS, ellipsoids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CASES = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ellipsoids(tmp_path_factory.mktemp("ellipsoids"), CASES)


@pytest.fixture
def request_(dataset: Path) -> Callable[..., TrainRequest]:
    def make(*more: str, **fields: object) -> TrainRequest:
        return TrainRequest(plan=PlanRequest(settings=(*SETTINGS, *more), device="cpu"), **fields)

    return make


def log_rows(fold: Path) -> list[dict[str, str]]:
    with (fold / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_the_contract_says(
    dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]
) -> None:
    report = train(dataset, tmp_path / "run", request_())
    run = tmp_path / "run"
    assert [row["epoch"] for row in log_rows(run / "fold_0")] == ["1", "2"]
    assert {"last", "best", "validation", "log.csv"} <= {path.name for path in (run / "fold_0").iterdir()}
    metrics = json.loads((run / "fold_0" / "validation" / "metrics.json").read_text())
    held_out = {case["id"] for case in metrics["cases"]}
    manifest = json.loads((run / "fold_0" / "validation" / "manifest.json").read_text())
    assert held_out == {case["id"] for case in manifest["cases"]}
    assert len(held_out) == CASES // 2
    card = load_model(run / "model").card
    assert card.metrics["blob"]["dice"] == metrics["summary"]["blob"]["dice"]["mean"]
    assert card.data.cases == CASES
    assert "<svg" in (run / "report.html").read_text()
    assert report.rows()[0][:2] == (0, "blob")


def test_a_resumed_run_goes_on_with_more_epochs(
    dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]
) -> None:
    train(dataset, tmp_path / "run", request_())
    before = log_rows(tmp_path / "run" / "fold_0")
    train(dataset, tmp_path / "run", TrainRequest(plan=PlanRequest(settings=("train.epochs=3",)), resume=True))
    after = log_rows(tmp_path / "run" / "fold_0")
    assert after[:2] == before
    assert [row["epoch"] for row in after] == ["1", "2", "3"]


def test_a_stopped_run_can_be_resumed(dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]) -> None:
    def stop_in_second_epoch(step: Step) -> None:
        if step.stage == "train" and step.done >= 4:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="resume"):
        train(dataset, tmp_path / "run", request_(), progress=stop_in_second_epoch)
    train(dataset, tmp_path / "run", request_(resume=True))
    uninterrupted = tmp_path / "whole"
    train(dataset, uninterrupted, request_())
    columns = ("epoch", "step", "learning_rate", "loss")
    rows = [[row[c] for c in columns] for row in log_rows(tmp_path / "run" / "fold_0")]
    assert rows == [[row[c] for c in columns] for row in log_rows(uninterrupted / "fold_0")]
    assert load_model(tmp_path / "run" / "model").sha256 == load_model(uninterrupted / "model").sha256


def test_a_run_folder_is_never_touched_unasked(
    dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]
) -> None:
    run = tmp_path / "run"
    with pytest.raises(OutputError, match="nothing to resume"):
        train(dataset, run, request_(resume=True))
    run.mkdir()
    (run / "thesis.txt").write_text("irreplaceable")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            train(dataset, run, request_(overwrite=overwrite))
    with pytest.raises(PlanError):
        train(dataset, run, request_(resume=True, overwrite=True))
    assert (run / "thesis.txt").read_text() == "irreplaceable"


@pytest.mark.parametrize("wrong", [{"fold": "9"}, {"fold": "first"}, {"precision": "fp8"}])
def test_overwriting_waits_until_the_run_can_start(
    wrong: dict[str, object], dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]
) -> None:
    run = tmp_path / "run"
    with pytest.raises(MedsegError):
        train(dataset, run, request_(**wrong))
    assert not run.exists()
    (run / "fold_0" / "last").mkdir(parents=True)
    for place in (run / "plan.yaml", run / "fold_0" / "last" / "weights.safetensors"):
        place.write_text("hours of work")
    with pytest.raises(MedsegError):
        train(dataset, run, request_(**wrong, overwrite=True))
    with pytest.raises(InputError):
        train(tmp_path / "nowhere", run, request_(overwrite=True))
    assert (run / "plan.yaml").read_text() == "hours of work"
    assert (run / "fold_0" / "last" / "weights.safetensors").read_text() == "hours of work"


def test_a_run_folder_that_is_a_file(dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]) -> None:
    (tmp_path / "run").write_text("irreplaceable")
    for fields in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="a file of this name"):
            train(dataset, tmp_path / "run", request_(**fields))
    assert (tmp_path / "run").read_text() == "irreplaceable"


def test_all_folds_make_one_model_of_several_members(
    dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]
) -> None:
    report = train(dataset, tmp_path / "run", request_(fold="all"))
    model = load_model(tmp_path / "run" / "model")
    assert list(model.weights) == [0, 1]
    scored = [{c["id"] for c in scores.document["cases"]} for scores in report.folds.values()]
    assert not scored[0] & scored[1]
    assert scored[0] | scored[1] == {f"case_{n}" for n in range(CASES)}


@pytest.mark.parametrize("fold", ["9", "-1", "first"])
def test_a_fold_that_is_not_there(
    fold: str, dataset: Path, tmp_path: Path, request_: Callable[..., TrainRequest]
) -> None:
    with pytest.raises(MedsegError, match="fold"):
        train(dataset, tmp_path / "run", request_(fold=fold))


def test_a_budget_ends_a_run_that_epochs_would_not(dataset: Path, tmp_path: Path) -> None:
    settings = tuple(s for s in SETTINGS if not s.startswith("train.epochs"))
    request = TrainRequest(plan=PlanRequest(settings=settings, device="cpu"), budget_s=6.0)
    train(dataset, tmp_path / "run", request)
    rows = log_rows(tmp_path / "run" / "fold_0")
    full = Plan.read(tmp_path / "run" / "plan.yaml").train.optimizer.learning_rate
    assert float(rows[-1]["learning_rate"]) < 0.05 * full


def test_the_commands_work_one_after_the_other(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main(["check", str(dataset)]) == 0
    assert main(["plan", str(dataset), "-o", "plan.yaml", *sets]) == 0
    assert main(["train", str(dataset), "-o", "run", "-r", "plan.yaml", "--device", "cpu"]) == 0
    assert main(["segment", "run/model", str(dataset / "imagesTr"), "-o", "out", "--format", "nifti,png"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "out", str(dataset / "labelsTr"), "-o", "scores", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert {case["id"] for case in document["cases"]} == {f"case_{n}" for n in range(CASES)}
    mask = read_segmentation(tmp_path / "out" / "case_0" / "segmentation.nii.gz")
    reference = read_segmentation(dataset / "labelsTr" / "case_0.nii.gz")
    assert mask.geometry.same_grid(reference.geometry)


def test_a_dry_run_writes_nothing(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(dataset), "--dry-run", "--memory", "4GB", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["estimate"]["seconds_total"] > 0
    assert document["plan"]["channels"] == ["MR"]
    assert not list(tmp_path.iterdir())
