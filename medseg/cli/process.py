"""How the process of a command behaves: how its threads wait for each other, and which memory it keeps."""

from __future__ import annotations

import ctypes
import os
import sys
import time

import psutil

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc
_NEVER = 2**31 - 1


def wait_without_spinning() -> None:
    """Let threads that wait for others sleep, unless the environment says otherwise; before torch is loaded.

    Threads that spin finish sooner on an idle machine. On one that is shared, where a core is taken away for a moment,
    all others spin until it comes back: a training step then took eight times as long, and five times the CPU.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def started() -> float:
    """Return when this process was started, on `time.monotonic`: a budget also pays for loading the program."""
    return time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())


def keep_memory() -> None:
    """Keep memory that was freed, rather than give it back to the system and fetch it anew at every step or window.

    Spares a CPU the page faults: a tenth of a training step, and more where windows have many classes
    (docs/benchmarks.md); it costs memory. Only where the C library is glibc; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def settle_training(*, deterministic: bool) -> None:
    """Say what libraries read from the environment, unless it says otherwise; before they are loaded.

    MLflow keeps its runs in files, which newer versions refuse otherwise, in favour of a database. cuBLAS sums in
    one order where that is wanted (PyTorch's notes on reproducibility).
    """
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
