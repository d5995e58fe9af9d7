"""What runs a network: PyTorch, or an exported file by TorchScript, ONNX Runtime or OpenVINO, behind one contract.

A backend is one ensemble member: windows in, logits out. Which windows, how members are averaged and how windows blend
is decided above, so it is the same for all. A library other than PyTorch is imported when a member of its kind is made.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from medseg.errors import MissingExtraError, ModelError
from medseg.inference.hardware import usable_cores
from medseg.networks import memory_format

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.inference.hardware import BackendName, NumericPath

WINDOWS, LOGITS = "windows", "logits"  # what the input and the output of an exported network are called
CACHE = Path(".cache") / "medseg" / "openvino"  # under the user's home


class Backend(Protocol):
    """One ensemble member, ready to run."""

    def __call__(self, windows: Tensor) -> Tensor:
        """Return logits (N, classes, *spatial), float32, of windows (N, C, *spatial), float32 on the CPU.

        N may be any number; `spatial` is the plan's patch.
        """
        ...


class TorchBackend:
    """A network built from the plan.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on the device and of the type `path` says.
    path : NumericPath
        How to compute.
    dimensions : {2, 3}
        Says which layout in memory is fastest.

    Examples
    --------
    >>> from medseg.inference import NumericPath
    >>> TorchBackend(torch.nn.Conv2d(1, 2, 1), NumericPath(), dimensions=2)(torch.zeros(3, 1, 4, 4)).shape
    torch.Size([3, 2, 4, 4])
    """

    def __init__(self, network: nn.Module, path: NumericPath, *, dimensions: int) -> None:
        self._network, self._device, self._dtype = network, path.device, path.dtype
        self._layout = memory_format(dimensions)

    def __call__(self, windows: Tensor) -> Tensor:
        """Return logits; see `Backend`."""
        seen = windows.to(self._device, self._dtype).contiguous(memory_format=self._layout)
        logits: Tensor = self._network(seen).float()
        return logits


class TorchScriptBackend:
    """An archive of TorchScript: a program in PyTorch's own small language, run by PyTorch without its Python source.

    Parameters
    ----------
    file : Path
        The archive; its content is trusted, as running it is running a program.
    path : NumericPath
        Device; float32 always.

    Raises
    ------
    ModelError
        Where the archive cannot be read.
    """

    def __init__(self, file: Path, path: NumericPath) -> None:
        self._device = path.device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch prefers torch.export, which needs Python
                self._network = torch.jit.load(str(file), map_location=path.device).eval()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
        except RuntimeError as error:
            raise _unreadable("TorchScript", file) from error

    def __call__(self, windows: Tensor) -> Tensor:
        """Return logits; see `Backend`."""
        logits: Tensor = self._network(windows.to(self._device, torch.float32)).float()
        return logits


class OnnxBackend:
    """An ONNX file, run by ONNX Runtime.

    Parameters
    ----------
    file : Path
        One graph from ``windows`` to ``logits``.
    path : NumericPath
        Device; float32 always.

    Raises
    ------
    MissingExtraError
        Where ONNX Runtime is not installed.
    ModelError
        Where the file cannot be read, or the device is a GPU and this ONNX Runtime has no CUDA.
    """

    def __init__(self, file: Path, path: NumericPath) -> None:
        ort = library("onnx")
        kind, _, number = path.device.partition(":")
        provider = "CPUExecutionProvider" if kind == "cpu" else "CUDAExecutionProvider"
        if provider not in ort.get_available_providers():
            raise ModelError(
                "the ONNX Runtime installed here has no CUDA",
                expected=f"one that computes on {path.device}",
                remedy="Install onnxruntime-gpu in its place, or pass --device cpu or --backend torch",
            )
        ort.disable_telemetry_events()
        options = ort.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        options.log_severity_level = 3  # errors: they come as exceptions, too
        chosen = (provider, {"device_id": int(number or 0)} if kind == "cuda" else {})
        try:
            self._session = ort.InferenceSession(str(file), options, providers=[chosen])
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise _unreadable("ONNX Runtime", file) from error

    def __call__(self, windows: Tensor) -> Tensor:
        """Return logits; see `Backend`."""
        (logits,) = self._session.run([LOGITS], {WINDOWS: _plain(windows)})
        return torch.from_numpy(logits)


class OpenVinoBackend:
    """An OpenVINO IR (``.xml`` and ``.bin``), compiled for this CPU.

    Compiling a large network takes half a minute; what it gave is kept under the user's ``~/.cache/medseg/openvino``,
    by the export's hash.

    Parameters
    ----------
    file : Path
        The ``.xml``.
    path : NumericPath
        Precision, and the export's hash.

    Raises
    ------
    MissingExtraError
        Where OpenVINO is not installed.
    ModelError
        Where the file cannot be read.
    """

    def __init__(self, file: Path, path: NumericPath) -> None:
        ov = library("openvino")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if path.precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": usable_cores(),
            "NUM_STREAMS": 1,
        }
        cache = _cache_folder(path.export)
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)
        try:
            self._compiled = ov.Core().compile_model(str(file), "CPU", settings)
        except RuntimeError as error:
            raise _unreadable("OpenVINO", file) from error

    def __call__(self, windows: Tensor) -> Tensor:
        """Return logits; see `Backend`."""
        return torch.from_numpy(self._compiled({WINDOWS: _plain(windows)})[LOGITS].copy())


def as_backend(network: nn.Module | Backend, path: NumericPath, *, dimensions: int) -> Backend:
    """Return a member ready to run: a PyTorch network is wrapped, a backend is what it is."""
    return TorchBackend(network, path, dimensions=dimensions) if isinstance(network, nn.Module) else network


def member_of(file: Path, path: NumericPath) -> Backend:
    """Return an exported member ready to run, by the backend `path` names.

    Raises
    ------
    MissingExtraError, ModelError
        As the backends.
    """
    match path.backend:
        case "torchscript":
            return TorchScriptBackend(file, path)
        case "onnx":
            return OnnxBackend(file, path)
        case "openvino":
            return OpenVinoBackend(file, path)
        case "torch":
            raise ModelError("PyTorch runs no exported file", expected="a backend that does", where=str(file))


def library(backend: BackendName) -> Any:
    """Return the library a backend needs.

    Raises
    ------
    MissingExtraError
        Where it is not installed.
    """
    name = {"onnx": "onnxruntime", "openvino": "openvino"}.get(backend, "torch")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"{name} is not installed, and the backend {backend!r} needs it",
            remedy=f"Run: pip install 'medseg[{backend}]'",
        ) from error


def is_installed(backend: BackendName) -> bool:
    """Tell whether a backend's library is there, and can be loaded."""
    try:
        library(backend)
    except MissingExtraError:
        return False
    return True


def _plain(windows: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(windows.to("cpu", torch.float32).numpy())


def _cache_folder(export: str) -> Path | None:
    """Return where a compiled model is kept; None where the home cannot be written or the export is not known."""
    if not export:
        return None
    try:
        folder = Path.home() / CACHE / export[:32]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder


def _unreadable(reader: str, file: Path) -> ModelError:
    return ModelError(
        f"{reader} cannot read the file", where=str(file), remedy="Export the model again, with `medseg export`"
    )
