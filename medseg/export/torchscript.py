"""TorchScript: a network as a program that PyTorch runs without its Python source."""

from __future__ import annotations

import warnings
import zipfile
from typing import TYPE_CHECKING

import torch

from medseg.errors import ModelError

if TYPE_CHECKING:
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
    with warnings.catch_warnings():
        # PyTorch prefers torch.export, which needs Python to run; and values of Python that the trace fixes follow
        # from the patch, which is fixed here, as the parity record shows.
        warnings.simplefilter("ignore")
        try:
            with torch.no_grad():
                traced = torch.jit.trace(network, (torch.cat([window, window]),), check_trace=False)  # type: ignore[no-untyped-call]  # PyTorch gives it no types
            torch.jit.save(traced, str(file))
        except (RuntimeError, TypeError, ValueError) as error:
            raise untraceable(network, "TorchScript", error) from error
    _without_sources(file)


def untraceable(network: nn.Module, kind: str, error: Exception) -> ModelError:
    """Return the sentence for a network that a format cannot hold."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ModelError(
        f"the network {type(network).__name__} cannot be written as {kind}: {reason[:300]}",
        remedy="Choose another --format",
    )


def _without_sources(file: Path) -> None:
    """Take out of an archive what leads back to source files: where they lay on this machine concerns nobody."""
    slim = file.with_name(f".{file.name}.slim")
    with zipfile.ZipFile(file) as full, zipfile.ZipFile(slim, "w", zipfile.ZIP_STORED) as archive:
        for entry in full.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                archive.writestr(zipfile.ZipInfo(entry.filename), full.read(entry))
    slim.replace(file)
