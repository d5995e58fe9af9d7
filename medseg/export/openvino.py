"""OpenVINO's intermediate representation: an ``.xml`` of the graph and a ``.bin`` of the weights, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.export.onnx import write_onnx
from medseg.inference.backends import library

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


def write_openvino(network: nn.Module, window: Tensor, file: Path) -> None:
    """Write a network as OpenVINO IR, read from its ONNX form: one exporter for both formats.

    OpenVINO's own converters for PyTorch are not used: they report to its telemetry, and the one for traced networks
    fails on Swin UNETR where the number of windows is free.

    Parameters
    ----------
    network, window, file
        As `medseg.export.onnx.write_onnx`; `file` ends in ``.xml``, and the weights are written beside it.

    Raises
    ------
    ModelError
        As `write_onnx`.
    """
    ov = library("openvino")
    between = file.with_name(f".{file.stem}.onnx")
    write_onnx(network, window, between)
    try:
        ov.save_model(ov.Core().read_model(str(between)), str(file), compress_to_fp16=False)
    finally:
        between.unlink()
