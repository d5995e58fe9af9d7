"""The way out: what was approved becomes a training set that reads back, and two reviewers are compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.cli.app import main
from medseg.datasets import check_dataset, open_dataset, read_case
from medseg.errors import InputError, OutputError
from medseg.geometry import Box
from medseg.io import write_volume
from medseg.io.dicom import write_series
from medseg.io.hashing import file_sha256
from medseg.metrics.overlap import dice
from medseg.review import Desk, Edit, export_reviewed
from medseg.volume import Volume
from tests.review.conftest import GRID, LABELS, mask_of, scan_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def judge(out: Path, scans: Path, who: str = "ada", *, z: int = 7) -> None:
    """Accept a, fix b, reject c."""
    desk = Desk(out, who=who, images=[scans])
    desk.open("a")
    desk.accept()
    case = desk.open("b")
    desk.edit(Edit.of_block(case.mask, Box((z, 0, 0), (z + 1, 2, 2)), np.full((1, 2, 2), 2, np.uint8)))
    desk.fix("tail")
    desk.open("c")
    desk.reject("empty")
    desk.close()


def test_the_training_set_reads_back(out: Path, scans: Path, tmp_path: Path) -> None:
    judge(out, scans)
    desk = Desk(out, who="ada")
    report = export_reviewed(desk, tmp_path / "set")
    desk.close()
    dataset = open_dataset(tmp_path / "set")
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert (dataset.labels.names, dataset.labels.ids, dataset.channels) == (LABELS.names, LABELS.ids, ("image",))
    fixed = mask_of(1)
    fixed[7, :2, :2] = 2
    for case, first, mask in zip(dataset.cases, (0, 1), (mask_of(0), fixed), strict=True):
        image, reference = read_case(case, labels=dataset.labels)
        assert np.array_equal(image.array[0], scan_of(first))
        assert np.array_equal(reference.array, mask)
        assert image.geometry.same_grid(GRID)
    assert not [f for f in check_dataset(tmp_path / "set").findings if f.severity == "error"]
    assert report.left_out == {"open": 0, "rejected": 1}
    provenance = json.loads((tmp_path / "set" / "provenance.json").read_text())
    first, second = provenance["cases"]
    assert (first["status"], second["status"], second["version"], second["who"]) == ("accepted", "fixed", 1, "ada")
    assert first["images"]["a_0000.nii.gz"] == file_sha256(scans / "a.nii.gz")
    assert second["label_sha256"] == file_sha256(tmp_path / "set" / "labelsTr" / "b.nii.gz")
    assert provenance["log"]["entries"] == 4
    assert str(tmp_path) not in json.dumps(provenance)


def test_a_place_that_holds_something_is_refused(out: Path, scans: Path, tmp_path: Path) -> None:
    judge(out, scans)
    desk = Desk(out, who="ada")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x").touch()
    with pytest.raises(OutputError, match="holds something"):
        export_reviewed(desk, tmp_path / "set")
    desk.close()


def test_nothing_approved_is_a_sentence_and_leaves_nothing(out: Path, scans: Path, tmp_path: Path) -> None:
    desk = Desk(out, who="ada", images=[scans])
    with pytest.raises(InputError, match="no case is accepted or fixed"):
        export_reviewed(desk, tmp_path / "set")
    desk.close()
    assert not (tmp_path / "set").exists()


def test_a_case_that_fails_leaves_no_half_set(out: Path, scans: Path, tmp_path: Path) -> None:
    judge(out, scans)
    (out / "review" / "b" / "v0001.nii.gz").write_bytes(b"damaged")
    desk = Desk(out, who="ada")
    with pytest.raises(InputError, match="not what was saved"):
        export_reviewed(desk, tmp_path / "set")
    desk.close()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "scans"}


def test_dicom_becomes_nifti_and_a_study_one_group(out: Path, scans: Path, tmp_path: Path) -> None:
    dicom = tmp_path / "dicom"
    document = json.loads((out / "manifest.json").read_text())
    for n, case in enumerate("ab"):
        (dicom / case).mkdir(parents=True)
        write_series(Volume(scan_of(n)[None], GRID, ("CT",)), dicom / case)
        document["cases"][n]["inputs"] = sorted(f"{case}/{path.name}" for path in (dicom / case).iterdir())
    (out / "manifest.json").write_text(json.dumps(document))
    desk = Desk(out, who="ada", images=[dicom, scans])
    for case in "ab":
        desk.open(case)
        desk.accept()
    export_reviewed(desk, tmp_path / "set")
    desk.close()
    dataset = open_dataset(tmp_path / "set")
    image, _ = read_case(dataset.cases[1], labels=dataset.labels)
    assert np.array_equal(image.array[0], scan_of(1))
    assert image.geometry.same_grid(GRID)


def test_channels_become_files_of_their_own(out: Path, scans: Path, tmp_path: Path) -> None:
    for n, name in enumerate("abc"):
        write_volume(Volume(np.stack([scan_of(n), scan_of(n) + 1]), GRID, ("x", "y")), scans / f"{name}.nii.gz")
    judge(out, scans)
    desk = Desk(out, who="ada")
    export_reviewed(desk, tmp_path / "set")
    desk.close()
    dataset = open_dataset(tmp_path / "set")
    assert [path.name for path in dataset.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert np.array_equal(read_case(dataset.cases[0])[0].array, np.stack([scan_of(0), scan_of(0) + 1]))


def test_the_command_prints_exports_and_compares(
    make_out: Callable[..., Path], scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make_out("first"), make_out("second")
    judge(first, scans)
    judge(second, scans, "bob", z=6)
    assert main(["review", str(first), "--status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"open": 0, "accepted": 1, "rejected": 1, "fixed": 1}
    assert [(case["id"], case["status"]) for case in document["cases"]] == [
        ("c", "rejected"),
        ("b", "fixed"),
        ("a", "accepted"),
    ]
    assert document["log"]["whole"] is True

    assert main(["review", str(first), "--agreement", str(second), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {(row["id"], row["label"]): row["dice"] for row in document["cases"]} == {
        ("a", "liver"): 1.0,
        ("a", "spleen"): 1.0,
        ("b", "liver"): 1.0,
        ("b", "spleen"): 0.5,
    }
    assert document["mean"] == {"liver": 1.0, "spleen": 0.75, "all": 0.875}

    assert main(["review", str(first), "--export", str(tmp_path / "set"), "--json"]) == 0
    assert [case["id"] for case in json.loads(capsys.readouterr().out)["cases"]] == ["a", "b"]
    assert main(["check", str(tmp_path / "set")]) == 0


def test_agreement_with_a_folder_of_masks(
    make_out: Callable[..., Path], scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = make_out("first"), make_out("other", shift=1)
    judge(first, scans)
    assert main(["review", str(first), "--agreement", str(other), "--json"]) == 0
    found = {(row["id"], row["label"]): row["dice"] for row in json.loads(capsys.readouterr().out)["cases"]}
    assert found["a", "liver"] == dice(mask_of(0) == 1, mask_of(1) == 1)


def test_a_log_that_was_tampered_with_is_not_exported(
    out: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    judge(out, scans)
    connection = sqlite3.connect(out / "review" / "review.sqlite")
    connection.execute("DROP TRIGGER no_update")
    connection.execute("UPDATE events SET action = 'accept' WHERE action = 'reject'")
    connection.commit()
    connection.close()
    assert main(["review", str(out), "--status"]) == 2
    assert "tampered" in capsys.readouterr().out
    assert main(["review", str(out), "--export", str(tmp_path / "set")]) == 1
    assert "tampered" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "--export", "x"], "several of"),
        (["--status", "--reviewer", " "], "no name"),
        (["--agreement", "nowhere"], "no such folder"),
    ],
)
def test_wrong_words_are_sentences(
    out: Path, scans: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    judge(out, scans)
    assert main(["review", str(out), *words]) == 1
    assert said in capsys.readouterr().err


def test_without_napari_the_extra_is_named(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.workflows.review._WINDOW", ("no_such_viewer",))
    assert main(["review", str(out)]) == 1
    assert "medseg[gui]" in capsys.readouterr().err
