"""The benchmark against other programs, on a scan of a few thousand voxels, so that it cannot rot."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
IN_PROCESS = ("memory-3", "rest-3", "classes-105", "slices", "limit", "first", "max-ram", "batch")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("inference_benchmark", BENCHMARKS / "inference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def asked(bench: ModuleType, tmp_path: Path) -> Any:
    return bench.Asked(bench.cases.TINY, tmp_path / "tiny", steps=1)


@pytest.fixture
def without_children(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let children answer in this process."""

    def ask(module: str, job: dict[str, Any], **_: object) -> dict[str, Any]:
        worker = importlib.import_module(f"side_by_side.{module}")
        answer: dict[str, Any] = json.loads(json.dumps(worker.work(json.loads(json.dumps(job)))))
        return answer

    monkeypatch.setattr(bench.children, "ask", ask)
    monkeypatch.setattr(bench.children, "run", lambda _: bench.children.Ended(0, 1.0, 1.0, ""))


def rows(lines: list[str]) -> dict[tuple[str, str], list[list[str]]]:
    """Return the table's cells by row and program."""
    found: dict[tuple[str, str], list[list[str]]] = {}
    for line in lines:
        if line.startswith("| ") and not line.startswith("| row"):
            row, program, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault((row, program), []).append(cells)
    return found


@pytest.mark.usefixtures("without_children")
def test_every_row_that_needs_no_command_is_measured(bench: ModuleType, asked: Any) -> None:
    found = rows(list(bench.table(asked, IN_PROCESS)))
    assert {row for row, _ in found} == set(IN_PROCESS)
    assert "fails" not in str(found)
    for row in ("memory-3", "rest-3", "classes-105"):
        assert found[row, "nnU-Net"][0][-1] == "not run"
        for program in ("medseg", "MONAI"):
            assert float(found[row, program][0][0]) > 0
        assert "equal voxels" in found[row, "MONAI"][0][-1]
    assert "not available" in found["max-ram", "medseg"][0][-1]
    assert "% of the limit" in found["limit", "medseg"][0][-1]
    assert len(found["slices", "medseg"]) == len(asked.size.slices)


@pytest.mark.usefixtures("without_children")
def test_our_labels_are_those_of_the_reference_and_flat_weights_are_noticed(bench: ModuleType, asked: Any) -> None:
    list(bench.table(asked, ()))
    cells = [row[-1] for row in rows(list(bench.labels(asked)))["labels", "medseg"]]
    shares = [[float(share) for share in re.findall(r"equal voxels ([\d.]+) %", cell)] for cell in cells]
    assert all(same >= 99.999 for same, _ in shares)
    assert shares[0][1] < 99.99
    assert shares[1][1] < 100


def test_a_whole_command_is_timed_and_its_memory_watched(
    bench: ModuleType, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "PROGRAMS", ("medseg",))
    cells = rows(list(bench.table(asked, ["files-3"])))["files-3", "medseg"][0]
    assert float(cells[0]) > 0.1
    assert float(cells[4]) > 50
    assert (asked.folder / "out-medseg" / "scan" / "segmentation.nii.gz").is_file()


def test_a_child_that_fails_says_why(bench: ModuleType) -> None:
    answer = bench.children.ask("no_such_program", {}, python=sys.executable)
    assert "no_such_program" in answer["failed"]


def test_the_scan_lies_on_the_grids_it_is_meant_to(bench: ModuleType) -> None:
    from medseg.preprocess import working_grid

    for size in (bench.cases.TINY, bench.cases.QUICK):
        scan = bench.cases.make_scan(size)
        assert scan.geometry.shape == size.native
        assert working_grid(scan.geometry, bench.cases.make_plan(size, 3)).shape == size.working


def test_nnunet_has_a_name_for_every_weight(bench: ModuleType) -> None:
    from medseg.networks import blueprint

    words = importlib.import_module("side_by_side.nnunet_words")
    ours = blueprint(bench.cases.make_plan(bench.cases.FULL, 3).network, 1, 3).state_dict()
    names = [words.their_name(name) for name in ours]
    assert len(set(names)) == len(ours)
    assert 30e6 < sum(tensor.numel() for tensor in ours.values()) < 32e6
    with pytest.raises(ValueError, match="nothing like"):
        words.their_name("tail.weight")


def test_monais_network_is_ours(bench: ModuleType, asked: Any) -> None:
    from medseg.networks import build

    peer = importlib.import_module("side_by_side.by_monai")
    network = build(bench.cases.make_plan(asked.size, 3).network, 1, 3).eval()
    window = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        wanted = network(window)
        np.testing.assert_allclose(peer.stock(network)(window), wanted, atol=1e-5)


def test_scores_are_compared_on_a_card_only(bench: ModuleType, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []

    def ask(_: str, job: dict[str, Any], **__: object) -> dict[str, Any]:
        told.append(job)
        np.save(job["mask"], np.ones((2, 2, 2), np.uint8))
        run = {"seconds": 2.0, "network": 1.0, "vram_mb": 3.0, "growth_mb": 4.0, "peak_mb": 5.0}
        return {"runs": [run | {"seconds": 9.0}, run]}

    assert "no card" in rows(list(bench.table(asked, ["scores"])))["scores", "medseg"][0][-1]
    monkeypatch.setattr(bench.children, "ask", ask)
    on_card = replace(asked, device="cuda")
    found = rows(list(bench.scores(on_card)))["scores", "medseg"]
    assert [job["scores_on"] for job in told] == ["cuda", "cpu"]
    assert {job["times"] for job in told} == {2}
    assert [float(cells[0]) for cells in found] == [2.0, 2.0]  # the second time counts
    assert "equal voxels 100" in found[1][-1]


def compile_table(monkeypatch: pytest.MonkeyPatch, compiled: Callable[..., Any]) -> list[str]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("compile_benchmark", BENCHMARKS / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(torch, "compile", compiled)
    return list(module.measured(module.cases.TINY, "cpu", "fp32", repeats=1, backend="inductor"))


def test_what_compiling_gains_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    head, ruler, row = compile_table(monkeypatch, lambda network, backend: torch.nn.Sequential(network))
    cells = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert ruler.count("|") == head.count("|") == row.count("|")
    assert cells["device"] == "cpu"
    assert float(cells["as it is, s"]) > 0
    assert float(cells["scores differ"]) == 0


def test_a_network_that_cannot_be_compiled_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Callable[[torch.Tensor], torch.Tensor]:
        def run(_: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler\nand so on")

        return run

    (words,) = compile_table(monkeypatch, broken)
    assert words == "The network cannot be compiled here: RuntimeError: no C++ compiler"


def answer_of_the_gpu_script(output: Path, **variables: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"} | variables
    command = [BENCHMARKS / "gpu.sh", str(output), "--quick"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_gpu_script_says_in_one_line_what_it_lacks(tmp_path: Path) -> None:
    code, words = answer_of_the_gpu_script(tmp_path / "gpu.md", PYTHON=sys.executable)
    assert code == 1
    assert "sees no CUDA device" in words
    assert words.count("\n") == 1
    assert not (tmp_path / "gpu.md").exists()


@pytest.mark.skipif(any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists(), reason="this machine has a GPU")
def test_without_a_gpu_no_environment_is_made(tmp_path: Path) -> None:
    code, words = answer_of_the_gpu_script(tmp_path / "gpu.md")
    assert code == 1
    assert words.startswith("There is no NVIDIA GPU here")
    assert not (REPOSITORY / ".venv-gpu").exists()


def test_the_gpu_script_goes_through_where_there_is_a_card(tmp_path: Path) -> None:
    """A stand-in for the interpreter, which has a card and is slow at one of the tables."""
    python = tmp_path / "python"
    python.write_text(
        """#!/bin/sh
case "$*" in
*inference.py*) echo "| row | $*"; exec sleep 30;;
*compile.py*) echo "compiled $*"; exit 3;;
*get_device_properties*) echo "Card, 80 GB";;
esac
"""
    )
    python.chmod(0o755)
    code, words = answer_of_the_gpu_script(tmp_path / "gpu.md", PYTHON=str(python), LIMIT_S="1")
    assert code == 0, words
    text = (tmp_path / "gpu.md").read_text()
    assert "Card, 80 GB" in text
    assert "--device cuda --quick" in text
    assert "Cut off after 1 seconds." in text
    assert "compile.py --device cuda" in text
    assert "Ended with exit code 3." in text
