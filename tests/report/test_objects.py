"""Objects in pictures and pages: neighbours differ in colour, counts are told, nothing hostile gets through."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet
from medseg.report import evaluation_report, objects_png, segment_report
from medseg.report.objects import neighbour_colors
from medseg.volume import Segmentation, Volume


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 20, 20), (5, 9, 9)]))
def test_touching_objects_have_distinct_colours(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.zeros(shape, np.uint16)
    for number in range(1, 10):  # with nine there is a colour for each
        z, y, x = (int(rng.integers(0, n)) for n in shape)
        numbers[z : z + 3, y : y + 4, x : x + 4] = number
    colors = neighbour_colors(numbers, 9)
    assert colors[0] == 0
    assert ((colors[1:] >= 1) & (colors[1:] <= 9)).all()
    for axis in range(3):
        a, b = np.moveaxis(numbers, axis, 0)[:-1], np.moveaxis(numbers, axis, 0)[1:]
        touching = (a != b) & (a > 0) & (b > 0)
        assert (colors[a[touching]] != colors[b[touching]]).all()


def picture(png: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)


def share(pixels: Any, color: tuple[int, int, int]) -> int:
    return int((np.abs(pixels - np.array(color)).max(axis=-1) <= 3).sum())


def test_objects_are_drawn_in_their_colours_and_whole_labels_in_theirs() -> None:
    mask = np.zeros((1, 60, 60), np.uint8)
    mask[0, 5:25, 5:25], mask[0, 5:25, 25:45] = 1, 1
    mask[0, 35:55, 5:45] = 2
    numbers = np.zeros(mask.shape, np.uint16)
    numbers[0, 5:25, 5:25], numbers[0, 5:25, 25:45] = 1, 2
    grid = Geometry(mask.shape, np.eye(4)[:, [2, 1, 0, 3]])
    labels = LabelSet((Label(1, "cell", (250, 250, 10)), Label(2, "vessel", (10, 240, 250))))
    scan = Volume(np.zeros((1, *mask.shape), np.uint8), grid)
    drawn = picture(objects_png(scan, Segmentation(mask, grid, labels), numbers, (1, 1), letters=False))
    assert share(drawn, (10, 240, 250)) > 100
    assert share(drawn, (250, 250, 10)) == 0
    outlines, counts = np.unique(
        drawn.reshape(-1, 3)[drawn.reshape(-1, 3).max(axis=1) > 150], axis=0, return_counts=True
    )
    assert len([c for c, n in zip(outlines, counts, strict=True) if n > 150]) >= 3  # two objects and the vessel
    whole = picture(objects_png(scan, Segmentation(mask, grid, labels), 0 * numbers, (), letters=False))
    assert share(whole, (250, 250, 10)) > 100  # a label without objects is drawn as it is


def test_the_page_of_a_batch_counts_objects() -> None:
    label = {"id": 1, "name": "cell", "volume_ml": 2.0, "voxels": 9}
    entry: dict[str, Any] = {"id": 1, "name": "cell", "count": 1, "volume_ml": {"median": 0.25}}
    case: dict[str, Any] = {"id": "a", "status": "done", "labels": [label], "objects": [entry]}
    assert "1 object, median 0.25 ml" in segment_report({"cases": [case]}, {})
    case["objects"] = [entry | {"area_mm2": {"median": 131.0}}]
    assert "1 object, median 131 mm²" in segment_report({"cases": [case]}, {})
    case["objects"] = [entry | {"count": 0, "volume_ml": None}]
    assert "0 objects<" in segment_report({"cases": [case]}, {})
    case["objects"] = [entry | {"count": "<script>", "volume_ml": {"median": "<b>"}}]
    assert "<script>" not in segment_report({"cases": [case]}, {})
    assert "object" not in segment_report({"cases": [{**case, "objects": None}]}, {})


@pytest.mark.parametrize("score", [0.75, None])
def test_the_page_of_an_evaluation_tells_the_scores_of_objects(score: float | None) -> None:
    row = {"threshold": 0.5, "tp": 3, "fp": 1, "fn": 1, "f1": score}
    row |= dict.fromkeys(("ap", "precision", "recall", "pq"), score)
    case = {"id": "<i>a</i>", "f1": score, "mean_ap": score, "pq": score, "aji": score, "predicted": 4, "reference": 4}
    found = {"pooled": [row], "cases": [case], "mean_ap": score, "mean": {}}
    page = evaluation_report({"cases": [], "summary": {}, "missing": [], "instances": found})
    assert "F1 at IoU 0.5" in page
    assert ("0.750" in page) == (score is not None)
    assert "<i>a</i>" not in page
    assert "Objects" not in evaluation_report({"cases": [], "summary": {}, "missing": []})
