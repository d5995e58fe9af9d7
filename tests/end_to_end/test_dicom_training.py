"""Training takes DICOM: CT series with RTSTRUCT or NIfTI references become a model that segments DICOM."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.cli.app import main
from medseg.datasets import open_dataset, read_case
from medseg.io import read_geometry, read_segmentation
from medseg.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]

PATIENTS = ("STS_002", "STS_025")
TINY = (
    "train.epochs=1",
    "train.steps_per_epoch=2",
    "train.batch_size=1",
    "train.patch_size=[16,32,32]",
    "preprocess.spacing_mm=[6.54,4,4]",
    "network.width=4",
)


@pytest.fixture(scope="module")
def table(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of both sarcoma patients' CT: one drawn as RTSTRUCT, one as NIfTI."""
    root = tmp_path_factory.mktemp("sarcoma")
    for patient in PATIENTS:
        shutil.copytree(test_data / "dicom" / "sarcoma" / patient / "dicom" / "CT", root / patient)
        shutil.copy(test_data / "dicom" / "sarcoma" / patient / "nifti" / "CT_mask.nii.gz", root / f"{patient}.nii.gz")
    rows = ["id,image,label", "STS_002,STS_002/image,STS_002/mask/RS.dcm", "STS_025,STS_025/image,STS_025.nii.gz"]
    (root / "cases.csv").write_text("\n".join(rows) + "\n")
    (root / "labels.yaml").write_text("GTV_Mass*: 1\n")
    return root / "cases.csv"


@pytest.fixture
def medseg(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_check_and_plan_take_the_table(table: Path, medseg: Command) -> None:
    code, text, errors = medseg("check", table, "--json")
    report = json.loads(text)
    assert (code, report["cases"], report["findings"]) == (0, 2, [])
    code, text, errors = medseg("plan", table, "--dry-run", "--memory", "4GB", "--device", "cpu")
    assert code == 0, errors
    assert "2, one for each patient" in text
    assert "GTV_Mass" in text


def test_what_labels_leave_out_is_said_before_training(table: Path, tmp_path: Path, medseg: Command) -> None:
    shutil.copytree(table.parent, tmp_path / "set")
    (tmp_path / "set" / "labels.yaml").write_text("GTV_Mass*: 1\nnode: 2\n")
    code, text, errors = medseg(
        "plan", tmp_path / "set" / "cases.csv", "--dry-run", "--memory", "4GB", "--device", "cpu"
    )
    assert code == 0, errors
    assert "Labels without a structure: 'node' (1 case)." in " ".join(text.split())


def test_folds_that_were_asked_for_are_not_changed(table: Path, tmp_path: Path, medseg: Command) -> None:
    code, _, errors = medseg("train", table, "-o", tmp_path / "run", "--device", "cpu", "--set", "train.folds=3")
    assert code == 1
    assert "2 patients cannot be parted into 3 folds" in errors


def test_the_reference_is_the_same_however_it_is_kept(table: Path) -> None:
    case = open_dataset(table).cases[0]
    drawn = read_case(case)[1]
    mask = read_segmentation(table.parent / "STS_002.nii.gz")
    assert drawn.geometry.same_grid(read_geometry(table.parent / "STS_002" / "image"))
    assert drawn.voxel_counts() == mask.voxel_counts() == {1: 17090}


def test_a_model_is_trained_and_segments_the_series(table: Path, tmp_path: Path, medseg: Command) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    settings = [word for setting in TINY for word in ("--set", setting)]
    code, text, errors = medseg("train", table, "-o", run, "--device", "cpu", *settings)
    assert code == 0, errors
    model = load_model(run / "model")
    assert model.plan.labels.names == ("GTV_Mass",)
    assert "Structures for no label" not in text + (run / "report.html").read_text()
    assert (model.plan.train.folds, model.plan.channels) == (2, ("CT",))
    metrics = json.loads((run / "fold_0" / "validation" / "metrics.json").read_text())
    (row,) = [row for row in metrics["cases"] if row["label"] == "GTV_Mass"]
    assert row["reference_volume_ml"] == pytest.approx({"STS_002": 53.30, "STS_025": 30.11}[row["id"]], abs=0.01)
    code, text, errors = medseg(
        "segment", run / "model", table.parent / row["id"], "-o", out, "--format", "nifti,dicom-seg", "--device", "cpu"
    )
    assert code == 0, errors
    (done,) = [case for case in json.loads((out / "manifest.json").read_text())["cases"] if case["status"] == "done"]
    mask = read_segmentation(out / done["outputs"]["nifti"])
    grid = read_geometry(table.parent / row["id"] / "image")
    assert mask.geometry.reoriented(grid.axis_codes).same_grid(grid)
    seg = read_segmentation(out / done["outputs"]["dicom-seg"], onto=mask.geometry)
    np.testing.assert_array_equal(seg.array, mask.array)

    references = tmp_path / "references"
    shutil.copytree(table.parent / row["id"], references / done["id"])  # the series, and its contours in mask/
    code, text, errors = medseg("evaluate", out, references, "-o", tmp_path / "report", "--json")
    assert code == 1  # the predictions call it GTV_Mass, the contours GTV_Mass_CT
    assert "GTV_Mass_CT" in errors
    shutil.copy(table.parent / "labels.yaml", references)
    code, text, errors = medseg("evaluate", out, references, "-o", tmp_path / "report", "--json")
    assert code == 0, errors
    (again,) = [entry for entry in json.loads(text)["cases"] if entry["label"] == "GTV_Mass"]
    assert again["reference_volume_ml"] == pytest.approx(row["reference_volume_ml"])
    assert again["dice"] == pytest.approx(row["dice"])
