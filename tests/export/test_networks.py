"""Every network in every format gives PyTorch's logits, for any number of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from medseg.export.onnx import write_onnx
from medseg.export.torchscript import write_torchscript
from medseg.inference import NumericPath
from medseg.inference.backends import OnnxBackend, OpenVinoBackend, TorchScriptBackend
from medseg.networks import build
from tests.networks.specs import tiny

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from medseg.inference.backends import Backend
    from medseg.plan import NetworkSpec

PATCH = {2: (64, 64), 3: (32, 32, 32)}
WIDE = {2: (64, 64), 3: (32, 32, 64)}  # Swin UNETR's deepest map must have more than one voxel
QUICK = {(2, "unet"), (3, "unet")}  # by the exporter of ONNX, which thinks for seconds about each network
CASES = [(dimensions, name) for dimensions in (2, 3) for name in tiny(dimensions)]  # type: ignore[arg-type]


def cases(*, quick: set[tuple[int, str]]) -> list[object]:
    return [
        pytest.param(*case, id=f"{case[0]}-D {case[1]}", marks=() if case in quick else pytest.mark.slow)
        for case in CASES
    ]


def network(spec: NetworkSpec) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(spec, 2, 3)
        sides = (WIDE if spec.kind == "swin_unetr" else PATCH)[spec.dimensions]
        with torch.no_grad():
            module.train()(torch.randn(2, 2, *sides))  # batch norms count
    return module.eval().requires_grad_(requires_grad=False)


def windows(spec: NetworkSpec, count: int) -> torch.Tensor:
    sides = (WIDE if spec.kind == "swin_unetr" else PATCH)[spec.dimensions]
    return torch.randn(count, 2, *sides, generator=torch.Generator().manual_seed(1))


def check(backend: Backend, module: nn.Module, spec: NetworkSpec) -> None:
    """Compare one window and several, to what float32 is good for; another window's answer must not pass."""
    for count in (1, 3):
        seen = windows(spec, count)
        with torch.inference_mode():
            found, expected = backend(seen), module(seen)
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))
    with torch.inference_mode():
        other = float((backend(seen) - backend(seen.flip(-1))).abs().max())
    assert other > 1e-3 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("dimensions", "name"), cases(quick=set(CASES) - {(3, "swin_unetr")}))
def test_torchscript_gives_equal_logits(dimensions: int, name: str, tmp_path: Path) -> None:
    spec = tiny(dimensions)[name]  # type: ignore[arg-type]
    module = network(spec)
    write_torchscript(module, windows(spec, 1), tmp_path / "fold_0.pt")
    check(TorchScriptBackend(tmp_path / "fold_0.pt", NumericPath(backend="torchscript")), module, spec)


@pytest.mark.parametrize(("dimensions", "name"), cases(quick=QUICK))
def test_onnx_and_what_openvino_reads_of_it_give_equal_logits(dimensions: int, name: str, tmp_path: Path) -> None:
    spec = tiny(dimensions)[name]  # type: ignore[arg-type]
    module = network(spec)
    write_onnx(module, windows(spec, 1), tmp_path / "fold_0.onnx")
    check(OnnxBackend(tmp_path / "fold_0.onnx", NumericPath(backend="onnx")), module, spec)
    check(OpenVinoBackend(tmp_path / "fold_0.onnx", NumericPath(backend="openvino")), module, spec)
