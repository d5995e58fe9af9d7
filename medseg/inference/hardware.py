"""What this machine can compute with, and which of it a job uses: device, precision, windows at once.

The choice follows from what was asked and from what the hardware is, never from a timing, so that the same machine
always computes the same numbers.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil
import torch

from medseg.errors import ModelError

Precision = Literal["fp32", "bf16"]
BackendName = Literal["torch", "torchscript", "onnx", "openvino"]

_BACKEND_MODULES = {"torch": "torch", "openvino": "openvino", "onnx": "onnxruntime"}
_FLOAT32_ONLY = {"torchscript": "TorchScript", "onnx": "ONNX Runtime"}

_CPU_WINDOW_VOXELS = 64**3  # windows are gathered up to this many voxels: more gains nothing on a few cores
_GPU_WINDOW_VOXELS = 160**3
_MOST_WINDOWS = 16


@dataclass(frozen=True, slots=True)
class NumericPath:
    """Everything beside model and scan that the last digits of a result depend on.

    Attributes
    ----------
    backend : {"torch", "torchscript", "onnx", "openvino"}
        What runs the network.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    precision : {"fp32", "bf16"}
        Type of weights and features; logits are always added up in float32.
    compiled : bool
        Whether the network was compiled first.
    window_batch : int
        Windows the network sees at once.
    export : str
        SHA-256 of the exported model that runs; empty where the model folder's own weights do.
    """

    backend: BackendName = "torch"
    device: str = "cpu"
    precision: Precision = "fp32"
    compiled: bool = False
    window_batch: int = 1
    export: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of weights and features."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def resolve_path(
    device: str, precision: str, *, patch_voxels: int, backend: BackendName = "torch", export: str = ""
) -> NumericPath:
    """Return the numeric path for what was asked on this machine; see `resolve_device` and `resolve_precision`.

    Parameters
    ----------
    device, precision : str
        What was asked; may be ``auto``.
    patch_voxels : int
        Voxels of one window.
    backend, export : str
        As in `NumericPath`. TorchScript and ONNX Runtime compute in float32, and OpenVINO on the CPU.

    Raises
    ------
    ModelError
        Where device or precision are not to be had, or not with this backend.
    """
    if backend in _FLOAT32_ONLY:
        if precision == "bf16":
            raise ModelError(
                f"{_FLOAT32_ONLY[backend]} has no bf16 here",
                expected="--precision auto or fp32",
                remedy="Pass --backend torch for bf16",
            )
        precision = "fp32" if precision == "auto" else precision
    if backend == "openvino" and device == "auto":
        device = "cpu"
    chosen = resolve_device(device)
    if backend == "openvino" and chosen != "cpu":
        raise ModelError(f"OpenVINO does not compute on {chosen}", expected="--device cpu or auto")
    room = _CPU_WINDOW_VOXELS if chosen == "cpu" else _GPU_WINDOW_VOXELS
    batch = max(1, min(_MOST_WINDOWS, room // max(1, patch_voxels)))
    return NumericPath(backend, chosen, resolve_precision(precision, chosen), window_batch=batch, export=export)


def resolve_device(name: str = "auto") -> str:
    """Return the device for what was asked: ``auto`` is the first CUDA device, or the CPU where there is none.

    Raises
    ------
    ModelError
        Where the device is not known or not there.

    Examples
    --------
    >>> resolve_device("cpu")
    'cpu'
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdecimal() or name == "cuda"):
        raise ModelError(f"the device {name!r} is not known", expected="auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise ModelError(
            "there is no CUDA device that PyTorch can use",
            expected=f"{name}, as asked",
            remedy="Pass --device cpu, or install a CUDA build of PyTorch and the driver",
        )
    if number and int(number) >= torch.cuda.device_count():
        raise ModelError(f"there is no CUDA device {number}", expected=f"0 to {torch.cuda.device_count() - 1}")
    return name


def resolve_precision(name: str = "auto", device: str = "cpu") -> Precision:
    """Return the precision for what was asked: ``auto`` is bf16 where the hardware multiplies it natively, else fp32.

    On a CPU that is AMX or AVX-512 with BF16; on a GPU, compute capability 8.0 or newer.

    Raises
    ------
    ModelError
        Where the precision is not known.

    Examples
    --------
    >>> resolve_precision("fp32", "cpu")
    'fp32'
    """
    match name:
        case "auto":
            return "bf16" if has_native_bf16(device) else "fp32"
        case "fp32" | "bf16":
            return name
        case _:
            raise ModelError(f"the precision {name!r} is not known", expected="auto, fp32 or bf16")


def has_native_bf16(device: str) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware."""
    if device == "cpu":
        return bool(cpu_flags() & {"amx_bf16", "amx_tile", "avx512_bf16"})
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets PyTorch found in this CPU, by their usual names."""
    read_all = getattr(torch.cpu, "get_capabilities", None)  # newer PyTorch
    if read_all is not None:
        return frozenset(name for name, value in read_all().items() if value is True)
    tests = {"amx_tile": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    found = {name for name, test in tests.items() if getattr(torch.cpu, test, bool)()}
    return frozenset(found)


def usable_cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory_bytes(device: str) -> int:
    """Return the memory of a device that is free now: RAM for the CPU, on a GPU also what PyTorch keeps for itself.

    Examples
    --------
    >>> free_memory_bytes("cpu") > 0
    True
    """
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def describe_machine() -> dict[str, str]:
    """Return what this machine can do, as short remarks by topic, for people.

    Examples
    --------
    >>> sorted(describe_machine())
    ['backends', 'cores', 'device', 'gpu', 'memory', 'precision', 'processor']
    """
    memory = psutil.virtual_memory()
    device = resolve_device()
    wide = sorted(cpu_flags() & {"avx2", "avx512_f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"})
    backends = [name for name, module in _BACKEND_MODULES.items() if importlib.util.find_spec(module)]
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": f"{platform.machine()}, {' '.join(wide) or torch.backends.cpu.get_cpu_capability()}",
        "cores": f"{usable_cores()} usable, PyTorch runs {torch.get_num_threads()} threads",
        "memory": f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB available",
        "gpu": ", ".join(f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus) or "none PyTorch can use",
        "device": f"{device} (what --device auto means here)",
        "precision": f"{resolve_precision('auto', device)} (what --precision auto means here)",
        "backends": f"{', '.join(backends)} (for --backend; all but torch run exported models)",
    }
