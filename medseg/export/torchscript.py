"""TorchScript: a network as a program that PyTorch runs without its Python source."""

from __future__ import annotations

import warnings
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from medseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn


def write_torchscript(network: nn.Module, window: Tensor, file: Path) -> None:
    """Trace a network and write the archive, without the paths of this machine's source files.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, float32, on the CPU.
    window : (1, C, *spatial) float32
        What it is traced on; the number of windows stays free, the patch does not.
    file : Path
        The archive to write.

    Raises
    ------
    ModelError
        Where the network cannot be traced, naming it and the layer.
    """
    # PyTorch warns that it prefers torch.export, which needs Python to run; and of values of Python that the trace
    # fixes: they follow from the patch, which is fixed here, as the parity record shows.
    with tracing(network, "TorchScript"):
        traced = torch.jit.trace(network, (torch.cat([window, window]),), check_trace=False)  # type: ignore[no-untyped-call]  # PyTorch gives it no types
        torch.jit.save(traced, str(file))
    _without_sources(file)


@contextmanager
def tracing(network: nn.Module, kind: str) -> Iterator[None]:
    """Trace a network within, without gradients and warnings; where a format cannot hold it, the sentence says so."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, TypeError, ValueError) as error:  # the exporters' own errors are RuntimeErrors
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"the network {type(network).__name__} cannot be written as {kind}: {reason[:300]}",
            remedy="Choose another --format",
        ) from error


def _without_sources(file: Path) -> None:
    """Take out of an archive what leads back to source files: where they lay on this machine concerns nobody."""
    slim = file.with_name(f".{file.name}.slim")
    with zipfile.ZipFile(file) as full, zipfile.ZipFile(slim, "w", zipfile.ZIP_STORED) as archive:
        for entry in full.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                archive.writestr(zipfile.ZipInfo(entry.filename), full.read(entry))
    slim.replace(file)
