"""The command line's promises: exit codes, sentences instead of tracebacks, one JSON document, a quick start."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg import __version__
from medseg.cli.app import main
from medseg.cli.lines import _printable, nothing_found
from medseg.cli.options import seconds_from
from medseg.errors import PlanError
from medseg.geometry import Geometry
from medseg.io.dicom import write_series
from medseg.progress import Cancelled
from medseg.volume import Volume
from medseg.workflows import data

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("doctor", "demo", "inspect", "check", "plan", "train", "segment", "evaluate", "import")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["bogus"],
        ["train"],
        ["inspect", "nowhere"],
        ["check", "nowhere"],
        ["plan", "nowhere", "-o", "plan.yaml"],
        ["plan", "nowhere"],
        ["segment", "nowhere", "nothing", "-o", "out"],
        ["evaluate", "nowhere", "nothing", "-o", "out"],
        ["import", "nowhere", "-o", "model"],
        ["import", "nowhere", "-o", "model", "--folds", "x"],
        ["import", "nowhere", "-o", "model", "--checkpoint", "latest"],
        ["train", "nowhere", "-o", "run", "--budget", "soon"],
        ["segment", "nowhere", "nothing", "-o", "out", "--select", "colour=red"],
        ["segment", "nowhere", "nothing", "-o", "out", "--channel", "T1"],
        ["segment", "nowhere", "nothing", "-o", "out", "--on-irregular", "guess"],
        ["segment", "nowhere", "nothing", "-o", "out", "--format", "gif"],
    ],
)
def test_what_cannot_start_exits_with_one_and_a_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert not words or captured.err.startswith("medseg: ")


def test_doctor_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["usable"] is True
    assert {row["what"] for row in document["sections"]["Packages"]} >= {"torch", "highdicom"}


def test_inspect_finds_nothing_to_segment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    assert main(["inspect", str(tmp_path), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [item["status"] for item in document["items"]] == ["ignored"]


def test_what_a_series_is_called_is_printed_on_request_and_never_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = Volume(np.zeros((1, 3, 4, 5), np.int16), Geometry((3, 4, 5), np.eye(4)[:, [2, 1, 0, 3]]))
    write_series(scan, tmp_path, modality="MR", description="Jane's knee")
    assert main(["inspect", str(tmp_path)]) == 0
    assert "Jane" not in "".join(capsys.readouterr())
    assert main(["inspect", str(tmp_path), "--descriptions"]) == 0
    assert "Jane's knee" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path), "--descriptions", "--json"]) == 0
    assert "Jane" not in capsys.readouterr().out


def test_what_a_series_is_called_steers_no_terminal() -> None:
    assert _printable("a\x1b[31mb\n") == "a [31mb "
    assert _printable("") == "–"


def test_segment_says_which_formats_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    from medseg.batch import FORMATS

    assert main(["segment", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(name in said for name in FORMATS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--select", "colour=red"], "there is no field 'colour' to select by; expected one of id, modality"),
        (["--channel", "T1"], "--channel was given 'T1'; expected a name and a rule"),
        (["--channel", "=id~a"], "--channel was given ''"),
        (["--channel", "T1=id~a", "--channel", "T1=id~b"], "the channel 'T1' has several rules"),
        (["--on-irregular", "guess"], "'guess' is not one of 'refuse', 'resample'"),
        (["--seg-type", "fractional"], "'fractional' is not one of 'binary', 'labelmap'"),
    ],
)
def test_a_choice_that_is_not_offered_is_named(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "out"), *words]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_batch_without_a_case_says_why() -> None:
    none = {"code": "not-dicom"}
    left = {"code": "not-selected"}
    options = {"select": "modality=PT", "channels": {}}
    assert "medseg inspect" in nothing_found({"cases": [{"findings": [none]}], "options": options})
    said = nothing_found({"cases": [{"findings": [left]}, {"findings": [none]}], "options": options})
    assert said.endswith("1 left out by the rule 'modality=PT'.")
    said = nothing_found({"cases": [{"findings": [left]}], "options": {"select": ""}})
    assert said.endswith("1 left out by the rules of the channels.")


def test_a_bug_is_admitted_and_traced_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(data, "inspect", broken)
    assert main(["inspect", str(tmp_path)]) == 1
    assert "fault of medseg" in capsys.readouterr().err
    assert main(["--debug", "inspect", str(tmp_path)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_help_that_no_words_bring_is_followed_by_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    captured = capsys.readouterr()
    assert "inspect" in captured.out
    assert captured.err == ""


def test_too_little_memory_is_no_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(data, "inspect", greedy)
    assert main(["inspect", str(tmp_path)]) == 1
    assert "not enough memory" in capsys.readouterr().err


def test_a_file_is_no_place_for_a_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("irreplaceable")
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "medseg: demo: there is a file of this name. Name a folder: medseg demo DIR.\n"
    assert (tmp_path / "demo").read_text() == "irreplaceable"


@pytest.mark.parametrize("stop", [Cancelled("stopped; go on with --resume"), KeyboardInterrupt()])
def test_cancelling_exits_with_130_and_says_so(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(data, "inspect", stopped)
    assert main(["inspect", str(tmp_path)]) == 130
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("8m", 480), ("1h30m", 5400), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_from(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "soon", "-5m", "5d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(PlanError):
        seconds_from(text)


def test_importing_medseg_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, medseg; print(sorted({'torch', 'monai', 'numpy', 'pydantic'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_help_loads_no_torch() -> None:
    code = "import sys; from medseg.cli import main; main(['--help']); sys.stderr.write(str('torch' in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr == "False"


def test_recipes_are_found_by_name_and_all_can_be_read() -> None:
    from medseg.plan import read_recipe, recipe_folder

    names = sorted(path.stem for path in recipe_folder().glob("*.yaml"))
    assert "unet3d" in names
    for name in names:
        assert read_recipe(name).network.dimensions in (2, 3)


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_looking_at_files_loads_no_network_library(command: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to segment")
    program = (
        f"import sys; from medseg.cli.app import main; main([{command!r}, {str(tmp_path)!r}]); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "lightning_fabric"} & set(ran.stdout.split())


def test_a_wrong_choice_names_the_command_to_ask_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "m", "in", "-o", "out", "--seg-type", "rle"]) == 1
    said = capsys.readouterr().err
    assert "'rle' is not one of 'binary', 'labelmap'. Try 'medseg segment --help'." in said
    assert "Value error" not in said
