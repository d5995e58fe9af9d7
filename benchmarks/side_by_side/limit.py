"""How fast this machine could be at best: operations of all windows over the rate of its matrix product."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from medseg.networks import blueprint
from side_by_side.reference import windows_of

if TYPE_CHECKING:
    from medseg.plan import Plan
    from side_by_side.cases import Size

REPEATS = 5


def operations(plan: Plan, size: Size) -> tuple[int, int]:
    """Return the operations of one window, and the number of windows."""
    network = blueprint(plan.network, 1, len(plan.labels) + 1).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.empty(1, 1, *(size.patch,) * 3, device="meta"))
    return int(counter.get_total_flops()), len(windows_of(size.working, size.patch))


def matmul_rate(precision: str, *, side: int, device: str = "cpu") -> float:
    """Return the operations per second of a square matrix product, the best of a few."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device).to(kind)
    best = float("inf")
    for _ in range(REPEATS):
        _wait(device)
        began = time.perf_counter()
        matrix @ matrix
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
