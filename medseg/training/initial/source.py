"""Weights as they lie on disk: a file of tensors, or a model folder. Nothing but tensors is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medseg.errors import InputError
from medseg.io.hashing import file_sha256
from medseg.model import CARD, Model, load_model
from medseg.plan import InitialNote

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.plan import Plan

_INSIDE = ("state_dict", "model_state_dict", "model")  # where programs keep the weights within what they save
_EXPECTED = "a state dict (.safetensors, .pt, .pth) or a model folder, as `medseg train` leaves it in RUN/model"


@dataclass(frozen=True, slots=True)
class Source:
    """Weights to start from.

    Attributes
    ----------
    note : InitialNote
        Their name and hash, which the plan keeps.
    where : str
        Their path, for errors.
    model : Model or None
        The model they are; None for a file.
    file : mapping
        The tensors of a file, as it names them.
    """

    note: InitialNote
    where: str
    model: Model | None
    file: Mapping[str, Tensor]

    @property
    def plan(self) -> Plan | None:
        """What the weights were trained by, where that is known."""
        return None if self.model is None else self.model.plan

    def tensors(self, fold: int) -> Mapping[str, Tensor]:
        """Return the weights a fold starts from: of a model, its member of the same fold, or else its first."""
        if self.model is None:
            return self.file
        member = fold if fold in self.model.weights else next(iter(self.model.weights))
        return self.model.network(member).state_dict()


def read_source(path: Path) -> Source:
    """Return the weights at a path.

    Parameters
    ----------
    path : Path
        A state dict in ``.safetensors``, or in ``.pt`` or ``.pth`` as `torch.load` reads it with ``weights_only=True``,
        bare or under ``state_dict`` or ``model``; a model folder; or a run folder, which stands for its model.

    Raises
    ------
    InputError
        Where there is nothing, something else, or weights no network could start from.
    ModelError
        Where a model folder is damaged.
    """
    if path.is_dir():
        folder = path if (path / CARD).is_file() or not (path / "model" / CARD).is_file() else path / "model"
        model = load_model(folder)
        return Source(InitialNote(name=model.card.name, sha256=model.sha256), str(folder), model, {})
    if not path.exists():
        raise InputError("there is no such file or folder", expected=_EXPECTED, where=str(path))
    try:
        document = _read(path)
        note = InitialNote(name=path.name, sha256=file_sha256(path))
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", where=str(path)) from error
    return Source(note, str(path), None, _usable(document, path))


def _read(path: Path) -> Any:
    match path.suffix.lower():
        case ".safetensors":
            try:
                return load_file(path)
            except SafetensorError as error:
                raise InputError(
                    f"the file is no safetensors ({error})", expected=_EXPECTED, where=str(path)
                ) from error
        case ".pt" | ".pth":
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except OSError:
                raise
            except Exception as error:  # a damaged or hostile pickle fails in any way it likes
                raise InputError(
                    "the file is damaged, or holds more than tensors and plain values, which is never unpickled",
                    expected="a state dict",
                    where=str(path),
                    remedy="Save `network.state_dict()` in it, best as safetensors",
                ) from error
        case _:
            raise InputError("the file holds no weights, by its name", expected=_EXPECTED, where=str(path))


def _usable(document: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, in memory once and all finite."""
    for _ in _INSIDE:  # no deeper, as a pickled dict may hold itself
        inner = [document[key] for key in _INSIDE if isinstance(document, Mapping) and key in document]
        document = next((value for value in inner if isinstance(value, Mapping)), document)
    pairs = document.items() if isinstance(document, Mapping) else ()
    tensors = {name: tensor for name, tensor in pairs if isinstance(name, str) and _is_plain(tensor)}
    if not tensors:
        raise InputError("the file holds no named tensors", expected="a state dict", where=str(path))
    wrong = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor.to(torch.float32)).all()), None)
    if wrong is not None:
        raise InputError(f"{wrong!r} holds values that are no numbers", expected="finite weights", where=str(path))
    return tensors


def _is_plain(value: object) -> bool:
    """Tell whether a value is a dense tensor as large in memory as its shape says."""
    if not isinstance(value, Tensor) or value.is_quantized or value.is_meta or value.is_complex():
        return False
    if value.layout != torch.strided:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()
