"""Data sets of DICOM series with SEG, RTSTRUCT and NIfTI references: listed, checked, labelled and read."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from medseg.datasets import check_dataset, content_sha256, open_dataset, read_case, with_labels, with_patients
from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io import write_segmentation
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Found = dict[str, list[str]]

GRID = Geometry((4, 6, 7), np.array([[0, 0, 0.7, 10], [0, 0.8, 0, 20], [3.0, 0, 0, 30], [0, 0, 0, 1]]))
GTV, NODE = np.s_[1:3, 1:4, 1:4], np.s_[2:4, 3:5, 3:6]


class Study:
    """Series and references under one folder, listed in a table."""

    def __init__(self, root: Path, draw_boxes: Callable[..., Path]) -> None:
        self.root, self._draw, self._rows = root, draw_boxes, ["id,image,label"]

    def series(self, name: str, patient: str = "") -> Geometry:
        array = np.random.default_rng(len(self._rows)).integers(0, 100, (1, *GRID.shape)).astype(np.int16)
        for path in write_series(Volume(array, GRID, ("CT",)), self.root / name / "image", name=patient or name):
            dataset = pydicom.dcmread(path)
            dataset.PatientID = f"Zyxwvu {patient or name}"
            dataset.save_as(path)
        grid = find_series(self.root / name / "image").geometry
        assert grid is not None
        return grid

    def rtstruct(self, name: str, *boxes: tuple[str, Any]) -> None:
        self._draw(self.root / name / "rs" / "RS.dcm", self.series(name), boxes)
        self._rows.append(f"{name},{name}/image,{name}/rs")

    def seg(self, name: str, names: dict[int, str], array: Any) -> None:
        grid = self.series(name)
        segmentation = Segmentation(array, grid, LabelSet.from_names(names))
        write_seg(segmentation, self.root / name / "seg.dcm", source=find_series(self.root / name / "image"))
        self._rows.append(f"{name},{name}/image,{name}/seg.dcm")

    def nifti(self, name: str, array: Any) -> None:
        names = {int(i): "x" for i in np.unique(array) if i}
        write_segmentation(
            Segmentation(array, self.series(name), LabelSet.from_names(names)), self.root / f"{name}.nii.gz"
        )
        self._rows.append(f"{name},{name}/image,{name}.nii.gz")

    def table(self, labels: str = "") -> Path:
        (self.root / "labels.yaml").unlink(missing_ok=True)
        if labels:
            (self.root / "labels.yaml").write_text(labels)
        (self.root / "cases.csv").write_text("\n".join(self._rows) + "\n")
        return self.root / "cases.csv"

    def found(self, labels: str = "") -> Found:
        """What the check says: messages by code."""
        result: Found = {}
        for finding in check_dataset(self.table(labels)).findings:
            assert finding.remedy
            assert "Zyxwvu" not in f"{finding}"
            result.setdefault(finding.code, []).append(finding.message)
        return result


@pytest.fixture
def study(tmp_path: Path, draw_boxes: Callable[..., Path]) -> Study:
    return Study(tmp_path, draw_boxes)


def box(place: Any, value: int = 1) -> Any:
    array = np.zeros(GRID.shape, np.uint8)
    array[place] = value
    return array


def masks(path: Path) -> dict[str, Any]:
    data = with_labels(open_dataset(path))
    return {case.id: read_case(case, labels=data.labels)[1].array for case in data.cases}


def test_three_kinds_of_reference_make_one_data_set(study: Study) -> None:
    study.rtstruct("a", ("GTV_Mass_CT", GTV), ("Couch", np.s_[0:1, 0:2, 0:2]))
    study.seg("b", {5: "gtv_mass"}, box(GTV, 5))
    study.nifti("c", box(GTV))
    table = study.table("GTV_Mass*: 1\n")
    data = open_dataset(table)
    assert (data.labels.names, data.labels.ids) == (("GTV_Mass",), (1,))
    for array in masks(table).values():
        np.testing.assert_array_equal(array, box(GTV))


def test_structures_for_no_label_and_labels_without_structure_are_listed(study: Study) -> None:
    study.rtstruct("a", ("GTV", GTV), ("Couch", np.s_[0:1, 0:2, 0:2]))
    study.rtstruct("b", ("node", NODE))
    found = study.found("GTV*: 1\nnode: 2\n")
    assert found["unmapped-roi"] == ["the structure 'Couch' of a/rs is for no label"]
    assert found["missing-roi"] == ["a/rs holds no structure for 'node'", "b/rs holds no structure for 'GTV'"]
    assert set(found) == {"unmapped-roi", "missing-roi"}
    assert "unmapped-roi" not in study.found("GTV*: 1\nnode: 2\nCouch: 0\n")


@pytest.mark.parametrize(
    ("labels", "code", "words"),
    [
        ("GTV: 1\nnode: 2\n", "overlap", r"'GTV' and 'node' overlap (1 voxel)"),
        ("liver: 1\n", "no-mapped-roi", "no structure is for a label: 'GTV', 'node'"),
        ("G*: 1\n'*V': 2\nnode: 2\n", "ambiguous-roi", "'GTV' fits 'G*' and '*V'"),
    ],
)
def test_what_keeps_a_reference_from_being_read_is_said(study: Study, labels: str, code: str, words: str) -> None:
    study.rtstruct("a", ("GTV", GTV), ("node", NODE))
    study.rtstruct("b", ("GTV", GTV))
    assert words in study.found(labels)[code][0]
    with pytest.raises(InputError) as error:
        masks(study.table(labels))
    assert words in str(error.value)


def test_later_wins_in_check_and_in_reading(study: Study) -> None:
    study.rtstruct("a", ("GTV", GTV), ("node", NODE))
    text = "node: 2\nGTV: 1\noverlap: later wins\n"
    assert study.found(text) == {}
    wanted = box(NODE, 2)
    wanted[GTV] = 1
    np.testing.assert_array_equal(masks(study.table(text))["a"], wanted)


def test_without_labels_structures_are_labels_by_their_names(study: Study) -> None:
    study.rtstruct("a", ("node", NODE))
    study.seg("b", {1: "Node", 2: "GTV"}, box(np.s_[0:1, 0:1, 0:1], 1) + box(GTV, 2))
    data = with_labels(open_dataset(study.table()))
    assert data.labels.names == ("GTV", "Node")
    found = masks(study.table())
    np.testing.assert_array_equal(found["a"], box(NODE, 2))
    np.testing.assert_array_equal(found["b"], box(np.s_[0:1, 0:1, 0:1], 2) + box(GTV, 1))
    assert study.found() == {"unnamed-labels": ["every name of a structure becomes a label: 'GTV', 'Node'"]}


def test_names_and_numbers_do_not_mix_without_labels(study: Study) -> None:
    study.rtstruct("a", ("node", NODE))
    study.nifti("b", box(GTV))
    assert study.found()["mixed-references"]
    with pytest.raises(InputError, match=r"labels\.yaml"):
        with_labels(open_dataset(study.table()))


def test_a_folder_may_hold_the_series_and_its_contours(study: Study) -> None:
    study.rtstruct("a", ("GTV", GTV))
    table = study.root / "other.csv"
    table.write_text("id,image,label\na,a,a\n")
    np.testing.assert_array_equal(masks(table)["a"], box(GTV))


def test_two_folders_of_series_and_contours(study: Study, draw_boxes: Callable[..., Path]) -> None:
    root = study.root / "set"
    array = np.random.default_rng(1).integers(0, 100, (1, *GRID.shape)).astype(np.int16)
    for name in ("p1", "p2"):
        write_series(Volume(array, GRID, ("CT",)), root / "images" / name)
    grids = {name: find_series(root / "images" / name).geometry for name in ("p1", "p2")}
    draw_boxes(root / "masks" / "p1_rtstruct.dcm", grids["p1"], [("GTV_1", GTV)])
    draw_boxes(root / "masks" / "p2" / "RS.dcm", grids["p2"], [("GTV_2", GTV)])
    (root / "labels.yaml").write_text("GTV*: 1\n")
    for mask in masks(root).values():
        np.testing.assert_array_equal(mask, box(GTV))


def test_rules_are_part_of_what_a_case_holds(study: Study) -> None:
    study.rtstruct("a", ("GTV", GTV), ("node", NODE))
    study.nifti("b", box(GTV))
    first = open_dataset(study.table("GTV: 1\nnode: 2\noverlap: later wins\n")).cases
    second = open_dataset(study.table("node: 2\nGTV: 1\noverlap: later wins\n")).cases
    assert content_sha256(first[0]) != content_sha256(second[0])
    assert content_sha256(first[1]) == content_sha256(second[1]) == content_sha256(replace(first[1], rules=None))


def test_contours_of_another_image_are_refused(study: Study, draw_boxes: Callable[..., Path]) -> None:
    study.rtstruct("a", ("GTV", GTV))
    draw_boxes(study.root / "a" / "rs" / "RS.dcm", GRID, [("GTV", GTV)], frame="1.2.3.4.5")
    found = study.found("GTV: 1\n")
    assert "another frame of reference" in found["other-frame"][0]


# -- what can be read, but not as it seems ----------------------------------------------------------------------------
def test_two_series_of_a_patient_are_named(study: Study) -> None:
    study.rtstruct("a", ("GTV", GTV))
    study.series("b", patient="a")
    study.nifti("c", box(GTV))
    table = study.table("GTV: 1\n")
    table.write_text(table.read_text() + "b,b/image,c.nii.gz\n")
    found = {finding.code: finding.message for finding in check_dataset(table).findings}
    assert found["one-patient"] == "the cases a, b are of one study, so they count as one patient"
    assert with_patients(open_dataset(table)).patients == 2


def test_structures_that_hold_less_than_they_seem_to_are_said(study: Study) -> None:
    study.rtstruct("a", ("GTV", GTV), ("node", np.s_[0:0, 1:2, 1:2]))
    found = study.found("GTV: 1\nnode: 2\n")
    assert found["empty-roi"] == ["in a/rs, 'node' has no closed contour"]


def test_segments_without_voxels_are_said(study: Study) -> None:
    study.seg("a", {1: "GTV", 2: "node"}, box(GTV))
    assert study.found("GTV: 1\nnode: 2\n")["empty-roi"] == ["in a/seg.dcm, no voxel is of the label 'node'"]


def test_a_reference_of_another_series_is_said(study: Study) -> None:
    study.seg("a", {1: "GTV"}, box(GTV))
    study.series("other", patient="a")
    path = study.root / "other" / "image"
    for file in path.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID = "1.2.3.4"
        dataset.save_as(file)
    table = study.table("GTV: 1\n")
    assert "other-series" not in study.found("GTV: 1\n")
    table.write_text("id,image,label\na,other/image,a/seg.dcm\n")
    (found,) = [finding for finding in check_dataset(table).findings if finding.code == "other-series"]
    assert found.message == "in a/seg.dcm, the series it was drawn on is another than the image"


def test_kinds_of_images_in_one_channel_are_said(study: Study, test_data: Path) -> None:
    study.nifti("a", box(GTV))
    table = study.table("GTV: 1\n")
    mri = test_data / "dicom" / "sarcoma" / "STS_002" / "dicom" / "MR_T1"
    table.write_text(table.read_text() + f"m,{mri / 'image'},{mri / 'mask'}\n")
    (found,) = [finding for finding in check_dataset(table).findings if finding.code == "mixed-modality"]
    assert "CT (1), MR (1)" in found.message


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("missing_slice", r"1 of 5 slices missing.* Export the series again, whole"),
        ("dwi_4d", r"2 volumes on one grid.* files of one volume alone"),
        ("mosaic", r"Siemens mosaic.* Convert it to NIfTI"),
        ("mixed_folder", r"4 series are here.* a folder of its own"),
    ],
)
def test_what_makes_an_image_useless_for_training_can_be_put_right(
    study: Study, test_data: Path, image: str, words: str
) -> None:
    study.nifti("a", box(GTV))
    table = study.table("GTV: 1\n")
    table.write_text(f"id,image,label\nb,{test_data / 'dicom_edge' / image},a.nii.gz\n")
    with pytest.raises(InputError, match=words) as caught:
        read_case(open_dataset(table).cases[0])
    assert str(caught.value).startswith("b, ")
    assert "--" not in str(caught.value)
    assert any(re.search(words, f"{fault.message} {fault.remedy}") for fault in check_dataset(table).findings)


def test_an_error_in_a_reference_names_the_case(study: Study) -> None:
    study.rtstruct("a", ("GTV", GTV), ("node", NODE))
    data = open_dataset(study.table("GTV: 1\nnode: 2\n"))
    with pytest.raises(InputError, match=r"^a, RS\.dcm: the structures 'GTV' and 'node' overlap"):
        read_case(data.cases[0], labels=data.labels)
