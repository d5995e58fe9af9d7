"""Losses of a plan: told apart by kind, complete, changed by one setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest

from medseg.errors import PlanError
from medseg.plan import DiceCrossEntropy, Loss, Plan, Recipe, Tversky
from tests.plan.test_plan import document, with_field

if TYPE_CHECKING:
    from pathlib import Path

KINDS = [kind.model_fields["kind"].default for kind in get_args(get_args(Loss)[0])]


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_comes_back_from_its_text(kind: str, tmp_path: Path):
    plan = Plan.from_document(with_field("train.loss", {"kind": kind}))
    (tmp_path / "plan.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    again = Plan.read(tmp_path / "plan.yaml")
    assert again == plan
    assert again.train.loss.kind == kind
    assert Recipe.from_document({"train": {"loss": {"kind": kind}}}).train.loss == plan.train.loss


@pytest.mark.parametrize(
    "loss",
    [
        {"kind": "dice_ce", "dice_weight": 1.0, "cross_entropy_weight": 1.0, "batch_dice": True},
        {"batch_dice": True},
        {},
    ],
)
def test_a_plan_from_before_there_were_others_still_reads(loss: dict[str, Any]):
    assert Plan.from_document(with_field("train.loss", loss)).train.loss == DiceCrossEntropy()
    assert Plan.from_document(document()).train.loss == DiceCrossEntropy()


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        ({"kind": "hinge"}, "expected tags"),
        ({"kind": "tversky", "dice_weight": 1}, "dice_weight"),
        ({"kind": "tversky", "alpha": 0, "beta": 0}, "alpha, beta must be above 0"),
        ({"kind": "tversky", "alpha": -1}, "alpha"),
        ({"kind": "tversky", "gamma": 0}, "gamma"),
        ({"kind": "focal", "gamma": float("inf")}, "gamma"),
        ({"kind": "dice_ce", "dice_weight": 0, "cross_entropy_weight": 0}, "must be above 0"),
        ({"kind": "dice_focal", "dice_weight": 0, "focal_weight": 0}, "must be above 0"),
        ({"kind": "boundary", "boundary_weight": 0}, "boundary_weight"),
        ({"kind": "cldice", "iterations": 0}, "iterations"),
        ({"kind": "cross_entropy", "class_weights": [1, 2]}, "2 class weights; there must be 3"),
        ({"kind": "cross_entropy", "class_weights": [0, 0, 0]}, "one class weight must be above 0"),
        ({"kind": "cross_entropy", "class_weights": [1, -1, 1]}, "class_weights"),
        ("dice", "loss"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(loss: object, reason: str):
    with pytest.raises(PlanError, match=reason):
        Plan.from_document(with_field("train.loss", loss))


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [Plan.from_document(document()), Recipe()], ids=["plan", "recipe"])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["train.loss.kind=tversky"], Tversky()),
        (["train.loss={kind: tversky, alpha: 0.4}"], Tversky(alpha=0.4)),
        (["train.loss.kind=tversky", "train.loss.alpha=0.4"], Tversky(alpha=0.4)),
        (["train.loss.batch_dice=false", "train.loss.kind=tversky"], Tversky()),
        (["train.loss.batch_dice=false", "train.loss.kind=dice_ce"], DiceCrossEntropy(batch_dice=False)),
        (["train.loss.kind=tversky", "train.loss.alpha=0.4", "train.loss.kind=dice_ce"], DiceCrossEntropy()),
    ],
)
def test_another_kind_of_loss_brings_its_own_defaults(whole: Plan | Recipe, settings: list[str], expected: object):
    assert whole.with_settings(settings).train.loss == expected


def test_another_kind_of_optimiser_brings_its_own_defaults():
    plan = Plan.from_document(document())
    changed = plan.with_settings(["train.optimizer.learning_rate=5", "train.optimizer.kind=sgd"])
    fresh = Plan.from_document(with_field("train.optimizer", {"kind": "sgd"}))
    assert changed == fresh
    assert changed.with_settings(["train.optimizer.kind=adamw"]) == plan
    assert changed.with_settings(["train.optimizer.power=2"]).train.optimizer.power == 2.0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["train.loss.kind=hinge"], "expected tags"),
        (["train.loss.kind=[tversky]"], "train.loss"),
        (["train.loss.kind=tversky", "train.loss.dice_weight=2"], "one of alpha, batch_dice"),
        (["train.loss.alpha=0.4"], "there is no 'alpha'"),
        (["train.loss.kind.more=1"], "too deep"),
    ],
)
def test_settings_of_another_kind_are_refused(settings: list[str], reason: str):
    with pytest.raises(PlanError, match=reason):
        Plan.from_document(document()).with_settings(settings)
