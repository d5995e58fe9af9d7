"""What `torch.compile` gains: windows of nnU-Net's default network, as they are and compiled, on any device.

Usage: python benchmarks/compile.py [--device auto] [--precision auto] [--size full|quick|tiny] [--repeats 5]

Prints seconds of a window either way (the best of a few, in turns), what compiling costs before the first window, how
far scores differ, and after how many scans of that size (docs/benchmarks.md) compiling would have paid for itself.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import torch
from side_by_side import cases
from side_by_side.measured import now
from side_by_side.reference import windows_of

from medseg.inference import resolve_device, resolve_precision
from medseg.networks import build, memory_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = "| device | precision | as it is, s | compiled, s | gain, % | compiling, s | scores differ | pays after |"
CLASSES = 4


def measured(size: cases.Size, device: str, precision: str, *, repeats: int, backend: str) -> Iterator[str]:
    """Yield the table's head, and its row or why there is none."""
    network, window = prepared(size, device, torch.bfloat16 if precision == "bf16" else torch.float32)
    compiled = torch.compile(network, backend=backend)
    best = {network: float("inf"), compiled: float("inf")}
    with torch.inference_mode():
        plain = network(window).float()
        began = now(device)
        try:
            scores = compiled(window).float()
        except Exception as error:  # noqa: BLE001 - whatever a compiler does not like
            yield f"The network cannot be compiled here: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            return
        cost = now(device) - began
        for _ in range(repeats):
            for run, least in best.items():
                best[run] = min(least, seconds(run, window, device))
    as_it_is, faster = best.values()
    saved = (as_it_is - faster) * len(windows_of(size.working, size.patch))
    pays = f"{cost / saved:.1f} scans" if saved > 0 else "never"
    off = float((scores - plain).abs().max() / plain.abs().max())
    yield HEAD
    yield "|---" * HEAD.count(" | ") + "|---|"
    gain = 100 * (as_it_is / faster - 1)
    cells = (device, precision, f"{as_it_is:.3g}", f"{faster:.3g}", f"{gain:.1f}", f"{cost:.1f}", f"{off:.1e}", pays)
    yield f"| {' | '.join(cells)} |"


def prepared(size: cases.Size, device: str, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a network with random weights and a window, as they are in inference."""
    plan = cases.make_plan(size, CLASSES)
    torch.manual_seed(0)
    layout = memory_format(plan.network.dimensions)
    network = build(plan.network, 1, CLASSES).eval().to(device, dtype).to(memory_format=layout)
    return network, torch.randn(1, 1, *(size.patch,) * 3).to(device, dtype).contiguous(memory_format=layout)


def seconds(run: Callable[[torch.Tensor], torch.Tensor], window: torch.Tensor, device: str) -> float:
    """Return what one window takes."""
    began = now(device)
    run(window)
    return now(device) - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--size", choices=cases.SIZES, default="full")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    said = parser.parse_args()
    device = resolve_device(said.device)
    precision = resolve_precision(said.precision, device)
    print(f"PyTorch {torch.__version__}, {time.strftime('%Y-%m-%d')}, {torch.get_num_threads()} threads\n")
    for line in measured(cases.SIZES[said.size], device, precision, repeats=said.repeats, backend=said.backend):
        print(line, flush=True)


if __name__ == "__main__":
    main()
