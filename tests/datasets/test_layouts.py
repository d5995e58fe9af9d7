from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medseg.datasets import open_dataset
from medseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.datasets.conftest import Writer

LABELS_V2 = {"background": 0, "a": 1, "b": 2}


def test_decathlon_names_labels_and_channels(writer: Writer) -> None:
    dataset = open_dataset(writer.decathlon())
    assert [case.id for case in dataset.cases] == ["case_0", "case_1", "case_2"]
    assert dataset.labels.names == ("a", "b")
    assert dataset.channels == ("CT",)
    assert all(case.reference is not None and case.reference.name == case.images[0].name for case in dataset.cases)


def test_real_decathlon_data_set(test_data: Path) -> None:
    dataset = open_dataset(test_data / "hippocampus")
    assert len(dataset.cases) == 200
    assert dataset.labels.names == ("Anterior", "Posterior")
    assert dataset.channels == ("MRI",)
    assert dataset.cases[1].id == "hippocampus_003"


def test_decathlon_keeps_groups_and_trailing_numbers(writer: Writer) -> None:
    writer.image("imagesTr/scan_0012.nii.gz")
    writer.mask("labelsTr/scan_0012.nii.gz")
    row = {"image": "imagesTr/scan_0012.nii.gz", "label": "labelsTr/scan_0012.nii.gz", "group": "p1"}
    writer.json({"modality": {"0": "MR"}, "labels": {"1": "a"}, "training": [row]})
    case = open_dataset(writer.root).cases[0]
    assert (case.id, case.group) == ("scan_0012", "p1")


def test_first_nnunet_format_finds_channel_files(writer: Writer) -> None:
    for channel in range(2):
        writer.image(f"imagesTr/x_{channel:04d}.nii.gz")
    writer.mask("labelsTr/x.nii.gz")
    row = {"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}
    writer.json({"modality": {"0": "T1", "1": "T2"}, "labels": {"1": "a", "2": "b"}, "training": [row]})
    case = open_dataset(writer.root).cases[0]
    assert case.id == "x"
    assert [path.name for path in case.images] == ["x_0000.nii.gz", "x_0001.nii.gz"]


def test_second_nnunet_format_with_own_split(writer: Writer) -> None:
    for i in range(4):
        for channel in range(2):
            writer.image(f"imagesTr/x{i}_{channel:04d}.nii.gz")
        writer.mask(f"labelsTr/x{i}.nii.gz")
    writer.json({"channel_names": {"0": "T1", "1": "T2"}, "labels": LABELS_V2, "file_ending": ".nii.gz"})
    writer.json([{"train": ["x2", "x3"], "val": ["x0", "x1"]}], "splits_final.json")
    dataset = open_dataset(writer.root)
    assert dataset.channels == ("T1", "T2")
    assert [case.id for case in dataset.split(0)[1]] == ["x0", "x1"]
    assert all(len(case.images) == 2 for case in dataset.cases)


def test_nnunet_table_of_paths(writer: Writer) -> None:
    writer.image("here/one.nii.gz")
    writer.mask("there/two.nii.gz")
    table = {"s1": {"images": ["here/one.nii.gz"], "label": "there/two.nii.gz"}}
    writer.json({"channel_names": {"0": "CT"}, "labels": LABELS_V2, "dataset": table})
    case = open_dataset(writer.root).cases[0]
    assert (case.id, case.images[0].name) == ("s1", "one.nii.gz")


def test_a_split_naming_a_stranger_is_refused(writer: Writer) -> None:
    writer.decathlon()
    writer.json([{"train": [], "val": ["nobody"]}], "splits_final.json")
    with pytest.raises(InputError, match="nobody"):
        open_dataset(writer.root)


@pytest.mark.parametrize("mask_name", ["{}.nii.gz", "{}_mask.nii.gz", "{}-seg.nii.gz", "{}_label.nii"])
def test_two_folders_pair_by_name(writer: Writer, mask_name: str) -> None:
    for key in ("b", "a", "a2"):
        writer.image(f"images/{key}.nii.gz")
        writer.mask("masks/" + mask_name.format(key))
    dataset = open_dataset(writer.root)
    assert [case.id for case in dataset.cases] == ["a", "a2", "b"]
    for case in dataset.cases:
        assert case.reference is not None
        assert case.reference.name == mask_name.format(case.id)
    assert dataset.channels == ()


def test_numbers_that_the_masks_bear_too_are_no_channels(writer: Writer) -> None:
    for i in range(3):
        writer.image(f"images/frame_{i:04d}.nii.gz")
        writer.mask(f"masks/frame_{i:04d}.nii.gz")
    dataset = open_dataset(writer.root)
    assert [len(case.images) for case in dataset.cases] == [1, 1, 1]
    assert [case.id for case in dataset.cases] == ["frame", "frame_0001", "frame_0002"]


def test_a_folder_of_dicom_is_one_image(writer: Writer) -> None:
    (writer.root / "images" / "series.1").mkdir(parents=True)
    writer.mask("masks/series.1.nii.gz")
    case = open_dataset(writer.root).cases[0]
    assert case.id == "series.1"
    assert case.images[0].is_dir()


def test_files_of_macos_are_passed_over(writer: Writer) -> None:
    writer.decathlon()
    for folder in ("imagesTr", "labelsTr"):
        (writer.root / folder / "._case_0.nii.gz").write_bytes(b"\0")
    (writer.root / "dataset.json").unlink()
    assert len(open_dataset(writer.root).cases) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.yaml", "1: liver\n2: spleen\n"),
        ("labels.json", '{"liver": 1, "spleen": 2}'),
        ("labels.yaml", "- {id: 1, name: liver}\n- {id: 2, name: spleen}\n"),
    ],
)
def test_labels_beside_two_folders(writer: Writer, name: str, text: str) -> None:
    writer.image("images/a.nii.gz")
    writer.mask("labels/a.nii.gz")
    (writer.root / name).write_text(text)
    assert open_dataset(writer.root).labels.names == ("liver", "spleen")


@pytest.mark.parametrize("path", ["../secret.nii.gz", "/etc/passwd", "a/../../b.nii.gz", "C:\\x.nii.gz", "", 7, None])
def test_paths_that_leave_the_data_set_are_refused(writer: Writer, path: object) -> None:
    writer.mask("m.nii.gz")
    writer.json({"labels": {"1": "a"}, "modality": {"0": "CT"}, "training": [{"image": path, "label": "m.nii.gz"}]})
    with pytest.raises(InputError, match="inside the data set"):
        open_dataset(writer.root)


@pytest.mark.parametrize(
    "labels", [{"whole": [1, 2]}, {"a": 1, "ignore": 0}, {"1": 2.5}, [], None, {"a": 1, "b": 1}, {"a": True}]
)
def test_labels_that_cannot_be_learned_are_refused_in_words(writer: Writer, labels: object) -> None:
    writer.decathlon(labels=labels)
    with pytest.raises(InputError, match="label"):
        open_dataset(writer.root)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "[" * 100_000, "\xff"])
def test_a_damaged_document_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"dataset\.json"):
        open_dataset(tmp_path)


def test_no_data_set_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data set"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(InputError, match="not a data set"):
        open_dataset(tmp_path)


def test_opening_refuses_what_does_not_pair(test_data: Path) -> None:
    with pytest.raises(InputError, match=r"hippocampus_118\.nii\.gz has no mask \(and 2 more\)"):
        open_dataset(test_data / "hippocampus_bad")
