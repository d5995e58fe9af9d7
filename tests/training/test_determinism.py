"""The same bits every time; stopped anywhere and resumed, the same bits as never stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.errors import PlanError
from medseg.plan import AugmentPlan
from medseg.progress import Cancelled
from medseg.training.determinism import deterministic, same_threads
from tests.training.stand_ins import small_plan
from tests.training.test_loop import StopAt, _train

WEIGHTS = ("weights.safetensors", "average.safetensors")

CHILD = """
import sys
from pathlib import Path
from medseg.plan import AugmentPlan
from tests.training.stand_ins import small_plan
from tests.training.test_loop import _train
_train(small_plan(epochs=60, augment=AugmentPlan()), Path(sys.argv[1]), deterministic=True)
"""


def held(folder: Path) -> list[bytes]:
    return [(folder / "last" / name).read_bytes() for name in WEIGHTS]


def test_two_runs_leave_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _train(small_plan(augment=AugmentPlan()), tmp_path / name, deterministic=True)
    assert held(tmp_path / "a") == held(tmp_path / "b")


@pytest.mark.parametrize("seed", range(3))
def test_stopped_anywhere_any_number_of_times_a_run_ends_the_same(tmp_path: Path, seed: int) -> None:
    plan = small_plan(epochs=4, augment=AugmentPlan(), seed=seed)
    _train(plan, tmp_path / "whole", deterministic=True)
    draw, resume, tries = np.random.default_rng(seed), False, 0
    while True:
        tries += 1
        try:
            stop = StopAt(int(draw.integers(1, 13)))
            _train(plan, tmp_path / "parts", progress=stop, deterministic=True, resume=resume)
            break
        except Cancelled:
            resume = True
    assert tries > 1
    assert held(tmp_path / "whole") == held(tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_at_a_random_moment_and_resumed_a_run_ends_the_same(tmp_path: Path) -> None:
    plan = small_plan(epochs=60, augment=AugmentPlan())
    _train(plan, tmp_path / "whole", deterministic=True)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "parts")], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 300.0  # of a machine that is busy
    while not (tmp_path / "parts" / "log.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0.0, 0.5))  # a moment of its own each time this is run
    child.kill()
    child.wait()
    _train(plan, tmp_path / "parts", deterministic=True, resume=True)
    assert held(tmp_path / "whole") == held(tmp_path / "parts")


def test_settings_of_torch_are_put_back_whatever_happens() -> None:
    before = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic, torch.get_num_threads())
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        same_threads({"threads": before[2] + 1})
        assert torch.get_num_threads() == before[2] + 1
    with pytest.raises(ValueError, match="other"), deterministic():
        raise ValueError("other")
    after = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic, torch.get_num_threads())
    assert after == before
    with deterministic(wanted=False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_cannot_be_deterministic_is_refused_in_words() -> None:
    with pytest.raises(PlanError, match=r"cannot be trained deterministically.*--deterministic"), deterministic():
        raise RuntimeError("median CUDA does not have a deterministic implementation")
    with pytest.raises(RuntimeError, match="else"), deterministic():
        raise RuntimeError("something else")
