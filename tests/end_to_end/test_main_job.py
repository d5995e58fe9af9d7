"""The main job on real scans: folders of mixed DICOM in, masks in the right place out, every file accounted for."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from medseg.cli.app import main
from medseg.io import read_segmentation
from medseg.io.dicom import inspect_folder, read_seg, read_series_geometry
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.plan import Plan, PreprocessPlan, TrainPlan, UNetSpec, ZScore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.io.dicom import Item


@pytest.fixture(scope="module")
def model_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A model of random weights: its masks mean nothing, but where they lie does."""

    def make(modality: str, spacing_mm: tuple[float, float, float]) -> Path:
        plan = Plan(
            channels=(modality,),
            labels=LabelSet.from_names({1: "anterior", 2: "posterior"}),
            preprocess=PreprocessPlan(spacing_mm=spacing_mm, normalisation=(ZScore(),)),
            network=UNetSpec(
                dimensions=3,
                features=(8, 16),
                strides=((1, 1, 1), (2, 2, 2)),
                kernels=((3, 3, 3),) * 2,
                convs_per_stage=1,
            ),
            train=TrainPlan(patch_size=(16, 32, 32), batch_size=1),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            weights = build(plan.network, 1, 3).state_dict()
        card = Card(
            name=modality,
            created="2026-01-01T00:00:00Z",
            medseg="0",
            data=DataNote(name="none"),
            modalities=(modality,),
        )
        folder = tmp_path_factory.mktemp("models") / modality
        return save_model(folder, plan=plan, members={0: weights}, card=card).folder

    return make


def segmented(model: Path, scans: Path, out: Path) -> dict[str, dict[str, object]]:
    code = main(
        ["segment", str(model), str(scans), "-o", str(out), "--format", "nifti,dicom-seg,png", "--device", "cpu"]
    )
    assert code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    return {case["id"]: case for case in manifest["cases"]}


def crops(scans: Path) -> list[Item]:
    return [item for item in inspect_folder(scans).items if item.paths[0].split("/")[-2].endswith("HCropVolume")]


@pytest.mark.parametrize("study", ["mr_brain_study1", "mr_brain_study2"])
def test_crops_among_other_series_get_masks_in_place(
    study: str, test_data: Path, tmp_path: Path, model_for: Callable[..., Path]
) -> None:
    scans = test_data / "dicom" / study
    cases = segmented(model_for("MR", (1.5, 1.0, 1.0)), scans, tmp_path / "out")
    (crop,) = crops(scans)
    case = cases[crop.id]
    assert case["status"] == "done"
    nifti = read_segmentation(tmp_path / "out" / crop.id / "segmentation.nii.gz")
    source = read_series_geometry(scans / crop.paths[0].rpartition("/")[0])
    assert nifti.geometry.same_grid(source, tol_mm=1e-3)
    seg_path = tmp_path / "out" / crop.id / "segmentation.dcm"
    seg = read_seg(seg_path, onto=source)
    assert nifti.array.any()
    assert np.array_equal(seg.array, nifti.array)
    if shutil.which("dciodvfy"):
        check = subprocess.run(["dciodvfy", str(seg_path)], capture_output=True, text=True, check=False)
        assert check.returncode == 0, check.stderr


def test_every_file_is_in_exactly_one_case(test_data: Path, tmp_path: Path, model_for: Callable[..., Path]) -> None:
    scans = test_data / "dicom" / "mr_brain_study1"
    cases = segmented(model_for("MR", (4.0, 2.0, 2.0)), scans, tmp_path / "out")
    listed = [path for case in cases.values() for path in case["inputs"]]  # type: ignore[attr-defined]
    on_disk = [path.relative_to(scans).as_posix() for path in scans.rglob("*") if path.is_file()]
    assert sorted(listed) == sorted(on_disk)


def test_a_ct_without_uids_gets_its_mask_and_no_false_reference(
    test_data: Path, tmp_path: Path, model_for: Callable[..., Path]
) -> None:
    scans = test_data / "dicom" / "ct_abdomen" / "series"
    (case,) = segmented(model_for("CT", (4.0, 4.0, 4.0)), scans, tmp_path / "out").values()
    assert case["status"] == "done"
    assert set(case["outputs"]) == {"nifti", "png"}  # type: ignore[call-overload]
    codes = {finding["code"] for finding in case["findings"]}  # type: ignore[attr-defined]
    assert {"empty-uid", "format-not-applicable"} <= codes
    mask = read_segmentation(tmp_path / "out" / str(case["id"]) / "segmentation.nii.gz")
    reference = read_segmentation(test_data / "dicom" / "ct_abdomen" / "segmentation.nii.gz")
    assert mask.geometry.reoriented("SPL").same_grid(reference.geometry.reoriented("SPL"))


def test_another_modality_is_refused_in_words(test_data: Path, tmp_path: Path, model_for: Callable[..., Path]) -> None:
    scans = test_data / "dicom" / "mr_brain_study2"
    assert main(["segment", str(model_for("CT", (2.0, 2.0, 2.0))), str(scans), "-o", str(tmp_path / "out")]) == 2
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["refused"] == 1
    assert "MR" in manifest["cases"][0]["reason"]


def test_the_demo_leaves_everything_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medseg.workflows import demo

    monkeypatch.setattr(demo, "TRAINING_SEEDS", (1, 2, 3, 4, 5))
    monkeypatch.setattr(demo, "UNSEEN_SEEDS", (101,))
    monkeypatch.setattr(demo, "TRAINING_SECONDS", 20.0)
    folder = tmp_path / "demo"
    for _ in range(2):  # an earlier demo is replaced
        assert main(["demo", str(folder)]) == 0
    assert "Mean Dice" in capsys.readouterr().out
    assert {"train", "dicom", "run", "out"} <= {path.name for path in folder.iterdir()}
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert manifest["counts"]["done"] == 1
    assert set(manifest["cases"][0]["outputs"]) == {"nifti", "dicom-seg", "png"}
    assert "data:image/png" in (folder / "out" / "report.html").read_text()
    (folder / ".medseg-demo").unlink()
    assert main(["demo", str(folder)]) == 1
