"""Evaluation against SEG and RTSTRUCT: on the prediction's grid, by the rules that training reads them with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.case import Case
from medseg.errors import InputError
from medseg.evaluation import evaluate, masks_in
from medseg.geometry import Geometry
from medseg.io import write_segmentation
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.labels import LabelSet
from medseg.rois import RoiRules
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GRID = Geometry((4, 6, 7), np.array([[0, 0, 0.7, 10], [0, 0.8, 0, 20], [3.0, 0, 0, 30], [0, 0, 0, 1]]))
GTV = np.s_[1:3, 1:4, 1:4]
LABELS = LabelSet.from_names({3: "GTV"})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A prediction `a` of 18 voxels on its image's grid, as `segment` leaves it, and a folder for references."""
    array = np.zeros(GRID.shape, np.uint8)
    array[GTV] = 3
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "manifest.json").write_text('{"cases": [{"id": "a", "labels": [{"id": 3, "name": "GTV"}]}]}')
    write_segmentation(Segmentation(array, GRID, LABELS), tmp_path / "out" / "a" / "segmentation.nii.gz")
    return tmp_path / "out", tmp_path / "ref"


def dice(predictions: Path, references: object, **more: object) -> float | None:
    return evaluate(predictions, references, **more).to_json()["summary"]["GTV"]["dice"]["mean"]


@pytest.mark.parametrize("name", ["a.dcm", "a/RS.dcm", "a/deep/x.dcm"])
def test_contours_are_drawn_on_the_predictions_grid(
    folders: tuple[Path, Path], draw_boxes: Callable[..., Path], name: str
) -> None:
    out, references = folders
    draw_boxes(references / name, GRID, [("gtv", GTV), ("Couch", np.s_[0:1, 0:2, 0:2])])
    result = evaluate(out, references)
    assert result.to_json()["summary"]["GTV"]["dice"]["mean"] == 1.0
    assert result.notes == ("Structures of the references that are for no label were left out: 'Couch'.",)


@pytest.mark.parametrize("place", ["ref", "."])
def test_labels_beside_the_references_say_what_is_what(
    folders: tuple[Path, Path], draw_boxes: Callable[..., Path], place: str
) -> None:
    out, references = folders
    draw_boxes(references / "a.dcm", GRID, [("Tumour 1", np.s_[1:2, 1:4, 1:4]), ("Tumour 2", np.s_[2:3, 1:4, 1:4])])
    with pytest.raises(InputError, match=r"a\.dcm: no structure is for a label: 'Tumour 1'"):
        evaluate(out, references)
    (references.parent / place / "labels.yaml").write_text("'Tumour*': 3\n")
    assert dice(out, references) == 1.0


def test_segments_are_labels_by_name_not_by_number(folders: tuple[Path, Path]) -> None:
    out, references = folders
    write_series(Volume(np.zeros((1, *GRID.shape), np.int16), GRID, ("CT",)), references.parent / "series")
    source = find_series(references.parent / "series")
    array = np.zeros(GRID.shape, np.uint8)
    array[GTV], array[0] = 2, 1
    references.mkdir()
    names = LabelSet.from_names({1: "liver", 2: "GTV"})
    write_seg(Segmentation(array, source.geometry, names), references / "a.dcm", source=source)
    assert dice(out, references) == 1.0


def test_a_predicted_seg_is_put_on_its_references_grid(tmp_path: Path) -> None:
    write_series(Volume(np.zeros((1, *GRID.shape), np.int16), GRID, ("CT",)), tmp_path / "series")
    source = find_series(tmp_path / "series")
    array = np.zeros(GRID.shape, np.uint8)
    array[GTV] = 1
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "ref").mkdir()
    segmentation = Segmentation(array, source.geometry, LabelSet.from_names({1: "GTV"}))
    write_seg(segmentation, tmp_path / "out" / "a" / "segmentation.dcm", source=source)
    write_segmentation(Segmentation(array, GRID, segmentation.labels), tmp_path / "ref" / "a.nii.gz")
    assert evaluate(tmp_path / "out", tmp_path / "ref").cases["a"].labels[1].dice == 1.0


def test_a_cases_own_rules_go_first(folders: tuple[Path, Path], draw_boxes: Callable[..., Path]) -> None:
    out, references = folders
    path = draw_boxes(references / "x.dcm", GRID, [("GTV", np.s_[0:1, 0:2, 0:2]), ("drawn again", GTV)])
    case = Case("a", (path,), path, rules=RoiRules(LABELS, (("drawn*", 3), ("GTV", 0))))
    assert dice(out, {"a": case}, labels=LABELS) == 1.0
    assert dice(out, {"a": path}, labels=LABELS) == 0.0


def test_contours_without_prediction_cannot_count(folders: tuple[Path, Path], draw_boxes: Callable[..., Path]) -> None:
    out, references = folders
    draw_boxes(references / "a.dcm", GRID, [("GTV", GTV)])
    draw_boxes(references / "b.dcm", GRID, [("GTV", GTV)])
    with pytest.raises(InputError, match="b: there is no prediction, and contours") as error:
        evaluate(out, references)
    assert "--subset" in error.value.remedy
    assert dice(out, references, subset=True) == 1.0


def test_our_own_outputs_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("a/segmentation.dcm", "a/rtstruct.dcm", "b/rtstruct.dcm", "c/x/any.dcm", "d/preview.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = {case: path.relative_to(tmp_path).as_posix() for case, path in masks_in(tmp_path).items()}
    assert found == {"a": "a/segmentation.dcm", "b": "b/rtstruct.dcm", "c": "c"}
