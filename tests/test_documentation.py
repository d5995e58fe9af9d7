"""What README and docs tell people to type is there, and what they tell Python runs."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.cli.app import main
from medseg.geometry import Geometry
from medseg.io import read_segmentation, write_volume
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.plan import Plan, PreprocessPlan, TrainPlan, UNetSpec, ZScore
from medseg.volume import Volume

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "medseg"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_options_are_there(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([words[0], "--help"]) == 0
    text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("-")):
        assert option in text


@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")], ids=lambda p: p.name
)
def test_examples_give_what_they_show(page: Path) -> None:
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried
    assert not failed


def test_the_readme_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(
        channels=("CT",),
        labels=LabelSet.from_names({1: "liver"}),
        preprocess=PreprocessPlan(spacing_mm=(2.0, 1.0, 1.0), normalisation=(ZScore(),)),
        network=UNetSpec(dimensions=3, features=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2),
        train=TrainPlan(patch_size=(8, 8, 8), batch_size=1),
    )
    card = Card(name="m", created="2026-01-01T00:00:00Z", medseg="0", data=DataNote(name="d"), modalities=("CT",))
    monkeypatch.chdir(tmp_path)
    save_model(Path("run/model"), plan=plan, members={0: build(plan.network, 1, 2).state_dict()}, card=card)
    voxels = torch.arange(8 * 9 * 10).reshape(1, 8, 9, 10).numpy().astype(np.int16)
    write_volume(Volume(voxels, Geometry((8, 9, 10), np.eye(4))), Path("scan.nii.gz"))
    (program,) = blocks(ROOT / "README.md", "python")
    exec(compile(program, "README.md", "exec"), {})  # noqa: S102 - our own page
    assert read_segmentation(Path("mask.nii.gz")).array.shape == (8, 9, 10)
