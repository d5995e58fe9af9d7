"""A table of images and references finds the predictions that `segment` made of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.evaluation import cases_of_table, evaluate
from medseg.geometry import Geometry
from medseg.io import write_segmentation, write_volume
from medseg.io.dicom import find_series, write_series
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume
from medseg.workflows.evaluate import EvaluateRequest
from medseg.workflows.evaluate import evaluate as evaluate_folders

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GRID = Geometry((4, 6, 7), np.array([[0, 0, 0.7, 10], [0, 0.8, 0, 20], [3.0, 0, 0, 30], [0, 0, 0, 1]]))
GTV = np.s_[1:3, 1:4, 1:4]


class Study:
    """Images, references and a table, and predictions in `out`."""

    def __init__(self, root: Path, draw_boxes: Callable[..., Path]) -> None:
        self.root, self.draw, self.rows = root, draw_boxes, ["id,image,label"]
        (root / "labels.yaml").write_text("Tumour*: 1\n")

    def dicom(self, name: str) -> str:
        """Write a series and its contours; return the id of the series."""
        volume = Volume(np.zeros((1, *GRID.shape), np.int16), GRID, ("CT",))
        write_series(volume, self.root / name / "image", name=name)
        series = find_series(self.root / name / "image")
        self.draw(self.root / name / "rs.dcm", series.geometry, [("Tumour 1", GTV), ("Couch", GTV)])
        self.rows.append(f"{name},{name}/image,{name}/rs.dcm")
        return series.id

    def predict(self, name: str, called: str = "Tumour") -> None:
        array = np.zeros(GRID.shape, np.uint8)
        array[GTV] = 1
        folder = self.root / "out" / name
        folder.mkdir(parents=True)
        write_segmentation(Segmentation(array, GRID, LabelSet.from_names({1: "x"})), folder / "segmentation.nii.gz")
        (folder.parent / "labels.yaml").write_text(f"1: {called}\n")

    def table(self) -> Path:
        (self.root / "cases.csv").write_text("\n".join(self.rows) + "\n")
        return self.root / "cases.csv"


@pytest.fixture
def study(tmp_path: Path, draw_boxes: Callable[..., Path]) -> Study:
    return Study(tmp_path, draw_boxes)


def test_predictions_are_found_by_row_series_or_file(study: Study) -> None:
    by_series = study.dicom("first")
    study.dicom("second")
    write_volume(Volume(np.zeros((1, *GRID.shape), np.int16), GRID, ("CT",)), study.root / "scan_0000.nii.gz")
    study.rows.append("third,scan_0000.nii.gz,second/rs.dcm")
    for name in (by_series, "second", "scan"):
        study.predict(name)
    cases = cases_of_table(study.table(), study.root / "out")
    assert {key: case.id for key, case in cases.items()} == {by_series: "first", "second": "second", "scan": "third"}
    result = evaluate_folders(study.root / "out", study.table(), study.root / "scores", EvaluateRequest())
    assert result.mean_dice == 1.0
    assert not result.is_incomplete
    assert any("'Couch'" in line for line in result.remarks())


def test_contours_without_prediction_count_on_their_images_grid(study: Study) -> None:
    study.predict(study.dicom("first"))
    study.dicom("second")
    result = evaluate(study.root / "out", cases_of_table(study.table(), study.root / "out"))
    assert result.missing == ("second",)
    assert result.to_json()["summary"]["Tumour"]["dice"]["mean"] == 0.5


def test_a_label_of_another_name_is_said(study: Study) -> None:
    study.predict(study.dicom("first"), called="liver")
    notes = evaluate(study.root / "out", cases_of_table(study.table(), study.root / "out")).notes
    assert any("1 ('liver' there, 'Tumour' here)" in note for note in notes)


def test_two_people_who_drew_contours_are_compared_on_the_image(study: Study) -> None:
    study.dicom("first")
    grid = find_series(study.root / "first" / "image").geometry
    assert grid is not None
    study.draw(study.root / "out" / "first.dcm", grid, [("Tumour", np.s_[1:2, 1:4, 1:4])])
    (study.root / "out" / "labels.yaml").write_text("Tumour: 1\n")
    result = evaluate(study.root / "out", cases_of_table(study.table(), study.root / "out"))
    assert result.cases["first"].labels[1].dice == pytest.approx(2 / 3)


def test_two_rows_of_one_image_are_refused(study: Study) -> None:
    study.predict(study.dicom("first"))
    study.rows.append("again,first/image,first/rs.dcm")
    with pytest.raises(InputError, match="again and first have one image"):
        cases_of_table(study.table(), study.root / "out")
