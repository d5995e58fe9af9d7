"""ONNX: one graph from ``windows`` to ``logits``, the number of windows free."""

from __future__ import annotations

import importlib
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import MissingExtraError, ModelError
from medseg.export.torchscript import tracing
from medseg.inference.backends import LOGITS, WINDOWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

_MOST_BYTES = 2_000_000_000  # protocol buffers, which ONNX is written in, end there
_NOISY = "torch.onnx._internal.exporter._registration"  # tells of torchvision's layers, which no network here has


def require_exporter(format: str) -> None:  # noqa: A002 - the word of the command line
    """Refuse to begin where the libraries that write ONNX are not installed.

    Raises
    ------
    MissingExtraError
        Naming the one that is missing.
    """
    for name in ("onnx", "onnxscript", "onnxruntime" if format == "onnx" else "openvino"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            extras = "onnx" if format == "onnx" else "onnx,openvino"
            raise MissingExtraError(
                f"{name} is not installed, and an export to {format} needs it",
                remedy=f"Run: pip install 'medseg[{extras}]'",
            ) from error


def write_onnx(network: nn.Module, window: Tensor, file: Path) -> None:
    """Write a network as ONNX, by PyTorch's exporter on `torch.export`, without the paths of this machine's sources.

    Parameters
    ----------
    network, window, file
        As `medseg.export.torchscript.write_torchscript`.

    Raises
    ------
    ModelError
        Where the network cannot be written, naming it and the layer, or is larger than such a file can be.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if size > _MOST_BYTES:
        raise ModelError(
            f"the network's weights have {size} bytes",
            expected=f"at most {_MOST_BYTES}, which an ONNX file can hold",
            remedy="Choose --format torchscript",
        )
    batch = torch.export.Dim("batch", min=1)
    with _quietly(), tracing(network, "ONNX"):
        program: Any = torch.onnx.export(
            network,
            (torch.cat([window, window]),),
            dynamo=True,
            verbose=False,
            input_names=[WINDOWS],
            output_names=[LOGITS],
            dynamic_shapes=({0: batch},),
        )
    document = program.model_proto
    for part in (*document.graph.node, *document.graph.value_info, *document.graph.initializer, document.graph):
        del part.metadata_props[:]  # stack traces, with the paths of source files
    for function in document.functions:
        for node in function.node:
            del node.metadata_props[:]
    file.write_bytes(document.SerializeToString())


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the exporter tells its own developers from a person."""
    logger = logging.getLogger(_NOISY)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
