"""Awkward series of real scanners through `medseg segment`: every file ends in one word, with its reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from medseg.cli.app import main
from medseg.io import read_geometry
from medseg.io.dicom import inspect_folder, read_seg
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.plan import InferPlan, Plan, PreprocessPlan, Rescale, TrainPlan, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., dict[str, Any]]


def model(folder: Path, *channels: str, select: str = "") -> Path:
    """A model of random weights on coarse voxels."""
    plan = Plan(
        channels=channels,
        labels=LabelSet.from_names({1: "lesion"}),
        preprocess=PreprocessPlan(spacing_mm=(5.0, 8.0, 8.0), normalisation=(Rescale(),) * len(channels)),
        network=UNetSpec(
            dimensions=3, features=(8, 16), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2, convs_per_stage=1
        ),
        train=TrainPlan(patch_size=(8, 32, 32), batch_size=1),
        infer=InferPlan(select=select),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        members = {0: build(plan.network, len(channels), 2).state_dict()}
    card = Card(name="m", created="2026-01-01T00:00:00Z", medseg="0", data=DataNote(name="d"), modalities=channels)
    return save_model(folder, plan=plan, members=members, card=card).folder


@pytest.fixture
def run(tmp_path: Path, test_data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Segment a folder of the real data, check what holds for any, and return the manifest and the exit code."""

    def segment(place: str, *words: str, channels: tuple[str, ...] = ("MR",), select: str = "") -> dict[str, Any]:
        folder, out = test_data / place, tmp_path / "out"
        made = tmp_path / f"model{select}"
        if not made.exists():
            model(made, *channels, select=select)
        code = main(["segment", str(made), str(folder), "-o", str(out), "--overwrite", "--json", *words])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        assert sorted(path for case in document["cases"] for path in case["inputs"]) == files
        said = json.dumps([case | {"inputs": []} for case in document["cases"]])
        for item in inspect_folder(folder).items:
            for text in (item.traits.description, item.traits.protocol):
                assert len(text) < 4 or text in " ".join(words) or text not in said
        if code != 1:
            assert json.loads((out / "manifest.json").read_text()) == document
        return document | {"exit": code, "ended": {case["id"]: case["status"] for case in document["cases"]}}

    return segment


def only(document: dict[str, Any], prefix: str) -> dict[str, Any]:
    (case,) = [case for case in document["cases"] if case["id"].startswith(prefix)]
    return dict(case)


def codes(case: dict[str, Any]) -> set[str]:
    return {fact["code"] for fact in case["findings"]}


def test_a_missing_slice_is_refused_until_interpolation_is_allowed(run: Run, tmp_path: Path) -> None:
    refused = run("dicom_edge/missing_slice", channels=("CT",))
    assert refused["exit"] == 2
    assert "--on-irregular resample" in only(refused, "ct-")["reason"]
    words = ("--on-irregular", "resample", "--format", "nifti,dicom-seg")
    done = run("dicom_edge/missing_slice", *words, channels=("CT",))
    assert done["exit"] == 0
    assert done["options"]["repairs"]["on_irregular"] == "resample"
    case = only(done, "ct-")
    (told,) = [fact for fact in case["findings"] if fact["code"] == "missing-slice"]
    assert "interpolated" in told["message"]
    grid = read_geometry(tmp_path / "out" / case["outputs"]["nifti"])
    assert grid.shape[0] == 5
    np.testing.assert_allclose(grid.spacing_mm[0], 5.0, atol=1e-3)


def test_one_volume_of_a_diffusion_series_is_segmented(run: Run, tmp_path: Path) -> None:
    refused = run("dicom_edge/dwi_4d")
    assert refused["exit"] == 2
    assert set(refused["ended"].values()) == {"refused"}
    assert all("--volume N" in case["reason"] for case in refused["cases"])
    done = run("dicom_edge/dwi_4d", "--volume", "1", "--format", "nifti,dicom-seg")
    assert done["exit"] == 0
    assert set(done["ended"].values()) == {"done"}
    case = only(done, "mr-")
    assert "volume 1 was taken" in " ".join(fact["message"] for fact in case["findings"])
    assert read_geometry(tmp_path / "out" / case["outputs"]["nifti"]).shape[0] == 4
    beyond = run("dicom_edge/dwi_4d", "--volume", "2")
    assert all("0 to 1" in case["reason"] for case in beyond["cases"])


def test_a_tilted_gantry_is_segmented_on_its_own_slices(run: Run, tmp_path: Path) -> None:
    done = run("dicom_edge/gantry_tilt", "--format", "nifti,dicom-seg", channels=("CT",))
    assert done["exit"] == 0
    case = only(done, "ct-")
    (told,) = [fact for fact in case["findings"] if fact["code"] == "gantry-tilt"]
    assert told["severity"] == "warning"
    grid = read_geometry(tmp_path / "out" / case["outputs"]["nifti"])
    assert grid.is_sheared
    assert (grid.shape[0], read_seg(tmp_path / "out" / case["outputs"]["dicom-seg"]).geometry.is_sheared) == (4, True)


def test_a_mosaic_is_refused_until_it_may_be_taken_apart(run: Run) -> None:
    refused = run("dicom_edge/mosaic")
    assert refused["exit"] == 2
    assert all("--mosaic split" in case["reason"] for case in refused["cases"])
    done = run("dicom_edge/mosaic", "--mosaic", "split", "--volume", "0", "--format", "nifti,dicom-seg")
    assert done["exit"] == 0
    for case in done["cases"]:
        assert "taken apart" in " ".join(fact["message"] for fact in case["findings"])


def test_a_rule_takes_series_of_a_mixed_folder(run: Run) -> None:
    done = run("dicom_edge/mixed_folder", "--select", "modality=MR slices=4 plane=sagittal")
    assert done["exit"] == 0
    assert {status: n for status, n in done["counts"].items() if n} == {"done": 2, "ignored": 6}
    left = [case for case in done["cases"] if "not-selected" in codes(case)]
    assert {case["reason"].split(".")[0] for case in left} == {
        "It does not meet plane=sagittal", "It does not meet modality=MR",
    }  # fmt: skip


def test_the_crop_of_a_study_is_chosen_by_its_description(run: Run) -> None:
    done = run("dicom/mr_brain_study1", "--select", "description~HippoCrop")
    assert done["exit"] == 0
    assert sorted(done["ended"].values()) == ["done", "ignored"]
    (left,) = [case for case in done["cases"] if case["status"] == "ignored"]
    assert left["reason"].startswith("It does not meet description~HippoCrop.")
    assert len(left["inputs"]) == 22
    by_model = run("dicom/mr_brain_study1", select="slices>30")
    assert sorted(by_model["ended"].values()) == ["done", "ignored"]
    nothing = run("dicom/mr_brain_study1", "--select", "modality=CT")
    assert (nothing["exit"], set(nothing["ended"].values())) == (1, {"ignored"})


def test_ct_and_pet_of_a_study_are_the_channels_of_one_case(run: Run, tmp_path: Path) -> None:
    words = ("--channel", "CT=modality=CT", "--channel", "PT=modality=PT", "--format", "nifti,dicom-seg")
    done = run("dicom/sarcoma/STS_002", *words, channels=("CT", "PT"))
    cases = [case for case in done["cases"] if case["status"] == "done"]
    assert [case["id"].split("-")[0] for case in cases] == ["ct"]
    assert len(cases[0]["inputs"]) == 96
    assert read_geometry(tmp_path / "out" / cases[0]["outputs"]["nifti"]).shape == (48, 143, 161)
    assert "not-selected" in codes(only(done, "mr-"))


def test_another_modality_is_refused(run: Run) -> None:
    refused = run("dicom_edge/two_slices", channels=("PT",))
    assert refused["exit"] == 2
    assert "--any-modality" in refused["cases"][0]["reason"]
    assert run("dicom_edge/two_slices", "--any-modality", channels=("PT",))["exit"] == 0
