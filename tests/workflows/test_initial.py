"""`medseg train --init`: what a run starts from is read first, noted in its plan, told in its folder, and kept to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from medseg.cli.app import main
from medseg.errors import InputError, MedsegError, OutputError, PlanError
from medseg.io.hashing import file_sha256
from medseg.model import Card, DataNote, load_model, save_model
from medseg.networks import build
from medseg.plan import InitialNote, Plan
from medseg.training.checkpoint import load_checkpoint
from medseg.training.engine import own_random_state
from medseg.training.initial import initial_weights
from medseg.workflows import initial
from medseg.workflows.initial import start
from medseg.workflows.plan import PlanRequest
from medseg.workflows.train import TrainRequest, train
from tests.training.stand_ins import plan_of, small_plan
from tests.workflows.ellipsoids import SETTINGS, ellipsoids

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ellipsoids(tmp_path_factory.mktemp("ellipsoids"), 4)


def weights_of(plan: Plan, seed: int = 7) -> dict[str, Tensor]:
    with own_random_state(seed):
        return build(plan.network, len(plan.channels), len(plan.labels) + 1).state_dict()


def model_of(plan: Plan, folder: Path, *, content: str = "", members: int = 1) -> Path:
    data = DataNote(name="before", sha256=content)
    card = Card(name="before", created="2026", medseg="0", data=data, modalities=plan.channels)
    save_model(folder, plan=plan, members={n: weights_of(plan, n) for n in range(members)}, card=card)
    return folder


def weights_file(plan: Plan, path: Path, seed: int = 7) -> Path:
    torch.save(weights_of(plan, seed), path)
    return path


@pytest.fixture(scope="module")
def plan(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main(["plan", str(dataset), "-o", str(path), *sets, "--device", "cpu"]) == 0
    return Plan.read(path)


def test_a_run_says_what_it_started_from_and_keeps_to_it(
    dataset: Path, plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = tmp_path / "run", model_of(plan, tmp_path / "secret-place" / "model")
    note = InitialNote(name="before", sha256=load_model(model).sha256)
    still = ["--set", "train.optimizer.learning_rate=1e-12", "--set", "train.epochs=1"]
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    command = ["train", str(dataset), "-o", str(run), "-r", str(tmp_path / "plan.yaml"), "--device", "cpu", *still]
    assert main([*command, "--init", str(model), "--json"]) == 0
    printed = capsys.readouterr()
    assert "Started from before: " in printed.err
    document = json.loads(printed.out)["initial"]
    assert document == json.loads((run / "init.json").read_text())
    assert document["matched"]
    assert not document["fresh"]
    assert Plan.read(run / "plan.yaml").initial == note
    trained = load_model(run / "model")
    assert (trained.plan.initial, trained.card.initial) == (note, note)
    assert "before (SHA-256" in (run / "report.html").read_text()
    for file in (run / "plan.yaml", run / "init.json", run / "model" / "card.yaml"):
        assert "secret-place" not in file.read_text()
    for name, tensor in weights_of(plan, 0).items():  # a rate of nothing leaves them where they were
        torch.testing.assert_close(load_checkpoint(run / "fold_0" / "last").average[name], tensor, rtol=0, atol=1e-6)

    again = TrainRequest(plan=PlanRequest(settings=("train.epochs=2",), device="cpu"), resume=True)
    train(dataset, run, again)
    assert load_model(run / "model").plan.initial == note
    other = model_of(plan, tmp_path / "other", members=2)
    capsys.readouterr()
    assert main(["train", str(dataset), "-o", str(run), "--resume", "--init", str(other)]) == 1
    assert "expected before (SHA-256" in capsys.readouterr().err
    with pytest.raises(PlanError, match=r"fold 1 starts from before.*given. Name them with --init PATH\.$"):
        train(dataset, run, TrainRequest(plan=PlanRequest(device="cpu"), fold="1", resume=True))


def test_bad_weights_leave_an_earlier_run_alone(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "plan.yaml").write_text("hours of work")
    request = TrainRequest(
        plan=PlanRequest(settings=SETTINGS, device="cpu"), overwrite=True, init=tmp_path / "nowhere.pth"
    )
    with pytest.raises(InputError, match="no such file"):
        train(dataset, run, request)
    assert (run / "plan.yaml").read_text() == "hours of work"


@pytest.mark.parametrize(
    ("out", "named"),
    [
        ("run", "run"),
        ("run", "run/model"),
        ("run", "run/weights.pth"),
        ("run", "elsewhere/../run/model"),
        ("run", "link"),
        ("run/model", "run"),  # a run folder stands for its model
    ],
)
def test_a_run_is_not_overwritten_by_one_that_starts_from_it(
    out: str, named: str, dataset: Path, plan: Plan, tmp_path: Path
) -> None:
    model = model_of(plan, tmp_path / "run" / "model")
    (tmp_path / "run" / "plan.yaml").write_text(plan.to_yaml())
    weights_file(plan, tmp_path / "run" / "weights.pth")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(model)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    request = TrainRequest(plan=PlanRequest(settings=SETTINGS, device="cpu"), overwrite=True, init=tmp_path / named)
    with pytest.raises(OutputError, match=r"--overwrite empties.*Copy them elsewhere"):
        train(dataset, tmp_path / out, request)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_name_and_hash_are_noted(tmp_path: Path) -> None:
    plan = small_plan()
    path = weights_file(plan, tmp_path / "w.pth")
    begun = start(plan, path, inflate=False, folds=[0, 1], began_with=None, content="")
    assert begun.plan.initial == InitialNote(name="w.pth", sha256=file_sha256(path))
    assert begun.folds == (0, 1)
    assert Plan.from_document(begun.plan.model_dump(mode="json")) == begun.plan
    assert "initial" not in Plan.model_validate(plan.model_dump(exclude={"initial"})).model_fields_set


def test_a_plan_that_notes_weights_wants_them_again(tmp_path: Path) -> None:
    path, other = (weights_file(small_plan(), tmp_path / f"{seed}.pth", seed) for seed in (1, 2))
    noted = start(small_plan(), path, inflate=False, folds=[0], began_with=None, content="").plan
    with pytest.raises(PlanError, match=r"fold 0 starts from 1\.pth .*--init PATH.*initial=null"):
        start(noted, None, inflate=False, folds=[0], began_with=None, content="")
    with pytest.raises(PlanError, match=r"--init names 2\.pth.*expected 1\.pth"):
        start(noted, other, inflate=False, folds=[0], began_with=None, content="")
    moved = path.rename(tmp_path / "renamed.pth")  # the content is what counts
    assert start(noted, moved, inflate=False, folds=[0], began_with=None, content="").plan == noted
    assert start(noted.with_settings(["initial=null"]), None, inflate=False, folds=[0], began_with=None, content="")


def test_a_resumed_run_needs_no_weights_and_takes_no_others(tmp_path: Path) -> None:
    path, other = (weights_file(small_plan(), tmp_path / f"{seed}.pth", seed) for seed in (1, 2))
    fresh, noted = small_plan(), start(small_plan(), path, inflate=False, folds=[0], began_with=None, content="").plan
    for resumed, given in ((noted, None), (noted, path), (fresh, None)):
        begun = start(resumed, given, inflate=False, folds=[], began_with=resumed, content="")
        assert (begun.plan, begun.weights(0), begun.report) == (resumed, None, None)
    with pytest.raises(PlanError, match=r"--init names 2\.pth"):
        start(noted, other, inflate=False, folds=[], began_with=noted, content="")
    with pytest.raises(PlanError, match="the run began with fresh weights"):
        start(fresh, path, inflate=False, folds=[], began_with=fresh, content="")
    with pytest.raises(PlanError, match="cannot change what it started from"):
        start(fresh, None, inflate=False, folds=[], began_with=noted, content="")


def test_inflating_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="--inflate was given without weights"):
        start(small_plan(), None, inflate=True, folds=[0], began_with=None, content="")


def test_a_2d_model_inflates_into_3d_when_asked(tmp_path: Path) -> None:
    flat = plan_of(small_plan(patch=(1, 8, 8)).network, side=8)
    model = model_of(flat, tmp_path / "model")
    with pytest.raises(MedsegError, match="--inflate"):
        start(small_plan(), model, inflate=False, folds=[0], began_with=None, content="")
    report = start(small_plan(), model, inflate=True, folds=[0], began_with=None, content="").report
    assert report is not None
    assert not report.fresh


@pytest.mark.parametrize(("content", "fold", "warned"), [("ab" * 32, 1, True), ("ab" * 32, 0, False), ("", 1, False)])
def test_a_model_of_the_same_data_may_have_seen_what_validates(
    content: str, fold: int, warned: bool, tmp_path: Path
) -> None:
    plan = small_plan()
    model = model_of(plan, tmp_path / "model", content=content)
    report = start(plan, model, inflate=False, folds=[fold], began_with=None, content="ab" * 32).report
    assert report is not None
    assert any("scores flatter" in remark for remark in report.remarks) is warned


def test_each_folds_weights_are_made_when_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def noting(*given: Any, fold: int, **more: Any) -> Any:
        made.append(fold)
        return initial_weights(*given, fold=fold, **more)

    monkeypatch.setattr(initial, "initial_weights", noting)
    plan = small_plan(folds=3)
    model = model_of(plan, tmp_path / "model", members=2)
    begun = start(plan, model, inflate=False, folds=[0, 1], began_with=None, content="")
    assert made == [0]
    for fold in (0, 1):
        weights = begun.weights(fold)
        assert weights is not None
        for name, tensor in weights_of(plan, fold).items():
            torch.testing.assert_close(weights[name], tensor, rtol=0, atol=0)
    assert made == [0, 0, 1]
    assert begun.weights(2) is None  # has a checkpoint to go on from
