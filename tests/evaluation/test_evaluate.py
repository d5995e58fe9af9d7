"""The document of an evaluation: the contract's keys, conventions and refusals, on written masks."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.errors import GeometryError, InputError, PlanError
from medseg.evaluation import evaluate
from medseg.geometry import Geometry
from medseg.io import write_segmentation
from medseg.labels import LabelSet
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.progress import Step

LABELS = LabelSet.from_names({1: "anterior", 2: "posterior"})
METRICS = {"dice", "iou", "hd95_mm", "assd_mm", "nsd", "volume_ml", "reference_volume_ml", "volume_error_ml"}
GRID = Geometry((8, 12, 12), np.array([[0, 0, -1.0, 3], [0, -1.0, 0, 4], [2.0, 0, 0, 5], [0, 0, 0, 1]]))


def box(label: int = 1, low: int = 2, high: int = 6) -> NDArray[np.uint8]:
    mask = np.zeros(GRID.shape, np.uint8)
    mask[low:high, 2:8, 2:8] = label
    return mask


def folder(place: Path, masks: Mapping[str, NDArray[np.uint8]], pattern: str = "{}.nii.gz") -> Path:
    for case, mask in masks.items():
        path = place / pattern.format(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = LabelSet.from_names({int(i): f"l{i}" for i in np.unique(mask)})
        write_segmentation(Segmentation(mask, GRID, labels), path)
    return place


def rows(document: dict[str, Any], label: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in document["cases"] if row["label"] == label}


def test_the_document_holds_what_the_contract_says(tmp_path: Path) -> None:
    both = box() + box(2, 6, 8)
    references = folder(tmp_path / "ref", {"a": both, "b": both, "c": box()})
    predictions = folder(tmp_path / "out", {"a": both, "b": box(), "c": box(1, 3, 7)}, "{}/segmentation.nii.gz")
    document = evaluate(predictions, references, labels=LABELS).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == 1
    assert document["missing"] == []
    anterior, posterior, everything = (rows(document, name) for name in ("anterior", "posterior", "all"))
    assert set(anterior) == set(posterior) == set(everything) == {"a", "b", "c"}
    assert set(anterior["a"]) == {"id", "label"} | METRICS
    assert set(everything["a"]) == {"id", "label", "pixel_accuracy", "miou"}
    assert anterior["c"]["dice"] == pytest.approx(0.75)
    assert posterior["b"]["dice"] == posterior["b"]["iou"] == 0.0
    assert posterior["b"]["hd95_mm"] is posterior["b"]["nsd"] is None
    assert all(posterior["c"][metric] is None for metric in METRICS)  # empty in both
    summary = document["summary"]
    assert summary["anterior"]["dice"]["mean"] == pytest.approx((1 + 1 + 0.75) / 3)
    assert summary["anterior"]["dice"]["median"] == 1.0
    assert summary["anterior"]["dice"]["n"] == 3
    low, high = summary["anterior"]["dice"]["ci95"]
    assert 0.75 <= low < summary["anterior"]["dice"]["mean"] < high <= 1.0
    assert (summary["posterior"]["dice"]["n"], summary["posterior"]["dice"]["mean"]) == (2, 0.5)
    assert (summary["posterior"]["hd95_mm"]["n"], summary["posterior"]["hd95_mm"]["undefined"]) == (1, 1)
    assert summary["mean"]["dice"]["mean"] == pytest.approx((1.0 + 0.5 + 0.75) / 3)
    assert everything["a"] == {"id": "a", "label": "all", "pixel_accuracy": 1.0, "miou": 1.0}


def test_overall_is_pooled_over_all_voxels(tmp_path: Path) -> None:
    truth = {"a": box() + box(2, 6, 8), "b": box(1, 2, 3)}
    found = {"a": box(1, 3, 7), "b": box(2, 2, 4)}
    document = evaluate(folder(tmp_path / "out", found), folder(tmp_path / "ref", truth), labels=LABELS).to_json()
    predicted, true = (np.stack([masks["a"], masks["b"]]) for masks in (found, truth))
    overall = document["summary"]["overall"]
    assert overall["pixel_accuracy"] == pytest.approx(np.mean(predicted == true))
    ious = [((predicted == k) & (true == k)).sum() / ((predicted == k) | (true == k)).sum() for k in range(3)]
    assert overall["miou"] == pytest.approx(np.mean(ious))


def test_references_without_prediction_count_as_zero_unless_a_subset_is_meant(tmp_path: Path) -> None:
    references = folder(tmp_path / "ref", {"a": box(), "b": box()})
    predictions = folder(tmp_path / "out", {"a": box()})
    found = evaluate(predictions, references, labels=LABELS)
    document = found.to_json()
    assert found.exit_code == 2
    assert document["missing"] == ["b"]
    b = rows(document, "anterior")["b"]
    assert (b["dice"], b["iou"], b["hd95_mm"], b["volume_ml"]) == (0.0, 0.0, None, 0.0)
    assert b["volume_error_ml"] == pytest.approx(-b["reference_volume_ml"])
    assert rows(document, "all")["b"]["pixel_accuracy"] == rows(document, "all")["b"]["miou"] == 0.0
    summary = document["summary"]
    assert (summary["anterior"]["dice"]["mean"], summary["anterior"]["dice"]["n"]) == (0.5, 2)
    assert (summary["anterior"]["nsd"]["n"], summary["anterior"]["nsd"]["undefined"]) == (1, 1)
    assert summary["overall"] == dict.fromkeys(
        ("pixel_accuracy", "mean_accuracy", "miou", "frequency_weighted_iou"), 0.5
    )
    part = evaluate(predictions, references, labels=LABELS, subset=True)
    assert part.exit_code == 0
    assert part.to_json()["missing"] == []
    assert part.to_json()["summary"]["anterior"]["dice"] == {
        "mean": 1.0, "median": 1.0, "ci95": None, "n": 1, "undefined": 0,
    }  # fmt: skip


def test_a_prediction_without_reference_is_an_error(tmp_path: Path) -> None:
    predictions = folder(tmp_path / "out", {"a": box(), "z": box()})
    with pytest.raises(InputError, match="one prediction has no reference: z"):
        evaluate(predictions, folder(tmp_path / "ref", {"a": box()}))


def test_other_grids_are_refused_with_the_case(tmp_path: Path) -> None:
    references = folder(tmp_path / "ref", {"a": box()})
    moved = GRID.affine.copy()
    moved[2, 3] += 2.0
    (tmp_path / "out").mkdir()
    prediction = Segmentation(box(), Geometry(GRID.shape, moved), LABELS)
    write_segmentation(prediction, tmp_path / "out" / "a.nii.gz")
    with pytest.raises(GeometryError, match=r"^a: the prediction lies on another grid: it is moved by 0, 0, 2 mm"):
        evaluate(tmp_path / "out", references)


def test_labels_without_a_name_are_scored_under_their_value(tmp_path: Path) -> None:
    references = folder(tmp_path / "ref", {"a": box(1) + box(5, 6, 8)})
    predictions = folder(tmp_path / "out", {"a": box(1)}, "{}/segmentation.nii.gz")
    (predictions / "manifest.json").write_text('{"cases": [{"id": "a", "labels": [{"id": 1, "name": "liver"}]}]}')
    document = evaluate(predictions, references).to_json()
    assert [entry["name"] for entry in document["labels"]] == ["liver", "label_5"]
    assert rows(document, "label_5")["a"]["dice"] == 0.0
    assert document["notes"] == []


def test_values_that_were_not_asked_for_are_noted(tmp_path: Path) -> None:
    references = folder(tmp_path / "ref", {"a": box(255)})
    predictions = folder(tmp_path / "out", {"a": box(255)})
    document = evaluate(predictions, references, labels=LABELS).to_json()
    assert "hold 255, not among the labels scored" in document["notes"][0]
    assert "None of the labels occurs" in document["notes"][1]
    assert document["summary"]["mean"]["dice"] == {"mean": None, "median": None, "ci95": None, "n": 0, "undefined": 0}


def test_the_same_scores_give_the_same_interval(tmp_path: Path) -> None:
    references = folder(tmp_path / "ref", {c: box() for c in "abcd"})
    predictions = folder(tmp_path / "out", {c: box(1, 2, 3 + n) for n, c in enumerate("abcd")})
    first, second = (evaluate(predictions, references).to_json() for _ in range(2))
    assert first == second


def test_progress_names_each_case(tmp_path: Path) -> None:
    steps: list[Step] = []
    masks = {"a": box(), "b": box()}
    evaluate(folder(tmp_path / "out", masks), folder(tmp_path / "ref", masks), progress=steps.append)
    assert [(step.done, step.total, step.message) for step in steps] == [(0, 2, "a"), (1, 2, "b"), (2, 2, "")]


def test_csv_has_one_line_a_case_and_label(tmp_path: Path) -> None:
    masks = {"a": box(), "b": box()}
    found = evaluate(folder(tmp_path / "out", masks), folder(tmp_path / "ref", masks), labels=LABELS)
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [(line["id"], line["label"]) for line in lines[:3]] == [("a", "anterior"), ("a", "posterior"), ("a", "all")]
    assert (lines[0]["dice"], lines[1]["dice"], lines[2]["miou"]) == ("1.0", "", "1.0")


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    masks = folder(tmp_path / "x", {"a": box()})
    with pytest.raises(PlanError, match="a label is called 'mean'"):
        evaluate(masks, masks, labels=LabelSet.from_names({1: "mean"}))
    with pytest.raises(PlanError, match="the tolerance is -1 mm"):
        evaluate(masks, masks, nsd_tolerance_mm=-1)


def test_real_references_score_perfectly_against_themselves(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "hippocampus" / "labelsTr"
    for path in sorted(source.glob("hippocampus_*.nii.gz"))[:3]:
        (tmp_path / path.name).symlink_to(path)
    document = evaluate(tmp_path, tmp_path).to_json()
    assert {row["dice"] for row in document["cases"] if row["label"] != "all"} == {1.0}
    assert {row["hd95_mm"] for row in document["cases"] if row["label"] != "all"} == {0.0}
    volumes = [row["volume_ml"] for row in document["cases"] if row["label"] == "label_1"]
    assert all(1.0 < volume < 2.6 for volume in volumes)  # 1054 to 2593 voxels of 1 mm3


def test_an_unreadable_mask_is_named(tmp_path: Path) -> None:
    references = folder(tmp_path / "ref", {"a": box()})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"no mask at all")
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        evaluate(tmp_path / "out", references)


def test_a_sheared_case_is_noted_and_counted_as_undefined(tmp_path: Path) -> None:
    affine = GRID.affine.copy()
    affine[1, 0] = 0.5
    place = tmp_path / "masks"
    place.mkdir()
    write_segmentation(Segmentation(box(), Geometry(GRID.shape, affine), LABELS), place / "a.nii.gz")
    document = evaluate(place, place).to_json()
    assert document["notes"] == ["Surface metrics are not defined on the sheared grids of a."]
    assert document["summary"]["label_1"]["hd95_mm"]["undefined"] == 1
    assert document["summary"]["label_1"]["dice"]["mean"] == 1.0
