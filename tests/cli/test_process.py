from __future__ import annotations

import os
import subprocess
import sys

import pytest

from medseg.cli.process import settle_training, wait_without_spinning


def test_threads_sleep_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux")
def test_kept_memory_is_not_fetched_anew() -> None:
    program = """
import resource, sys
from medseg.cli.process import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
def touch():
    block = bytearray(b"x") * 50_000_000
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = [
        int(subprocess.run([sys.executable, "-c", program, word], capture_output=True, check=True, text=True).stdout)
        for word in ("keep", "give")
    ]
    assert faults[0] < faults[1] / 2


@pytest.mark.parametrize("deterministic", [True, False])
def test_libraries_are_told_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    settle_training(deterministic=deterministic)
    assert os.environ["MLFLOW_ALLOW_FILE_STORE"] == "false"
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
