"""Undecided voxels count for nothing, and pooled scores are those of Long 2015, by arithmetic that is not ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from medseg.errors import InputError
from medseg.evaluation import evaluate, score_case
from medseg.evaluation.scoring import score_missing
from medseg.geometry import Geometry
from medseg.labels import LabelSet, voc_color
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

IGNORE = 255
SIZES = ((31, 47), (64, 20), (9, 130))
VOC = [colour for i in range(256) for colour in voc_color(i)]
LABELS = LabelSet.from_names({1: "cat", 2: "dog", 5: "cow"})


def pair(shape: tuple[int, int], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A reference with an undecided band, and a prediction that is right in three of four pixels."""
    rng = np.random.default_rng(seed)
    true = rng.choice(np.array([0, 1, 2, 5], np.uint8), shape, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(rng.random(shape) < 0.75, true, rng.choice(np.array([0, 1, 2, 5], np.uint8), shape))
    true[:, shape[1] // 2 : shape[1] // 2 + 3] = IGNORE
    return predicted.astype(np.uint8), true


def written(folder: Path, masks: Mapping[str, NDArray[np.uint8]], *, palette: bool) -> Path:
    folder.mkdir()
    for name, mask in masks.items():
        picture = Image.fromarray(mask)
        if palette:
            picture.putpalette(VOC)
        picture.save(folder / f"{name}.png")
    return folder


def by_hand(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, float]:
    """Section 5 of Long 2015, pixel by pixel: n[i, j] of class i are predicted as class j, t[i] are of class i."""
    counts: dict[tuple[int, int], int] = {}
    for predicted, true in pairs:
        for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
            if t != IGNORE:
                counts[t, p] = counts.get((t, p), 0) + 1
    classes = sorted({t for t, _ in counts} | {p for _, p in counts})
    n = np.array([[counts.get((i, j), 0) for j in classes] for i in classes], dtype=float)
    t, hit = n.sum(axis=1), np.diag(n)
    iou = hit / (t + n.sum(axis=0) - hit)
    return {
        "pixel_accuracy": hit.sum() / t.sum(),
        "mean_accuracy": (hit / t).mean(),
        "miou": iou.mean(),
        "frequency_weighted_iou": (t * iou).sum() / t.sum(),
    }


@pytest.mark.parametrize("palette", [True, False])
def test_pooled_scores_are_those_of_the_whole_set(tmp_path: Path, palette: bool) -> None:
    pairs = {f"p{n}": pair(size, n) for n, size in enumerate(SIZES)}
    predictions = written(tmp_path / "out", {i: predicted for i, (predicted, _) in pairs.items()}, palette=False)
    references = written(tmp_path / "masks", {i: true for i, (_, true) in pairs.items()}, palette=palette)
    if not palette:  # grey masks: somebody has to say it
        (tmp_path / "labels.yaml").write_text("ignore: 255\n")
    document = evaluate(predictions, references).to_json()
    assert document["summary"]["overall"] == pytest.approx(by_hand(list(pairs.values())))
    assert {label["id"] for label in document["labels"]} == {1, 2, 5}
    rows = {row["id"]: row for row in document["cases"] if row["label"] == "all"}
    for name, both in pairs.items():
        assert rows[name]["miou"] == pytest.approx(by_hand([both])["miou"])
    cat = next(row for row in document["cases"] if row["label"] == "label_1" and row["id"] == "p0")
    predicted, true = pairs["p0"]
    there = true != IGNORE
    a, b = (predicted == 1) & there, (true == 1) & there
    assert cat["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_grey_masks_of_which_nothing_is_said_have_255_as_a_label(tmp_path: Path) -> None:
    predicted, true = pair(SIZES[0], 0)
    references = written(tmp_path / "masks", {"a": true}, palette=False)
    document = evaluate(written(tmp_path / "out", {"a": predicted}, palette=False), references).to_json()
    assert {label["id"] for label in document["labels"]} == {1, 2, 5, 255}


def test_what_is_predicted_on_undecided_pixels_changes_nothing() -> None:
    predicted, true = pair((40, 40), 3)
    grid = Geometry((1, 40, 40), np.eye(4))
    reference = Segmentation(true[None], grid, LABELS, IGNORE)
    scores = [
        score_case(
            Segmentation(np.where(true == IGNORE, value, predicted).astype(np.uint8)[None], grid, LABELS), reference
        )
        for value in (0, 1, 5)
    ]
    assert scores[0] == scores[1] == scores[2]
    assert sum(scores[0].counts.values()) == (true != IGNORE).sum()
    assert scores[0].labels[1].nsd is not None


def test_a_reference_scores_perfectly_against_itself() -> None:
    _, true = pair((40, 40), 3)
    grid = Geometry((1, 40, 40), np.eye(4))
    reference = Segmentation(true[None], grid, LABELS, IGNORE)
    score = score_case(reference, reference)
    assert (score.pixel_accuracy, score.miou, score.labels[1].assd_mm) == (1.0, 1.0, 0.0)


def test_a_missing_prediction_is_wrong_only_where_it_was_decided() -> None:
    _, true = pair((40, 40), 3)
    reference = Segmentation(true[None], Geometry((1, 40, 40), np.eye(4)), LABELS, IGNORE)
    assert sum(score_missing(reference).counts.values()) == (true != IGNORE).sum()


def test_where_nothing_was_decided_nothing_is_scored() -> None:
    grid = Geometry((1, 4, 5), np.eye(4))
    reference = Segmentation(np.full((1, 4, 5), IGNORE, np.uint8), grid, LABELS, IGNORE)
    score = score_case(Segmentation(np.ones((1, 4, 5), np.uint8), grid, LABELS), reference)
    assert (score.labels, score.counts, score.pixel_accuracy, score.miou) == ({}, {}, None, None)
    missed = score_missing(reference)
    assert (missed.labels, missed.pixel_accuracy, missed.miou) == ({}, None, None)


@pytest.mark.parametrize("place", ["masks", "."])
def test_the_ignore_label_of_dataset_json_is_no_class(tmp_path: Path, place: str) -> None:
    predicted, true = pair(SIZES[0], 0)
    true[true == IGNORE] = 3
    predictions = written(tmp_path / "out", {"a": predicted}, palette=False)
    references = written(tmp_path / "masks", {"a": true}, palette=False)
    labels = {"background": 0, "pet": [1, 2], "cow": 5, "ignore": 3}  # nnU-Net's regions are no reason to stop
    (tmp_path / place / "dataset.json").write_text(json.dumps({"labels": labels}))
    result = evaluate(predictions, references)
    assert (result.labels.ids, result.notes) == ((1, 2, 5), ())
    (tmp_path / "labels.yaml").write_text("ignore: none\n")  # goes before
    assert evaluate(predictions, references).labels.ids == (1, 2, 3, 5)


def test_a_dataset_json_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    predicted, true = pair(SIZES[0], 0)
    predictions = written(tmp_path / "out", {"a": predicted}, palette=False)
    references = written(tmp_path / "masks", {"a": true}, palette=False)
    (tmp_path / "dataset.json").write_text('{"labels": {"cat": 1, "ignore": 1}}')
    with pytest.raises(InputError, match=r"dataset\.json: the id 1 is to be ignored and is a label"):
        evaluate(predictions, references)
    (tmp_path / "dataset.json").write_text('["something else"]')
    assert evaluate(predictions, references).labels.ids == (1, 2, 5, 255)


def test_a_guess_is_told_and_made_once_for_all(tmp_path: Path) -> None:
    """The first mask decides, as in training: what 255 is must not change from picture to picture."""
    pairs = {f"p{n}": pair(size, n) for n, size in enumerate(SIZES)}
    pairs["p1"][1][pairs["p1"][1] == IGNORE] = 0
    predictions = written(tmp_path / "out", {i: predicted for i, (predicted, _) in pairs.items()}, palette=False)
    references = written(tmp_path / "masks", {i: true for i, (_, true) in pairs.items()}, palette=True)
    Image.fromarray(pairs["p2"][1]).save(references / "p2.png")  # grey, but the same rims
    result = evaluate(predictions, references)
    assert result.labels.ids == (1, 2, 5)
    (note,) = result.notes
    assert "255 was ignored in 2 references" in note
    assert "'ignore: none' in labels.yaml" in note
    (references / "labels.yaml").write_text("ignore: 255\n")
    assert evaluate(predictions, references).notes == ()
    (references / "labels.yaml").write_text("ignore: none\n")
    assert evaluate(predictions, references).labels.ids == (1, 2, 5, 255)
