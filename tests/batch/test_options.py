"""What a person asks of a batch: refused where it makes no sense, and kept to by those who go on with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.cli.app import main
from medseg.errors import OutputError
from medseg.inference import NumericPath, Segmenter
from medseg.model import load_model
from medseg.plan import CrfPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn


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
