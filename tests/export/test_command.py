"""`medseg export` and `--backend` from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from medseg.cli.app import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from medseg.model import Model


def test_the_command_tells_what_it_measured(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(model.folder), "-o", str(tmp_path / "out"), "--format", "torchscript", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["label_equal"] is True
    assert document["parity"] == json.loads((tmp_path / "out" / "parity.json").read_text())
    assert document["model_sha256"] == model.sha256
    assert main(words) == 1
    assert "the folder for the export holds something" in capsys.readouterr().err


def test_wrong_words_end_in_a_sentence(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(model.folder), "-o", str(tmp_path / "out"), "--format", "tflite"]) == 1
    assert "'tflite' is not known; expected one of onnx, openvino, torchscript, monai-bundle" in capsys.readouterr().err
    (tmp_path / "scans").mkdir()
    assert main(["segment", str(model.folder), str(tmp_path), "-o", str(tmp_path / "o"), "--backend", "onnx"]) == 1
    assert "no export to run by onnx" in capsys.readouterr().err
