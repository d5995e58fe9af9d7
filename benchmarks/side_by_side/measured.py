"""Time and memory of this process, in the words every child answers with; needs PyTorch and nothing of ours."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def memory_mb(key: str) -> float:
    """Return ``VmHWM``, the most memory held resident so far, or ``VmRSS``, what is held now, in 10^6 bytes."""
    after = STATUS.read_text(encoding="ascii").partition(f"{key}:")[2].split()
    return int(after[0]) * 1024 / 1e6 if after else float("nan")


def forget_peak() -> None:
    """Let the peak begin again at what is held now, where the system allows it."""
    try:
        RESET.write_text("5", encoding="ascii")
    except OSError:
        return


def now(device: str) -> float:
    """Return the clock, after all work on a GPU is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


class Clocked(nn.Module):
    """A network that adds up the seconds it takes."""

    def __init__(self, inner: nn.Module, device: str) -> None:
        super().__init__()
        self.inner, self.device, self.seconds = inner, device, 0.0

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return what the network inside returns."""
        began = now(self.device)
        logits = self.inner(windows)
        self.seconds += now(self.device) - began
        return logits


class StandIn(nn.Module):
    """A cheap network that still sees its surroundings: classes by the mean of 27 voxels, zeros beyond the window.

    Class k wins where the mean is nearest to its own value; the sum at a window's border differs from the sum inside,
    so that windows disagree where they overlap, as those of real networks do.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, classes, 3, padding=1)
        centres = torch.linspace(-1.5, 1.5, classes)
        with torch.no_grad():
            self.conv.weight.copy_((centres / 27).reshape(-1, 1, 1, 1, 1).expand_as(self.conv.weight))
            self.conv.bias.copy_(-(centres**2) / 2)
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return logits of windows (N, 1, z, y, x)."""
        return self.conv(windows)


def answered(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Do a child's work: read the job named on the command line, and write the answer beside."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(json.dumps(work(job)), encoding="utf-8")


def spent(work: Callable[[], Any], clocked: Clocked, device: str) -> tuple[Any, dict[str, float]]:
    """Return what some work returns, and seconds and memory it took: beyond what was held before, and in all."""
    forget_peak()
    before, clocked.seconds = memory_mb("VmRSS"), 0.0
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    began = now(device)
    result = work()
    told = {"seconds": now(device) - began, "network": clocked.seconds}
    told |= {"growth_mb": memory_mb("VmHWM") - before, "peak_mb": memory_mb("VmHWM")}
    if device != "cpu":
        told["vram_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return result, told
