"""A checkpoint of nnU-Net, read without running what is pickled in it.

``torch.load(weights_only=True)`` rebuilds tensors and plain values only. nnU-Net's log holds NumPy scalars beside them;
the three names NumPy pickles those by are answered by the harmless stand-ins below, and nothing else is.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medseg.errors import ModelError
from medseg.io.hashing import file_sha256

if TYPE_CHECKING:
    from pathlib import Path

_PREFIXES = ("module.", "_orig_mod.")  # of networks that were distributed or compiled
_SCALARS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
_NAMED = re.compile(r"(?:GLOBAL|global) ([\w.]+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one training left.

    Attributes
    ----------
    weights : dict of str to Tensor
        By nnU-Net's names, without the prefixes of distributed or compiled networks.
    configuration, trainer : str
        By their names; empty where the checkpoint does not tell.
    mirror_axes : tuple of int
        Axes of the patch along which inference may mirror.
    sha256 : str
        Of the file.
    """

    weights: dict[str, Tensor]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    sha256: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what a checkpoint holds that inference needs.

    Parameters
    ----------
    path : Path
        ``checkpoint_final.pth`` or ``checkpoint_best.pth``.

    Raises
    ------
    ModelError
        Where the file is damaged, holds more than tensors and plain values, or is no checkpoint of nnU-Net v2.
    """
    document = _loaded(path)
    weights = document.get("network_weights") if isinstance(document, Mapping) else None
    if not isinstance(weights, Mapping) or not weights:
        raise ModelError("the file holds no 'network_weights'", expected="a checkpoint of nnU-Net v2", where=str(path))
    arguments = document.get("init_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    return Checkpoint(
        weights={_bare(name): tensor for name, tensor in _tensors(weights, path).items()},
        configuration=_text(arguments.get("configuration")),
        trainer=_text(document.get("trainer_name")),
        mirror_axes=_axes(document.get("inference_allowed_mirroring_axes"), path),
        sha256=file_sha256(path),
    )


class _ScalarType:
    """Stands in for ``numpy.dtype`` while a checkpoint is read: only the code of a plain number is kept."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in _SCALARS:
            raise pickle.UnpicklingError("GLOBAL numpy.dtype of other than plain numbers")
        self.code = str(code)

    def __setstate__(self, state: object) -> None:
        """Take no notice of byte order and the rest: scalars are of this machine's, or of no interest."""


def _scalar(kind: object, raw: object) -> float | int | bool:
    """Stand in for NumPy's scalar: return the plain number that bytes hold."""
    if not isinstance(kind, _ScalarType) or not isinstance(raw, bytes):
        raise pickle.UnpicklingError("GLOBAL numpy scalar of other than plain numbers")
    number: float | int | bool = np.frombuffer(raw, dtype=f"<{kind.code}", count=1)[0].item()
    return number


_ALLOWED: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_ScalarType, "numpy.dtype"),
]


def _loaded(path: Path) -> Any:
    try:
        if not zipfile.is_zipfile(path):
            raise ModelError("the file is no checkpoint of PyTorch 1.6 or newer", expected="a zip of tensors")
        _require_unpacked(path)
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ModelError as error:
        raise error.at(str(path)) from error
    except OSError as error:
        raise ModelError(f"the file cannot be read ({error.strerror})", where=str(path)) from error
    except Exception as error:  # a damaged or hostile pickle fails in any way it likes
        named = _NAMED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        raise ModelError(
            f"the checkpoint holds {named[1]!r}, which would be run to be read"
            if named
            else "the checkpoint is damaged, or holds more than tensors and plain values",
            expected="tensors, plain values and NumPy's numbers; nothing else is unpickled",
            where=str(path),
            remedy="Ask whoever made it for a checkpoint as nnU-Net writes it",
        ) from error


def _require_unpacked(path: Path) -> None:
    """Refuse a file whose parts are compressed: PyTorch writes none, and a few bytes could unpack to gigabytes."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ModelError("the checkpoint is compressed inside", expected="a file as `torch.save` writes it")


def _tensors(weights: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return named dense tensors as large as they say, all of finite numbers."""
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not _is_plain(tensor):
            raise ModelError(f"the weights hold {name!r}, which is no plain tensor", where=str(path))
    return dict(weights)


def _is_plain(tensor: Tensor) -> bool:
    if tensor.is_quantized or tensor.is_meta or tensor.is_complex() or tensor.layout != torch.strided:
        return False
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return False
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _axes(value: object, path: Path) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, (tuple, list)) or not all(isinstance(a, int) and 0 <= a <= 2 for a in value):
        raise ModelError(f"the axes to mirror are {value!r}", expected="numbers from 0 to 2", where=str(path))
    return tuple(sorted(set(value)))
