"""CSV tables: columns, separators, paths in and out of the folder, and rows that cannot be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medseg.datasets import check_dataset, open_dataset
from medseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.datasets.conftest import Writer


@pytest.fixture
def files(writer: Writer) -> Path:
    """A folder with two images of two channels, and a mask."""
    for name in ("i1", "i2", "j1", "j2"):
        writer.image(f"{name}.nii.gz")
    writer.mask("m.nii.gz")
    return writer.root


def table(root: Path, *lines: str, name: str = "set.csv", encoding: str = "utf-8") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_groups_and_channels(files: Path) -> None:
    header = "id,image_2,image,label,group"
    path = table(files, header, "b,j1.nii.gz,i1.nii.gz,m.nii.gz,p", "a,j2.nii.gz,i2.nii.gz,m.nii.gz,p")
    dataset = open_dataset(path, channels=["T1", "T2"])
    assert {case.group for case in dataset.cases} == {"p"}
    assert [image.name for image in dataset.cases[0].images] == ["i2.nii.gz", "j2.nii.gz"]
    assert dataset.channels == ("T1", "T2")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_spreadsheets_in_any_country(files: Path, encoding: str, mark: str) -> None:
    lines = [mark.join(row) for row in (("ID", " Image", "label"), ("a", " i1.nii.gz ", "m.nii.gz"))]
    (case,) = open_dataset(table(files, *lines, encoding=encoding)).cases
    assert (case.id, [image.name for image in case.images]) == ("a", ["i1.nii.gz"])


def test_files_may_lie_anywhere(files: Path) -> None:
    path = table(files, "id,image,label", f"a,{files / 'i1.nii.gz'},../m.nii.gz", name="lists/set.csv")
    (case,) = open_dataset(path).cases
    assert case.images[0].samefile(files / "i1.nii.gz")
    assert not [found for found in check_dataset(path).findings if found.severity == "error"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("id,image", "no column 'label'"),
        ("id,image_1,image_2,label", "no column 'image'"),
        ("id,image,image,label", "the column 'image' twice"),
        ("id,image,image_1,label", "the column 'image_1' twice"),
        ("id,image,image2,label", "a column 'image2'"),
        ("", "no column 'id'"),
    ],
)
def test_columns_that_leave_a_doubt_are_refused(files: Path, header: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_dataset(table(files, header, "a,i1.nii.gz,m.nii.gz,m.nii.gz"))


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (",i1.nii.gz,m.nii.gz", "bad-entry", "line 3 of set.csv has no id"),
        ("b,,m.nii.gz", "bad-entry", "line 3 of set.csv has no image"),
        ("b,i1.nii.gz", "bad-entry", "line 3 of set.csv has no label"),
        ("b,i1.nii.gz,m.nii.gz,n", "bad-entry", "line 3 of set.csv has more fields"),
        ("b,i9.nii.gz,m.nii.gz", "missing-file", "i9.nii.gz is named in line 3"),
        ("b,i1.nii.gz,../m9.nii.gz", "missing-file", "m9.nii.gz is named in line 3"),
    ],
)
def test_rows_that_cannot_be_taken_are_named(files: Path, row: str, code: str, words: str) -> None:
    path = table(files, "id,image,label", "a,i1.nii.gz,m.nii.gz", row)
    (found,) = [found for found in check_dataset(path).findings if found.severity == "error"]
    assert (found.code, words in found.message) == (code, True), found
    with pytest.raises(InputError, match="line 3"):
        open_dataset(path)


def test_columns_that_are_not_read_are_said(files: Path) -> None:
    path = table(files, "id,image,label,patient,age", "a,i1.nii.gz,m.nii.gz,p,7")
    (found,) = [found for found in check_dataset(path).findings if found.code == "unread-column"]
    assert "'patient', 'age'" in found.message
    assert "'group'" in found.remedy


def test_a_table_without_rows_is_no_sound_data_set(files: Path) -> None:
    (found,) = check_dataset(table(files, "id,image,label")).findings
    assert (found.code, found.severity) == ("no-case", "error")
