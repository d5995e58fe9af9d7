"""What a person asks of a batch: refused where it makes no sense, and kept to by those who go on with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from medseg.batch import BatchOptions, run_batch
from medseg.cli.app import main
from medseg.errors import OutputError, PlanError
from medseg.geometry import Geometry
from medseg.inference import NumericPath, Segmenter
from medseg.io import write_volume
from medseg.model import load_model
from medseg.plan import CrfPlan
from medseg.volume import Volume
from medseg.workflows.segment import SegmentRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_options_are_checked() -> None:
    with pytest.raises(OutputError, match="'obj' is not known; expected some of nifti"):
        BatchOptions(formats=("nifti", "obj"))
    with pytest.raises(OutputError, match="no format"):
        BatchOptions(formats=())
    with pytest.raises(OutputError, match="one of them"):
        BatchOptions(resume=True, overwrite=True)


def test_resume_redoes_what_was_mirrored_otherwise(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], bright: type[nn.Module]
) -> None:
    model = load_model(make_model())
    plan = model.plan.with_settings(("infer.mirror_axes=[Z,Y]",))

    def run(*, mirrored: bool, resume: bool = True) -> dict[str, int]:
        def load(path: NumericPath | None) -> Segmenter:
            return Segmenter(plan, (bright(),), path=path or NumericPath(), model=model, mirrored=mirrored)

        options = BatchOptions(resume=resume)
        counts = run_batch(load, [three_scans], out=tmp_path / "out", options=options).counts
        return {status: count for status, count in counts.items() if count}

    assert run(mirrored=False, resume=False) == {"done": 3}
    assert run(mirrored=True) == {"done": 3}
    assert run(mirrored=True) == {"skipped": 3}


def test_resume_redoes_what_was_refined_otherwise(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], bright: type[nn.Module]
) -> None:
    model = load_model(make_model())

    def run(*settings: str, on: bool | None = None, resume: bool = True) -> tuple[dict[str, int], Any]:
        def load(path: NumericPath | None) -> Segmenter:
            plan = model.plan.with_settings(settings)
            segmenter = Segmenter(plan, (bright(),), path=path or NumericPath(), model=model)
            return segmenter if on is None else segmenter.with_crf(on=on)

        manifest = run_batch(load, [three_scans], out=tmp_path / "out", options=BatchOptions(resume=resume))
        return {status: n for status, n in manifest.counts.items() if n}, manifest.to_json()["options"]["crf"]

    values = CrfPlan(appearance_sigma_intensity=0.04).model_dump(mode="json")  # the model is one of pictures
    assert run(resume=False) == ({"done": 3}, None)
    assert run(on=True) == ({"done": 3}, values)
    assert run("infer.crf={appearance_sigma_intensity: 0.04}") == ({"skipped": 3}, values)
    assert run("infer.crf={iterations: 2, appearance_sigma_intensity: 0.04}") == (
        {"done": 3},
        values | {"iterations": 2},
    )
    assert run("infer.crf={iterations: 2, appearance_sigma_intensity: 0.04}", on=True) == (
        {"skipped": 3},
        values | {"iterations": 2},
    )
    assert run("infer.crf.iterations=2", on=False) == ({"done": 3}, None)


def test_the_command_switches_the_crf(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(make_model()), str(three_scans), "-o", str(tmp_path / "out"), "--json", "--resume"]

    def run(*words: str) -> tuple[dict[str, int], Any]:
        assert main([*command, *words]) == 0
        document = json.loads(capsys.readouterr().out)
        return {status: n for status, n in document["counts"].items() if n}, document["options"]["crf"]

    values = CrfPlan(appearance_sigma_intensity=0.04).model_dump(mode="json")  # the model is one of pictures
    assert run("--crf") == ({"done": 3}, values)
    assert run("--crf") == ({"skipped": 3}, values)
    assert run("--no-crf") == ({"done": 3}, None)
    assert run() == ({"skipped": 3}, None)


def wide(tmp_path: Path) -> Path:
    """A scan much wider than a window, with a body in one corner of it, bright in a part."""
    array = np.zeros((1, 16, 40, 40), np.int16)
    array[0, 2:14, 3:17, 3:17] = 300
    array[0, 3:7, 4:9, 4:10] = 1000
    affine = np.array([[0, 0, 1.5, -20], [0, 1.5, 0, 30], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])
    (tmp_path / "wide").mkdir()
    write_volume(Volume(array, Geometry((16, 40, 40), affine), ("image",)), tmp_path / "wide" / "a.nii.gz")
    return tmp_path / "wide"


def test_resume_redoes_what_was_looked_at_otherwise(
    tmp_path: Path, make_model: Callable[..., Path], bright: type[nn.Module]
) -> None:
    model, organs = load_model(make_model()), load_model(make_model(name="organs", seed=3))
    scans = wide(tmp_path)

    def run(*, within: bool = False, look: Any = "whole", resume: bool = True) -> tuple[dict[str, int], dict[str, Any]]:
        def load(path: NumericPath | None) -> Segmenter:
            segmenter = Segmenter(model.plan, (bright(),), path=path or NumericPath(), model=model)
            if not within:
                return segmenter.looking_at(look)
            other = Segmenter(organs.plan, (bright(),), path=NumericPath(), model=organs).looking_at(look)
            return segmenter.looking_within(other, ["lesion"])

        manifest = run_batch(load, [scans], out=tmp_path / "out", options=BatchOptions(resume=resume))
        document = manifest.to_json()
        (case,) = document["cases"]
        assert case["labels"][0]["voxels"] == 120
        options = {name: document["options"].get(name) for name in ("look", "within")}
        return {status: n for status, n in manifest.counts.items() if n}, options | {"region": case.get("region")}

    everywhere = {"look": None, "within": None, "region": None}
    body = {"look": "body", "within": None, "region": [[0, 0, 0], [16, 25, 25]]}
    named = {
        "name": "organs",
        "sha256": organs.sha256,
        "labels": ["lesion"],
        "numeric_path": NumericPath().to_json(),
    }
    assert run(resume=False) == ({"done": 1}, everywhere)
    assert run() == ({"skipped": 1}, everywhere)
    assert run(look="body") == ({"done": 1}, body)
    assert run(look="body") == ({"skipped": 1}, body)
    assert run(look="coarse")[0] == {"done": 1}
    counts, told = run(within=True)
    assert (counts, told["look"], told["within"]) == ({"done": 1}, None, named)
    assert run(within=True)[0] == {"skipped": 1}
    counts, told = run(within=True, look="body")
    assert (counts, told["look"], told["within"]) == ({"done": 1}, "body", named)
    assert run() == ({"done": 1}, everywhere)


def test_a_case_in_which_the_other_model_finds_nothing_is_done_and_flagged(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], bright: type[nn.Module]
) -> None:
    model = load_model(make_model())

    class Nothing(nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.ones_like(windows[:, 0]), torch.zeros_like(windows[:, 0])], dim=1)

    def load(path: NumericPath | None) -> Segmenter:
        one = Segmenter(model.plan, (bright(),), path=path or NumericPath(), model=model)
        return one.looking_within(Segmenter(model.plan, (Nothing(),), path=NumericPath(), model=model))

    manifest = run_batch(load, [three_scans], out=tmp_path / "out", options=BatchOptions(("nifti", "measurements")))
    for case in manifest.to_json()["cases"]:
        assert (case["status"], case["flags"]) == ("done", ["empty", "nothing-within"]), case["reason"]
        assert case["labels"][0]["voxels"] == 0
        assert set(case["outputs"]) == {"nifti", "measurements"}
        assert "network" not in case["seconds"]


def test_the_command_says_where_to_look(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    organs = make_model(name="organs", seed=3)
    command = ["segment", str(make_model()), str(three_scans), "-o", str(tmp_path / "out"), "--json", "--resume"]

    def run(*words: str) -> tuple[dict[str, int], dict[str, Any]]:
        assert main([*command, *words]) == 0
        document = json.loads(capsys.readouterr().out)
        return {status: n for status, n in document["counts"].items() if n}, document["options"]

    counts, options = run("--look", "coarse")
    assert (counts, options["look"]) == ({"done": 3}, "coarse")
    counts, options = run("--within", f"{organs}:lesion", "--look", "body")
    assert (counts, options["look"], options["within"]["name"]) == ({"done": 3}, "body", "organs")
    assert run("--within", str(organs), "--look", "body")[0] == {"skipped": 3}  # all labels are that one
    for words, said in (
        (("--within", f"{organs}:liver"), "no label 'liver'; expected some of lesion"),
        (("--within", str(tmp_path / "none")), "there is no such folder"),
        (("--look", "everywhere"), "'whole', 'body', 'coarse'"),
    ):
        assert main([*command, *words]) == 1
        assert said in capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(PlanError, match="--look was given 'far'"):
        SegmentRequest(look="far")  # type: ignore[arg-type]
