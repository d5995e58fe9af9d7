"""Child processes: what they answer, how long they took, and the most memory they and theirs held."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARKS = Path(__file__).resolve().parents[1]
SAMPLE_S = 0.02
WORDS = 20_000  # of what is written, from its end


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes
    ----------
    code : int
    seconds : float
    peak_mb : float
        The most that it and its children held resident together, sampled; shared pages count for each.
    words : str
        The end of what it wrote.
    """

    code: int
    seconds: float
    peak_mb: float
    words: str


def run(command: Sequence[str], *, limit_bytes: int | None = None) -> Ended:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    limit_bytes : int or None
        The most address space a process may have.
    """
    places = [str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as heard:
        child = subprocess.Popen(
            list(command),
            stdout=heard,
            stderr=heard,
            env=environment,
        )
        if limit_bytes is not None:  # before it has got anywhere
            psutil.Process(child.pid).rlimit(psutil.RLIMIT_AS, (limit_bytes, limit_bytes))
        sampler = _Sampler(child.pid)
        code = child.wait()
        seconds = time.perf_counter() - began
        peak = sampler.ended()
        heard.seek(0)
        words = heard.read().decode(errors="replace").strip()
    return Ended(code, seconds, peak, words[-WORDS:])


def ask(module: str, job: dict[str, Any], *, python: str, limit_bytes: int | None = None) -> dict[str, Any]:
    """Return what a program of this folder answers to a job, or ``failed``: the last line it wrote."""
    with tempfile.TemporaryDirectory() as scratch:
        question, answer = Path(scratch) / "job.json", Path(scratch) / "answer.json"
        question.write_text(json.dumps(job), encoding="utf-8")
        command = [python, "-m", f"side_by_side.{module}", str(question), str(answer)]
        ended = run(command, limit_bytes=limit_bytes)
        if not answer.exists():
            return {"failed": ended.words.splitlines()[-1] if ended.words else f"exit code {ended.code}"}
        document: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return document | {"tree_mb": ended.peak_mb}


class _Sampler:
    """Watches the memory of a process and its children from a thread."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._over = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def ended(self) -> float:
        """Stop, and return the most that was held, in 10^6 bytes."""
        self._over.set()
        self._thread.join()
        return self._peak / 1e6

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            try:
                whole = psutil.Process(self._pid)
                held = sum(_resident(one) for one in (whole, *whole.children(recursive=True)))
            except psutil.Error:
                return
            self._peak = max(self._peak, held)


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except psutil.Error:
        return 0.0
