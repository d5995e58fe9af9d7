from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from medseg.progress import ignore
from medseg.training.engine import make_engine
from medseg.training.loop import Samplers, TrainSettings, run_training
from tests.training.stand_ins import Balls, small_plan

folder = Path(sys.argv[1])
engine = make_engine("cpu", devices=2, precision="fp32")
engine.launch()
for epochs in (1, 2):
    plan = small_plan(epochs=epochs)
    samplers = Samplers(Balls((8, 8, 8), seed=engine.global_rank), Balls((8, 8, 8), seed=9))
    settings = TrainSettings(resume=epochs == 2)
    result = run_training(plan, samplers, engine=engine, folder=folder, settings=settings, progress=ignore)
total = sum(float(tensor.double().sum()) for tensor in result.weights.values())
(folder / f"rank_{engine.global_rank}.txt").write_text(f"{result.steps} {total!r} {result.history[-1].loss!r}")
"""


@pytest.mark.slow
def test_two_processes_learn_one_network_from_their_own_patches_and_resume(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(PROGRAM)
    repository = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run")],
        check=True,
        capture_output=True,
        timeout=300,
        cwd=repository,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
    )
    (steps, weights, loss), (steps_1, weights_1, loss_1) = (
        (tmp_path / "run" / f"rank_{rank}.txt").read_text().split() for rank in (0, 1)
    )
    assert steps == steps_1 == "6"
    assert weights == weights_1
    assert loss != loss_1
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 3
