"""Going on from a model: a gentler rate where a whole network was taken, and old cases among the new."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from medseg.errors import InputError, PlanError
from medseg.plan import InitialNote, Plan, Sgd
from medseg.training.initial import InitReport
from medseg.training.optim import learning_rate
from medseg.training.replay import ReplaySampler
from medseg.workflows.initial import Start, gentler
from medseg.workflows.plan import PlanRequest
from medseg.workflows.replay import ReplayRequest, replay_cases, with_replay
from medseg.workflows.train import TrainRequest, train
from tests.training.stand_ins import Balls, small_plan
from tests.workflows.ellipsoids import SETTINGS, ellipsoids

if TYPE_CHECKING:
    from pathlib import Path


def begun(*, is_whole: bool = True, plan: Plan | None = None) -> Start:
    note = InitialNote(name="before", sha256="0" * 64)
    return Start(plan or small_plan(), report=InitReport(note, ("a",), {}, (), (), is_whole=is_whole))


@pytest.mark.parametrize("optimizer", [{"kind": "adamw", "warmup": 0.2}, {"kind": "sgd"}])
def test_a_whole_network_goes_on_at_a_tenth_of_the_rate_with_warm_up(optimizer: dict[str, object]) -> None:
    plan = small_plan(optimizer=optimizer | {"learning_rate": 0.01})
    start = gentler(begun(plan=plan), rate_is_asked=False, warmup_is_asked=False)
    spec = start.plan.train.optimizer
    assert spec.learning_rate == 0.001
    assert spec.warmup == (0.2 if spec.kind == "adamw" else 0.1)
    assert start.report is not None
    assert "The learning rate is 0.001, a tenth" in start.report.lines()[-1]
    asked = gentler(begun(plan=plan), rate_is_asked=False, warmup_is_asked=True).plan.train.optimizer
    assert asked.warmup == plan.train.optimizer.warmup


def test_an_asked_rate_and_a_network_that_begins_keep_theirs() -> None:
    for start, asked in ((begun(), True), (begun(is_whole=False), False), (Start(small_plan()), False)):
        assert gentler(start, rate_is_asked=asked, warmup_is_asked=False) == start


def test_sgd_warms_up_and_then_falls_as_it_did() -> None:
    spec, plain = Sgd(learning_rate=1.0, warmup=0.5), Sgd(learning_rate=1.0)
    assert learning_rate(spec, 0.25) == 0.5
    assert learning_rate(spec, 0.5) == 1.0
    assert learning_rate(spec, 0.75) == learning_rate(plain, 0.5)


def test_who_said_the_rate(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("train:\n  optimizer: {kind: sgd}\n")
    (tmp_path / "plan.yaml").write_text(small_plan().to_yaml())
    for recipe in ("mine.yaml", "plan.yaml"):
        assert PlanRequest(str(tmp_path / recipe)).names_optimizer("learning_rate")
    for setting, said in (("train.optimizer.learning_rate=1", True), ("train.optimizer.weight_decay=0", False)):
        assert PlanRequest(settings=(setting,)).names_optimizer("learning_rate") is said


def test_old_patches_have_their_share_and_both_samplers_go_on_where_they_stood() -> None:
    def sampler() -> ReplaySampler:
        return ReplaySampler(Balls((4, 4, 4), seed=0), Balls((4, 4, 4), seed=1), share=0.3)

    one = sampler()
    for _ in range(10):
        assert one.draw(2)[0].shape == (2, 1, 4, 4, 4)
    state = one.state_dict()
    assert (state["new"]["drawn"], state["old"]["drawn"]) == (14, 6)
    other = sampler()
    other.load_state_dict(state)
    for a, b in zip(one.draw(3), other.draw(3), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="without replay"):
        other.load_state_dict(Balls((4, 4, 4)).state_dict())


def test_a_share_is_said_or_a_quarter_and_kept_to(tmp_path: Path) -> None:
    said, unsaid = ReplayRequest.read("a:b:0.5"), ReplayRequest.read(str(tmp_path))
    assert (str(said.path), said.share, unsaid.share) == ("a:b", 0.5, None)
    with pytest.raises(PlanError, match=r"share 1\.5"):
        ReplayRequest.read("old:1.5")
    plan = with_replay(small_plan(), unsaid, begun=False)
    assert plan.train.replay == 0.25
    assert with_replay(plan, unsaid, begun=True) == plan
    with pytest.raises(PlanError, match=r"none was named.*--replay"):
        with_replay(plan, None, begun=True)
    for noted, asked in ((plan, said), (small_plan(), unsaid)):
        with pytest.raises(PlanError, match="cannot change what it replays"):
            with_replay(noted, asked, begun=True)


def test_other_labels_or_channels_are_refused(tmp_path: Path) -> None:
    folder = ellipsoids(tmp_path, 2)
    request = ReplayRequest(folder)
    fitting = small_plan().model_copy(update={"labels": small_plan().labels.from_names({1: "blob"})})
    assert len(replay_cases(request, fitting)) == 2
    assert replay_cases(None, fitting) == ()
    with pytest.raises(PlanError, match=r"the labels of the data set to replay: 1 blob; expected .*1 ball"):
        replay_cases(request, small_plan())
    document = json.loads((folder / "dataset.json").read_text()) | {"channel_names": {"0": "CT"}}
    (folder / "dataset.json").write_text(json.dumps(document))
    with pytest.raises(PlanError, match="channels"):
        replay_cases(request, fitting)


def test_a_model_goes_on_with_new_cases_and_old_ones(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        ellipsoids(tmp_path / name, 4)
    asked = TrainRequest(plan=PlanRequest(settings=(*SETTINGS, "train.epochs=1"), device="cpu"), deterministic=True)
    train(tmp_path / "old", tmp_path / "first", asked)
    first = Plan.read(tmp_path / "first" / "plan.yaml").train
    again = replace(asked, init=tmp_path / "first", replay=ReplayRequest(tmp_path / "old", 0.5))
    report = train(tmp_path / "new", tmp_path / "second", again)
    second = Plan.read(tmp_path / "second" / "plan.yaml").train
    assert second.optimizer.learning_rate == pytest.approx(0.1 * first.optimizer.learning_rate)
    assert second.replay == 0.5
    assert report.initial is not None
    assert any("a tenth" in remark for remark in report.initial.remarks)
    page = (tmp_path / "second" / "report.html").read_text()
    for words in ("4 cases of another data set, 50% of the patches", "all epochs", "Dice, cases"):
        assert words in page
    held_out = json.loads((tmp_path / "second" / "fold_0" / "validation" / "metrics.json").read_text())["cases"]
    assert len({case["id"] for case in held_out}) == 2  # of the new ones alone
    more = replace(again, plan=PlanRequest(settings=("train.epochs=2",), device="cpu"), init=None, resume=True)
    train(tmp_path / "new", tmp_path / "second", more)
    with pytest.raises(PlanError, match="none was named"):
        train(tmp_path / "new", tmp_path / "second", replace(more, replay=None))
