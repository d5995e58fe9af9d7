"""Cross-validation: each case by the member that never saw it, and tidying judged by folds that are not its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg import evaluation
from medseg.case import Case
from medseg.evaluation import Tidying
from medseg.geometry import Geometry
from medseg.inference import Segmenter
from medseg.io import write_segmentation
from medseg.labels import LabelSet
from medseg.model import load_model
from medseg.plan import Plan
from medseg.volume import Segmentation
from medseg.workflows import cross_validation
from medseg.workflows.cross_validation import FoldMasks, cross_validate, tidied, trials_of
from medseg.workflows.plan import PlanRequest
from medseg.workflows.train import TrainRequest, train
from medseg.workflows.validation import FoldScores
from tests.training.stand_ins import small_plan
from tests.workflows.ellipsoids import SETTINGS, ellipsoids

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LABELS = LabelSet.from_names({1: "ball"})
ORGAN, ISLAND, SMALL = (1, 1, 1, 6), (8, 8, 8, 4), (8, 8, 8, 3)
REQUEST = TrainRequest(plan=PlanRequest(settings=SETTINGS, device="cpu"), fold="all")


def write(path: Path, cubes: Iterable[tuple[int, int, int, int]]) -> Path:
    mask = np.zeros((12, 12, 12), dtype=np.uint8)
    for z, y, x, side in cubes:
        mask[z : z + side, y : y + side, x : x + side] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    write_segmentation(Segmentation(mask, Geometry(mask.shape, np.eye(4)), LABELS), path)
    return path


def fold_of(root: Path, names: list[str], *, predicted: Any, true: Any) -> FoldMasks:
    cases = tuple(Case(n, (root / "image",), write(root / "references" / f"{n}.nii.gz", true)) for n in names)
    out = root / f"out_{names[0]}"
    for case in cases:
        write(out / case.id / "segmentation.nii.gz", predicted)
    scores = evaluation.evaluate(out, {case.id: case for case in cases}, labels=LABELS)
    return FoldMasks(cases, out, FoldScores(scores, scores.to_json()), trials_of(out, cases, LABELS))


@pytest.fixture
def folds(tmp_path: Path) -> dict[int, FoldMasks]:
    """In fold 0 the largest piece is the truth; in fold 1 there are two true pieces, both found."""
    return {
        0: fold_of(tmp_path, ["a", "b", "c", "d"], predicted=(ORGAN, ISLAND), true=(ORGAN,)),
        1: fold_of(tmp_path, ["e", "f", "g"], predicted=(ORGAN, SMALL), true=(ORGAN, SMALL)),
    }


def test_a_fold_is_tidied_as_the_others_would_and_the_model_as_all_would(
    folds: dict[int, FoldMasks], tmp_path: Path
) -> None:
    found = cross_validate(small_plan(), folds, tmp_path / "together")
    assert found.chosen == {1: Tidying(largest_component=True)}
    document = json.loads((tmp_path / "together" / "metrics.json").read_text())
    assert document == found.scores.document
    dice = {row["id"]: row["dice"] for row in document["cases"] if row["label"] == "ball"}
    with_island, without_small = 2 * 216 / (216 + 280), 2 * 216 / (216 + 243)
    # Fold 1 would tidy nothing, so fold 0 keeps its islands, though all folds together would take them away.
    assert [dice[case] for case in "abcd"] == pytest.approx([with_island] * 4)
    assert [dice[case] for case in "efg"] == pytest.approx([without_small] * 3)
    told = document["postprocessing"]
    assert told["chosen_without_fold"]["0"] == {}
    assert told["chosen_without_fold"]["1"]["ball"]["largest_component"] is True
    evidence = found.evidence["ball"]
    assert (evidence["better"], evidence["worse"], evidence["cases"]) == (0, 3, 7)
    assert evidence["dice_before"] == pytest.approx((4 * with_island + 3) / 7)
    assert evidence["dice_after"] == pytest.approx((4 * with_island + 3 * without_small) / 7)
    assert "chosen on the other folds" in found.in_words


def test_a_single_fold_and_a_label_already_tidied_choose_nothing(folds: dict[int, FoldMasks], tmp_path: Path) -> None:
    alone = cross_validate(small_plan(), {0: folds[0]}, tmp_path / "alone")
    assert alone.chosen == {}
    assert "chosen" not in alone.in_words
    plan = tidied(small_plan(), {1: Tidying(minimum_ml=0.001)})
    assert cross_validate(plan, folds, tmp_path / "settled").chosen == {}


def test_a_case_held_out_twice_counts_once(folds: dict[int, FoldMasks], tmp_path: Path) -> None:
    found = cross_validate(small_plan(), folds | {2: folds[1]}, tmp_path / "together", notes=["Mind the split."])
    assert found.scores.summary["ball"]["dice"]["n"] == 7
    assert found.scores.document["notes"] == ["Mind the split."]


def test_a_plan_takes_what_was_chosen_and_keeps_what_it_had() -> None:
    plan = tidied(small_plan(), {1: Tidying(minimum_ml=0.5, fill_holes=True)})
    assert (plan.infer.largest_component, plan.infer.minimum_ml, plan.infer.fill_holes) == ((), {1: 0.5}, (1,))
    both = tidied(plan, {1: Tidying(largest_component=True)})
    assert both.infer.largest_component == (1,)
    assert both.infer.minimum_ml == {1: 0.5}
    assert Plan.from_document(json.loads(json.dumps(both.model_dump(mode="json")))) == both


def test_all_folds_leave_scores_of_all_cases_and_a_model_that_tidies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ellipsoids(tmp_path, 4)
    run = tmp_path / "run"
    chosen = Tidying(largest_component=True, minimum_ml=0.01)
    monkeypatch.setattr(cross_validation, "choose", lambda trials: chosen if trials else Tidying())
    report = train(data, run, REQUEST)
    assert {path.name for path in (run / "cross_validation").iterdir()} == {
        "metrics.json",
        "metrics.csv",
        "evaluation.html",
    }
    document = json.loads((run / "cross_validation" / "metrics.json").read_text())
    assert {row["id"] for row in document["cases"]} == {f"case_{n}" for n in range(4)}
    model = load_model(run / "model")
    assert model.plan.infer.largest_component == (1,)
    assert model.plan.infer.minimum_ml == {1: 0.01}
    assert Segmenter.load(run / "model", device="cpu").plan == model.plan
    assert Plan.read(run / "plan.yaml").infer.largest_component == ()
    assert model.card.metrics["blob"]["dice"] == document["summary"]["blob"]["dice"]["mean"]
    assert "4 cases, each by the one member that never saw it" in model.card.metrics_of
    assert model.card.postprocessing["blob"]["largest_component"] is True
    assert model.card.postprocessing["blob"]["cases"] == document["postprocessing"]["labels"]["blob"]["cases"]
    assert [row[0] for row in report.rows()] == [0, 0, 1, 1, "all", "all"]
    page = (run / "report.html").read_text()
    assert "Cross-validation" in page
    assert "the largest component only" in page


def test_resuming_keeps_members_and_masks_that_are_whole(tmp_path: Path) -> None:
    data, run = ellipsoids(tmp_path, 4), tmp_path / "run"
    first = train(data, run, REQUEST)
    masks = {path: path.stat().st_mtime_ns for path in run.glob("fold_*/validation/*/segmentation.nii.gz")}
    assert len(masks) == 4
    damaged = min(masks)
    damaged.write_bytes(b"")
    again = train(data, run, replace(REQUEST, resume=True))
    changed = [path for path, when in masks.items() if path.stat().st_mtime_ns != when]
    assert changed == [damaged]
    assert again.to_json()["cross_validation"] == first.to_json()["cross_validation"]
    assert (run / "fold_0" / "log.csv").read_text().count("\n") == 3
    train(data, run, replace(REQUEST, fold="0", resume=True))
    assert not (run / "cross_validation").exists()  # what another command does to members may end what it says
    assert "fold 0" in load_model(run / "model").card.metrics_of
