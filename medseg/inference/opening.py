"""From a folder to members ready to run: which backend, by what rule, and the one numeric path."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from medseg.errors import ModelError
from medseg.inference.backends import Backend, TorchBackend, is_installed, library, member_of
from medseg.inference.exported import find_export, load_exported
from medseg.inference.hardware import NumericPath, resolve_device, resolve_path, resolve_precision
from medseg.model import is_exported, load_model
from medseg.networks import memory_format

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.inference.exported import Exported
    from medseg.model import Model

_log = logging.getLogger(__name__)

AskedBackend = Literal["auto", "torch", "onnx", "openvino"]
_IN_MODELS: tuple[Literal["openvino", "onnx"], ...] = ("openvino", "onnx")  # as `auto` tries them


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for; `path` is the whole choice, where it was made before."""

    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    path: NumericPath | None = None
    members: Sequence[int] | None = None


class Opened(NamedTuple):
    """A model, its members ready to run, and how they compute."""

    model: Model
    members: tuple[Backend, ...]
    path: NumericPath


def open_model(folder: Path, asked: Asked) -> Opened:
    """Return the members of a model folder or of an exported folder.

    The backend is what `asked.path` says where that is given. Else, with ``auto``, an exported folder runs by what it
    was exported for. A model folder runs by OpenVINO, then by ONNX Runtime, where its own ``exports/`` holds such an
    export that was made from these weights and is label-equal by its parity record, the library is installed, and
    device and precision are ones it has; else by PyTorch. No timing is looked at.

    Raises
    ------
    ModelError
        Where the folder is damaged, or what was asked is not to be had.
    MissingExtraError
        Where the backend's library is not installed.
    """
    if asked.backend not in get_args(AskedBackend):
        raise ModelError(f"the backend {asked.backend!r} is not known", expected="auto, torch, onnx or openvino")
    if is_exported(folder):
        exported = load_exported(folder)
        asked = _by_plan(asked, exported.model)
        _require_backend(exported, asked)
        return _opened(exported.model, exported, asked)
    model = load_model(folder)
    asked = _by_plan(asked, model)
    exported_or_none = _decided(model, asked.path) if asked.path else _chosen(model, asked)
    if exported_or_none is None:
        return _opened_by_torch(model, asked)
    return _opened(model, exported_or_none, asked)


def _by_plan(asked: Asked, model: Model) -> Asked:
    """Return what was asked, with the plan's precision where none was."""
    by_plan = model.plan.infer.precision
    return replace(asked, precision=by_plan) if by_plan is not None and asked.precision == "auto" else asked


def _opened(model: Model, exported: Exported, asked: Asked) -> Opened:
    """Return the members of an export, told as those of `model`."""
    library(exported.backend)
    path = asked.path or resolve_path(
        asked.device,
        asked.precision,
        patch_voxels=int(np.prod(model.plan.train.patch_size)),
        backend=exported.backend,
        export=exported.model.sha256,
    )
    resolve_device(path.device)
    folds = tuple(exported.members) if asked.members is None else tuple(asked.members)
    for fold in folds:
        if fold not in exported.members:
            raise ModelError(f"the export has no member {fold}", expected=f"one of {list(exported.members)}")
    return Opened(model, tuple(member_of(exported.members[fold], path) for fold in folds), path)


def _opened_by_torch(model: Model, asked: Asked) -> Opened:
    voxels = int(np.prod(model.plan.train.patch_size))
    path = asked.path or resolve_path(asked.device, asked.precision, patch_voxels=voxels)
    resolve_device(path.device)
    dimensions = model.plan.network.dimensions
    members = []
    for fold in model.weights if asked.members is None else asked.members:
        network = model.network(fold).to(device=path.device, dtype=path.dtype)
        network.to(memory_format=memory_format(dimensions))  # type: ignore[call-overload]  # PyTorch has it but does not type it
        members.append(TorchBackend(network, path, dimensions=dimensions))
    return Opened(model, tuple(members), path)


def _require_backend(exported: Exported, asked: Asked) -> None:
    """Refuse an exported folder that cannot run by what was asked, or was decided by an earlier run."""
    if asked.path is not None:
        if (asked.path.backend, asked.path.export) != (exported.backend, exported.model.sha256):
            raise _changed(exported.model.folder)
        return
    if asked.backend not in {"auto", exported.backend}:
        raise ModelError(
            f"the model was exported for {exported.backend}, and {asked.backend} cannot run it",
            where=str(exported.model.folder),
            remedy="Leave --backend out, or name the model it was exported from",
        )


def _decided(model: Model, path: NumericPath) -> Exported | None:
    """Return the export an earlier run computed with; None where that was PyTorch."""
    if path.backend == "torch":
        return None
    exported = find_export(model, path.backend) if path.backend != "torchscript" else None
    if exported is None or exported.model.sha256 != path.export:
        raise _changed(model.folder)
    return exported


def _chosen(model: Model, asked: Asked) -> Exported | None:
    match asked.backend:
        case "torch":
            return None
        case "onnx" | "openvino":
            exported = find_export(model, asked.backend)
            if exported is None:
                raise ModelError(
                    f"the model has no export to run by {asked.backend}",
                    expected=f"one in exports/{asked.backend} of its folder",
                    where=str(model.folder),
                    remedy=f"Run: medseg export MODEL -o MODEL/exports/{asked.backend} --format {asked.backend}",
                )
            return exported
        case _:
            return next((found for found in (_proven(model, name, asked) for name in _IN_MODELS) if found), None)


def _proven(model: Model, name: Literal["openvino", "onnx"], asked: Asked) -> Exported | None:
    """Return the model's own export of this format where ``auto`` may take it."""
    device = resolve_device(asked.device)
    fits = device == "cpu" and (name == "openvino" or resolve_precision(asked.precision, device) == "fp32")
    if not fits or not is_installed(name):
        return None
    try:
        exported = find_export(model, name)
    except ModelError as error:
        _log.warning("PyTorch runs the model: %s", error)
        return None
    if exported is not None and not exported.parity.is_equal:
        _log.warning("PyTorch runs the model: its export to %s is not label-equal by its parity record", name)
        return None
    return exported


def _changed(folder: Path) -> ModelError:
    return ModelError(
        "the earlier run computed with an export that is not there any more, or is another one now",
        where=str(folder),
        remedy="Put it back, or start again with --overwrite",
    )
