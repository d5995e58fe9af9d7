from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from medseg.datasets import check_dataset
from medseg.datasets.findings import CODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.datasets.conftest import Writer

    Codes = Callable[[Path], dict[str, list[str]]]


def test_real_bad_data_set_names_every_file_and_a_remedy(test_data: Path) -> None:
    report = check_dataset(test_data / "hippocampus_bad")
    assert report.layout == "folders"
    assert report.has_errors
    faults = {(f.file, f.code) for f in report.findings if f.severity == "error"}
    assert faults == {
        ("imagesTr/hippocampus_118.nii.gz", "image-without-mask"),
        ("labelsTr/hippocampus_010.nii.gz", "mask-without-image"),
        ("labelsTr/hippocampus_281.nii.gz", "mask-without-image"),
    }
    for fault in report.findings:
        assert fault.remedy
        if fault.file:
            assert Path(fault.file).name in fault.message


def test_real_sound_data_set_has_one_note(test_data: Path) -> None:
    report = check_dataset(test_data / "hippocampus")
    assert [(f.code, f.case) for f in report.findings] == [("float-mask", "hippocampus_003")]
    assert (report.cases, report.layout, report.has_errors) == (200, "decathlon", False)


def test_report_as_json(writer: Writer) -> None:
    document = json.loads(json.dumps(check_dataset(writer.decathlon()).to_json()))
    assert document == {"path": str(writer.root), "layout": "decathlon", "cases": 3, "findings": []}
    writer.mask("labelsTr/case_1.nii.gz", values=(9,))
    found = check_dataset(writer.root).to_json()["findings"]
    assert found[0] == {
        "code": "unknown-label",
        "severity": "error",
        "case": "case_1",
        "file": "labelsTr/case_1.nii.gz",
        "message": found[0]["message"],
        "remedy": found[0]["remedy"],
    }


FAULTS: dict[str, Callable[[Writer], object]] = {
    "grid-mismatch": lambda w: w.mask("labelsTr/case_1.nii.gz", shape=(6, 7, 9)),
    "unknown-label": lambda w: w.mask("labelsTr/case_1.nii.gz", values=(1, 7)),
    "mask-values": lambda w: w.mask("labelsTr/case_1.nii.gz", values=(1, 0.5)),
    "empty-mask": lambda w: w.mask("labelsTr/case_1.nii.gz", values=()),
}
IMAGE_FAULTS: dict[str, Callable[[Writer], object]] = {
    "non-finite": lambda w: w.image("imagesTr/case_1.nii.gz", value=np.nan),
    "constant-image": lambda w: w.image("imagesTr/case_1.nii.gz", value=5),
    "unreadable": lambda w: (w.root / "imagesTr/case_1.nii.gz").write_bytes(b"no image"),
    "channel-count": lambda w: w.image("imagesTr/case_1.nii.gz", shape=(6, 7, 8, 2)),
    "duplicate-image": lambda w: shutil.copy(w.root / "imagesTr/case_0.nii.gz", w.root / "imagesTr/case_1.nii.gz"),
}


@pytest.mark.parametrize(("code", "damage"), list(FAULTS.items()))
def test_a_damaged_mask_is_found(writer: Writer, codes: Codes, code: str, damage: Callable[[Writer], object]) -> None:
    writer.decathlon()
    damage(writer)
    assert codes(writer.root) == {code: ["labelsTr/case_1.nii.gz"]}


@pytest.mark.parametrize(("code", "damage"), list(IMAGE_FAULTS.items()))
def test_a_damaged_image_is_found(writer: Writer, codes: Codes, code: str, damage: Callable[[Writer], object]) -> None:
    writer.decathlon()
    damage(writer)
    assert codes(writer.root) == {code: ["imagesTr/case_1.nii.gz"]}


def test_a_mask_moved_away_from_its_image_is_found(writer: Writer, codes: Codes) -> None:
    writer.decathlon()
    writer.mask("labelsTr/case_1.nii.gz", spacing=1.2)
    assert codes(writer.root) == {"grid-mismatch": ["labelsTr/case_1.nii.gz"]}


def test_rounding_in_a_header_is_no_fault(writer: Writer, codes: Codes) -> None:
    writer.decathlon()
    writer.mask("labelsTr/case_1.nii.gz", spacing=1.002)
    assert codes(writer.root) == {}


def test_a_case_in_other_units_is_found(writer: Writer, codes: Codes) -> None:
    writer.decathlon(4)
    writer.image("imagesTr/case_2.nii.gz", spacing=10)
    writer.mask("labelsTr/case_2.nii.gz", spacing=10)
    file = "imagesTr/case_2.nii.gz"
    assert codes(writer.root) == {"spacing-outlier": [file], "size-outlier": [file]}


def test_a_label_nobody_drew_is_found(writer: Writer, codes: Codes) -> None:
    writer.decathlon(labels={"1": "a", "2": "b", "3": "c"})
    assert codes(writer.root) == {"label-never-used": [""]}


def test_missing_and_unlisted_files_are_found(writer: Writer, codes: Codes) -> None:
    writer.decathlon()
    (writer.root / "imagesTr/case_1.nii.gz").rename(writer.root / "imagesTr/other.nii.gz")
    found = codes(writer.root)
    assert found["missing-file"] == ["imagesTr/case_1.nii.gz"]
    assert found["unlisted-file"] == ["imagesTr/other.nii.gz", "labelsTr/case_1.nii.gz"]


def test_missing_channel_is_found(writer: Writer, codes: Codes) -> None:
    for name in ("a_0000", "a_0001", "b_0000"):
        writer.image(f"imagesTr/{name}.nii.gz")
    for name in "ab":
        writer.mask(f"labelsTr/{name}.nii.gz")
    writer.json({"channel_names": {"0": "T1", "1": "T2"}, "labels": {"a": 1, "b": 2}})
    assert codes(writer.root)["missing-channel"] == ["imagesTr/b_0000.nii.gz"]


def test_two_files_of_one_name_are_not_guessed_between(writer: Writer, codes: Codes) -> None:
    writer.image("images/a.nii.gz")
    writer.image("images/a.nii")
    writer.mask("masks/a.nii.gz")
    assert codes(writer.root)["ambiguous-pair"] == ["images/a.nii.gz"]


def test_cases_of_one_name_are_found(writer: Writer, codes: Codes) -> None:
    writer.image("a/x.nii.gz")
    writer.image("b/x.nii.gz")
    writer.mask("m.nii.gz")
    rows = [{"image": f"{folder}/x.nii.gz", "label": "m.nii.gz"} for folder in "ab"]
    writer.json({"modality": {"0": "CT"}, "labels": {"1": "a", "2": "b"}, "training": rows})
    assert codes(writer.root) == {"same-id": ["a/x.nii.gz", "b/x.nii.gz"]}


def test_what_two_folders_leave_open_is_noted(writer: Writer, codes: Codes) -> None:
    writer.image("images/a.nii.gz")
    writer.mask("masks/a.nii.gz")
    (writer.root / "images/readme.txt").write_text("hello")
    assert set(codes(writer.root)) == {"unnamed-labels", "unnamed-channels", "foreign-file"}


def test_orientations_and_channels_on_other_grids_are_told(writer: Writer, codes: Codes) -> None:
    for name, affine in (("a", np.eye(4)), ("b", np.diag([-1.0, 1, 1, 1]))):
        for channel in range(2):
            shape = (6, 7, 8) if (name, channel) != ("a", 1) else (6, 7, 9)
            array = np.random.default_rng(channel).normal(size=shape).astype(np.float32)
            path = writer.save(f"imagesTr/{name}_{channel:04d}.nii.gz", array)
            nib.save(nib.Nifti1Image(array + len(path.name) + affine[0, 0], affine), path)
        mask = np.ones((6, 7, 8), np.uint8)
        nib.save(nib.Nifti1Image(mask, affine), writer.mask(f"labelsTr/{name}.nii.gz"))
    writer.json({"channel_names": {"0": "T1", "1": "T2"}, "labels": {"a": 1}})
    assert codes(writer.root) == {"channel-grid": ["imagesTr/a_0001.nii.gz"], "mixed-orientation": [""]}


def test_pictures_say_what_they_are(test_data: Path, codes: Codes) -> None:
    assert set(codes(test_data / "images2d" / "road_scenes_camvid" / "test")) == {"unnamed-labels"}


def test_every_code_has_a_known_severity() -> None:
    assert set(CODES.values()) == {"error", "warning", "note"}
