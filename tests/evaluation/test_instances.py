"""Numbered objects against references: the document's keys, pooled counts, refusals, on written masks."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from medseg.cli.app import main
from medseg.errors import GeometryError, InputError, OutputError, PlanError
from medseg.evaluation import evaluate_instances
from medseg.geometry import Geometry
from medseg.io import write_volume
from medseg.io.objects import read_objects
from medseg.labels import voc_color
from medseg.metrics import THRESHOLDS
from medseg.volume import Volume
from medseg.workflows.evaluate import EvaluateRequest, evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GRID = Geometry((1, 12, 40), np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]]))


def row_of(*numbers: int) -> Any:
    """Return squares of 8 pixels in a row, each with its number; 0 leaves a gap."""
    array = np.zeros(GRID.shape, np.uint16)
    for place, number in enumerate(numbers):
        array[0, 2:10, 10 * place : 10 * place + 8] = number
    return array


def nifti(folder: Path, masks: Mapping[str, Any], pattern: str = "{}.nii.gz", grid: Geometry = GRID) -> Path:
    for case, array in masks.items():
        path = folder / pattern.format(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array[None], grid), path)
    return folder


def png(folder: Path, masks: Mapping[str, Any]) -> Path:
    folder.mkdir()
    for case, array in masks.items():
        Image.fromarray(array[0]).save(folder / f"{case}.png")
    return folder


REFERENCES = {"a": row_of(1, 2, 3, 4), "b": row_of(900, 7)}
FOUND = {"a": row_of(5, 5, 6, 0), "b": row_of(1, 2, 3)}  # squares 1 and 2 merged, 4 missed; one invented


def test_cases_are_scored_and_pooled(tmp_path: Path) -> None:
    scores = evaluate_instances(
        nifti(tmp_path / "out", FOUND, "{}/instances.nii.gz"), png(tmp_path / "ref", REFERENCES)
    )
    document = scores.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {row["label"] for row in document["cases"]} == {"foreground", "all"}
    found = document["instances"]
    assert found["thresholds"] == list(THRESHOLDS)
    a, b = found["cases"]
    assert (a["id"], a["predicted"], a["reference"]) == ("a", 2, 4)
    counts = [[case["by_threshold"][0][key] for key in ("tp", "fp", "fn")] for case in (a, b)]
    assert counts == [[1, 1, 3], [2, 1, 0]]  # the merged pair has an IoU of just 0.5 with either
    assert (a["f1"], b["f1"]) == pytest.approx((2 / 6, 4 / 5))
    assert (a["ap"], b["ap"], b["pq"], b["aji"]) == pytest.approx((1 / 5, 2 / 3, 4 / 5, 2 / 3))
    pooled = found["pooled"][0]
    assert [pooled[key] for key in ("tp", "fp", "fn")] == [3, 2, 3]
    assert (pooled["f1"], found["mean"]["f1"]["mean"]) == pytest.approx((6 / 11, (2 / 6 + 4 / 5) / 2))
    assert found["mean_ap"] == pytest.approx(3 / 8)
    lines = list(csv.DictReader(io.StringIO(scores.objects_csv())))
    assert len(lines) == 3 * len(THRESHOLDS)
    assert lines[-len(THRESHOLDS)].items() >= {"id": "all", "threshold": "0.5", "tp": "3"}.items()


def test_a_perfect_prediction_scores_one_in_every_format(tmp_path: Path) -> None:
    references = png(tmp_path / "ref", REFERENCES)
    for suffix in ("nii", "nrrd", "tif"):
        predictions = nifti(tmp_path / suffix, REFERENCES, "{}." + suffix)
        found = evaluate_instances(predictions, references).to_json()["instances"]
        assert all(row["f1"] == row["ap"] == row["pq"] == 1 for row in found["pooled"])
        assert found["mean_ap"] == found["mean"]["aji"]["mean"] == 1


def test_missing_predictions_miss_every_object(tmp_path: Path) -> None:
    references = nifti(tmp_path / "ref", REFERENCES)
    one = nifti(tmp_path / "one", {"b": REFERENCES["b"]})
    scores = evaluate_instances(one, references)
    assert scores.missing == ("a",)
    assert [scores.to_json()["instances"]["pooled"][0][key] for key in ("tp", "fp", "fn")] == [2, 0, 4]
    assert evaluate_instances(one, references, subset=True).to_json()["instances"]["pooled"][0]["f1"] == 1


def test_no_object_anywhere_is_no_score(tmp_path: Path) -> None:
    nothing = nifti(tmp_path / "ref", {"a": row_of(0)})
    found = evaluate_instances(nothing, nothing).to_json()["instances"]
    assert (found["pooled"][0]["f1"], found["mean_ap"], found["mean"]["f1"]["n"]) == (None, None, 0)


def test_a_mask_stored_the_other_way_round_is_compared_where_it_lies(tmp_path: Path) -> None:
    references = nifti(tmp_path / "ref", REFERENCES)
    turned = GRID.reoriented("SPR" if GRID.axis_codes == "SPL" else "SPL")
    flipped = nifti(tmp_path / "flipped", {k: v[:, :, ::-1].copy() for k, v in REFERENCES.items()}, grid=turned)
    assert evaluate_instances(flipped, references).to_json()["instances"]["pooled"][0]["f1"] == 1


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    references = nifti(tmp_path / "ref", REFERENCES)
    small = Geometry((1, 12, 39), GRID.affine)
    with pytest.raises(GeometryError, match=r"^a: the prediction lies on another grid"):
        evaluate_instances(nifti(tmp_path / "small", {"a": FOUND["a"][:, :, :39].copy()}, grid=small), references)
    semantic = nifti(tmp_path / "semantic", FOUND, "{}/segmentation.nii.gz")
    with pytest.raises(InputError, match=r"no mask; expected files <id>.nii.gz or <id>/instances.nii.gz"):
        evaluate_instances(semantic, references)
    with pytest.raises(InputError, match="no reference"):
        evaluate_instances(nifti(tmp_path / "other", {"z": FOUND["a"]}), references)
    with pytest.raises(PlanError, match="--instances and --compare"):
        EvaluateRequest(instances=True, compare=references)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (row_of(1).astype(np.float32) + 0.25, "not whole"),
        (row_of(1).astype(np.int16) - 1, "from -1 to 0"),
        (np.where(row_of(1) > 0, np.nan, 0).astype(np.float32), "numbers from nan"),
    ],
)
def test_what_is_no_object_number_is_refused(array: Any, words: str, tmp_path: Path) -> None:
    nifti(tmp_path / "masks", {"a": array})
    with pytest.raises(InputError, match=words):
        read_objects(tmp_path / "masks" / "a.nii.gz")


def test_many_objects_need_no_names(tmp_path: Path) -> None:
    many = np.arange(GRID.shape[1] * GRID.shape[2], dtype=np.int32).reshape(GRID.shape) + 70_000
    nifti(tmp_path / "masks", {"a": many})
    assert np.array_equal(read_objects(tmp_path / "masks" / "a.nii.gz").array[0], many)
    with pytest.raises(InputError, match="DICOM is not read as numbered objects"):
        read_objects(tmp_path / "masks")


def test_a_picture_that_blurs_numbers_is_refused(tmp_path: Path) -> None:
    Image.fromarray(row_of(1, 2)[0].astype(np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: JPEG blurs object numbers; expected PNG"):
        read_objects(tmp_path / "a.jpg")


@pytest.mark.parametrize("tolerance_mm", [np.inf, np.nan, -1.0])
def test_a_tolerance_that_is_no_length_is_refused(tolerance_mm: float, tmp_path: Path) -> None:
    references = nifti(tmp_path / "ref", REFERENCES)
    with pytest.raises(PlanError, match="the tolerance is"):
        evaluate_instances(references, references, nsd_tolerance_mm=tolerance_mm)


def test_rims_that_nobody_decided_on_are_no_objects(tmp_path: Path) -> None:
    """VOC draws a rim of 255 around every object; what is predicted there counts for nothing."""
    reference = np.zeros(GRID.shape, np.uint8)
    for place, number in enumerate((1, 2)):
        reference[0, 1:11, 12 * place : 12 * place + 10] = 255
        reference[0, 2:10, 12 * place + 1 : 12 * place + 9] = number
    predicted = np.where(reference == 255, 7, reference).astype(np.uint16)
    picture = Image.fromarray(reference[0])
    picture.putpalette([shade for i in range(256) for shade in voc_color(i)])
    for name in "ab":
        (tmp_path / "ref").mkdir(exist_ok=True)
        picture.save(tmp_path / "ref" / f"{name}.png")
    scores = evaluate_instances(nifti(tmp_path / "out", {"a": predicted}), tmp_path / "ref")
    a, b = scores.to_json()["instances"]["cases"]
    assert (a["predicted"], a["reference"], a["f1"], a["by_threshold"][-1]["tp"]) == (2, 2, 1.0, 2)
    assert (b["predicted"], b["reference"], b["f1"]) == (0, 2, 0.0)
    foreground = scores.to_json()["summary"]
    assert sum(scores.foreground.cases["a"].counts.values()) == (reference != 255).sum()
    assert foreground["foreground"]["dice"]["mean"] == 0.5  # 1 of a, 0 of b, which has no prediction
    (note,) = scores.to_json()["notes"]
    assert "255 was ignored in 2 references" in note


def test_a_number_that_is_said_to_be_ignored_is_told(tmp_path: Path) -> None:
    """What labels.yaml says is meant for classes; here the number of an object may be the same."""
    references = nifti(tmp_path / "ref", REFERENCES)
    (tmp_path / "labels.yaml").write_text("ignore: 2\n")
    scores = evaluate_instances(references, references)
    assert [case["reference"] for case in scores.to_json()["instances"]["cases"]] == [3, 2]
    assert "2 was ignored in 1 reference," in scores.foreground.notes[0]
    (tmp_path / "ref" / "labels.yaml").write_text("ignore: none\n")
    scores = evaluate_instances(references, references)
    assert ([case["reference"] for case in scores.to_json()["instances"]["cases"]], scores.foreground.notes) == (
        [4, 2],
        (),
    )


def test_pictures_of_objects_lie_pixel_on_pixel_on_an_x_ray(tmp_path: Path) -> None:
    """A picture does not say how large a pixel is; the other mask does, on either side."""
    small = Geometry(GRID.shape, np.diag([1.0, 0.3, 0.2, 1.0]) @ GRID.affine)
    drawn, found = png(tmp_path / "png", REFERENCES), nifti(tmp_path / "nii", REFERENCES, grid=small)
    for predictions, references in ((found, drawn), (drawn, found), (drawn, drawn)):
        assert evaluate_instances(predictions, references).to_json()["instances"]["pooled"][0]["f1"] == 1


def test_the_command_leaves_a_report_and_takes_away_an_old_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references, predictions = nifti(tmp_path / "ref", REFERENCES), nifti(tmp_path / "out", FOUND)
    words = ["evaluate", str(predictions), str(references), "-o", str(tmp_path / "scores"), "--instances"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "Objects of all cases together" in said
    assert "0.545" in said
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "F1 at IoU 0.5" in page
    assert "0.545" in page
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text()) == document
    assert (tmp_path / "scores" / "instances.csv").is_file()
    evaluate(references, references, tmp_path / "scores", EvaluateRequest())
    assert not (tmp_path / "scores" / "instances.csv").exists()


def test_a_table_of_objects_that_is_not_ours_stays(tmp_path: Path) -> None:
    references, scores = nifti(tmp_path / "ref", REFERENCES), tmp_path / "scores"
    evaluate(references, references, scores, EvaluateRequest())
    (scores / "instances.csv").write_text("counted by hand")
    evaluate(references, references, scores, EvaluateRequest())
    with pytest.raises(OutputError, match=r"instances\.csv that medseg evaluate did not write"):
        evaluate(references, references, scores, EvaluateRequest(instances=True))
    (scores / "metrics.json").write_text("no JSON")
    evaluate(references, references, scores, EvaluateRequest())
    assert (scores / "instances.csv").read_text() == "counted by hand"
