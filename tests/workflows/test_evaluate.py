"""evaluate as a person starts it: where its report may go, and what is said of another set of predictions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import OutputError
from medseg.geometry import Geometry
from medseg.io import write_segmentation
from medseg.labels import LabelSet
from medseg.volume import Segmentation
from medseg.workflows.evaluate import EvaluateRequest, evaluate

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.progress import Step

GRID = Geometry((6, 8, 8), np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]]))


def masks(folder: Path, *names: str) -> Path:
    folder.mkdir()
    array = np.zeros(GRID.shape, np.uint8)
    array[2:4, 2:5, 2:6] = 1
    for name in names:
        segmentation = Segmentation(array, GRID, LabelSet.from_names({1: "box"}))
        write_segmentation(segmentation, folder / f"{name}.nii.gz")
    return folder


def not_reached(step: Step, /) -> None:
    raise AssertionError(f"measured before the place was looked at: {step}")


def test_a_report_replaces_its_own_and_no_other(tmp_path: Path) -> None:
    both = masks(tmp_path / "masks", "a", "b")
    for _ in range(2):
        evaluate(both, both, tmp_path / "scores", EvaluateRequest())
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["missing"] == []
    page = tmp_path / "out" / "report.html"
    page.parent.mkdir()
    page.write_text("pictures of every case")
    with pytest.raises(OutputError, match=r"report\.html that medseg evaluate did not write"):
        evaluate(both, both, page.parent, EvaluateRequest(), progress=not_reached)
    assert page.read_text() == "pictures of every case"


def test_a_report_folder_that_cannot_be(tmp_path: Path) -> None:
    both = masks(tmp_path / "masks", "a")
    (tmp_path / "file").write_text("irreplaceable")
    with pytest.raises(OutputError, match="a file of this name"):
        evaluate(both, both, tmp_path / "file", EvaluateRequest(), progress=not_reached)
    with pytest.raises(OutputError, match="cannot be made"):
        evaluate(both, both, tmp_path / "file" / "scores", EvaluateRequest())


def test_what_the_other_lacks_is_said(tmp_path: Path) -> None:
    both, one = masks(tmp_path / "both", "a", "b"), masks(tmp_path / "one", "a")
    report = evaluate(both, both, tmp_path / "scores", EvaluateRequest(compare=one))
    assert report.document["comparison"]["missing"] == ["b"]
    assert "The other has no prediction for b: counted as zero." in report.remarks()
    subset = evaluate(both, both, tmp_path / "subset", EvaluateRequest(compare=one, subset=True))
    assert subset.document["comparison"]["missing"] == []
