"""The model folder: plan, labels, weights and card; written as a whole, verified when read, no pickle anywhere.

A folder holds ``plan.yaml``, ``labels.yaml``, one ``fold_N.safetensors`` per ensemble member, and ``card.yaml``, which
names every other file with its SHA-256. Nothing in it is executed: YAML is plain values, weights are safetensors, and
the network's shapes are known from the plan before a byte of the weights is put in memory.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medseg import networks
from medseg.documents import format_yaml, read_yaml
from medseg.errors import ModelError, OutputError, PlanError
from medseg.io.hashing import file_sha256
from medseg.labels import LabelSet
from medseg.plan import InitialNote, Plan
from medseg.plan.part import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

PLAN, LABELS, CARD = "plan.yaml", "labels.yaml", "card.yaml"
EXPORTS = "exports"  # a folder in the model's own for what `medseg export` makes of it; it has its own cards
_WEIGHTS = re.compile(r"fold_(0|[1-9][0-9]{0,3})\.safetensors")

_AGAIN = "Copy the whole folder again, or train it again"
P = TypeVar("P", bound=Part)
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class DataNote(Part):
    """The data set a model learned from: its name and the hash of its content."""

    name: str
    sha256: str = ""
    cases: int = Field(default=0, ge=0)


class ImportNote(Part):
    """The model of another program that a model was made from, known again by the SHA-256 of its checkpoints."""

    program: str
    configuration: str = ""
    plans: str = ""
    trainer: str = ""
    checkpoints: dict[str, Sha256] = Field(default_factory=dict)


class Card(Part):
    """What a person should know before using a model.

    Attributes
    ----------
    name, version : str
        How the model is called.
    created : str
        Date and time, ISO 8601 with zone.
    medseg : str
        Version of the program that wrote the folder.
    data : DataNote
        What it learned from.
    modalities : tuple of str
        One per channel; a DICOM series of another modality is refused.
    initial : InitialNote or None
        The weights its training started from, where they were not fresh.
    imported : ImportNote or None
        What it was made from, where another program trained it.
    metrics : dict
        Per label name, then per metric; null where undefined.
    metrics_of : str
        In words, of which cases, and by which members.
    postprocessing : dict
        Per label name what is tidied because cross-validation chose it, with the Dice before and after.
    training_seconds : float
        Wall time, over all members.
    hardware, licence, intended_use, limits : str
        In words.
    calibrated : bool
        Whether confidences were calibrated on held-out cases.
    files : dict
        SHA-256 of every other file in the folder; filled in by `save_model`.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = Field(min_length=1)
    version: str = "1"
    created: str
    medseg: str
    data: DataNote
    initial: InitialNote | None = None
    imported: ImportNote | None = None
    modalities: tuple[str, ...] = Field(min_length=1)
    metrics: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    metrics_of: str = ""
    postprocessing: dict[str, dict[str, bool | float | None]] = Field(default_factory=dict)
    training_seconds: float = Field(default=0.0, ge=0)
    hardware: str = ""
    licence: str = "not stated"
    intended_use: str = "Research. Not a medical device."
    limits: str = "Evaluated on held-out cases of its own data set only."
    calibrated: bool = False
    files: dict[str, Sha256] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A verified model folder.

    Parameters
    ----------
    folder : Path
        Where it lies.
    plan : Plan
        Everything decided about it.
    card : Card
        What to know about it.
    """

    folder: Path
    plan: Plan
    card: Card

    @property
    def sha256(self) -> str:
        """One hash for the whole model: over the names and hashes in its card."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.card.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def weights(self) -> dict[int, Path]:
        """The weight file of every ensemble member, by fold."""
        found = {int(match[1]): self.folder / name for name in self.card.files if (match := _WEIGHTS.fullmatch(name))}
        return dict(sorted(found.items()))

    def network(self, fold: int) -> nn.Module:
        """Return one member's network with its weights, in evaluation mode, float32 on the CPU.

        Raises
        ------
        ModelError
            Where the weights do not fit the plan.
        """
        path = self.weights.get(fold)
        if path is None:
            raise ModelError(f"the model has no member {fold}", expected=f"one of {list(self.weights)}")
        network = _blueprint(self.plan)
        try:
            with safe_open(path, framework="pt") as file:
                _require_fit(network, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118 - not a dict
                state = {name: as_stored(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as error:
            raise ModelError(f"the weights cannot be read ({error})", where=str(path)) from error
        except ModelError as error:
            raise error.at(str(path)) from error
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(requires_grad=False)


def load_model(folder: Path) -> Model:
    """Return the model in a folder after checking that it is whole: every file named, hashed and understood.

    Parameters
    ----------
    folder : Path
        A folder as `save_model` writes it.

    Raises
    ------
    ModelError
        Where the folder is no model, a file is missing, foreign or changed, or the parts contradict each other.
    """
    if not (folder / CARD).is_file():
        raise ModelError(
            f"there is no {CARD} in it" if folder.is_dir() else "there is no such folder",
            expected="a model folder, as `medseg train` leaves it in RUN/model",
            where=str(folder),
        )
    if is_exported(folder):
        raise ModelError(
            "the folder holds an exported model, without weights that a network here could take",
            expected="a model folder, as `medseg train` leaves it in RUN/model",
            where=str(folder),
            remedy="Name the model it was exported from",
        )
    card = read_part(Card, folder / CARD)
    _require_files(folder, card)
    return Model(folder, read_plan(folder, card), card)


def is_exported(folder: Path) -> bool:
    """Tell whether a folder's card says that `medseg export` wrote it."""
    try:
        card = read_yaml(folder / CARD) if (folder / CARD).is_file() else None
    except PlanError:
        return False  # what is wrong with the card is told when it is read as one
    return isinstance(card, dict) and "export" in card


def read_plan(folder: Path, card: Card) -> Plan:
    """Return the plan in a folder of a model after checking that labels and card agree with it.

    Raises
    ------
    ModelError
        Where the parts contradict each other, or one is damaged.
    """
    plan = read_part(Plan, folder / PLAN)
    if _labels_in(folder / LABELS) != plan.labels.to_json():
        raise ModelError("labels.yaml and plan.yaml name different labels", where=str(folder))
    if len(card.modalities) != len(plan.channels):
        raise ModelError(
            f"the card names {len(card.modalities)} modalities", expected=str(len(plan.channels)), where=str(folder)
        )
    return plan


def save_model(folder: Path, *, plan: Plan, members: Mapping[int, Mapping[str, Tensor]], card: Card) -> Model:
    """Write a model folder so that it is there as a whole or not at all, and return it as read back.

    An older folder of the same name is replaced.

    Parameters
    ----------
    folder : Path
        Where the model shall be.
    plan : Plan
        What the members were trained by.
    members : mapping of int to state dict
        Weights by fold, at least one.
    card : Card
        What to know; its `files` are filled in here.

    Raises
    ------
    ModelError
        Where weights do not fit the plan.
    OutputError
        Where the folder cannot be written, or holds something that is not a model.
    """
    if not members:
        raise ModelError("there are no weights to save", expected="at least one ensemble member")
    blueprint = _blueprint(plan)
    for state in members.values():
        _require_fit(blueprint, {name: tuple(tensor.shape) for name, tensor in state.items()})
    if folder.exists() and any(folder.iterdir()) and not (folder / CARD).is_file():
        raise OutputError("the folder holds something that is no model", where=str(folder), remedy="Name another one")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            fresh = Path(scratch) / "model"
            fresh.mkdir()
            _write_parts(fresh, plan, members)
            hashes = {path.name: file_sha256(path) for path in sorted(fresh.iterdir())}
            write_part(fresh / CARD, card.model_copy(update={"files": hashes}).to_yaml())
            model = load_model(fresh)
            _put_in_place(fresh, folder, aside=Path(scratch) / "old")
    except OSError as error:
        raise OutputError(f"the model cannot be written ({error.strerror})", where=str(folder)) from error
    return Model(folder, model.plan, model.card)


def as_stored(tensor: Tensor) -> Tensor:
    """Return a weight as a model folder holds it: on the CPU, a copy of its own, float32 unless it is a whole number.

    Examples
    --------
    >>> as_stored(torch.ones(2, dtype=torch.bfloat16)).dtype, as_stored(torch.arange(2)).dtype
    (torch.float32, torch.int64)
    """
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", kind).contiguous().clone()


def _put_in_place(fresh: Path, folder: Path, *, aside: Path) -> None:
    """Exchange a folder; should the second step fail, the first is undone."""
    if not folder.exists():
        fresh.rename(folder)
        return
    folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        aside.rename(folder)
        raise


def _write_parts(folder: Path, plan: Plan, members: Mapping[int, Mapping[str, Tensor]]) -> None:
    write_part(folder / PLAN, plan.to_yaml())
    write_part(folder / LABELS, format_yaml(plan.labels.to_json()))
    for fold, state in members.items():
        plain = {name: as_stored(tensor) for name, tensor in state.items()}
        save_file(plain, folder / f"fold_{fold}.safetensors")


def write_part(path: Path, text: str) -> None:
    """Write a text file of a model, and see that it is on the disk."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_part(kind: type[P], path: Path) -> P:
    """Return a part of a model, such as its card, from its YAML file.

    Raises
    ------
    ModelError
        Where it is damaged.
    """
    try:
        return kind.read(path)
    except PlanError as error:
        raise ModelError(error.found, expected=error.expected, where=error.where or str(path)) from error


def _labels_in(path: Path) -> list[dict[str, Any]]:
    try:
        document = read_yaml(path)
        if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
            raise PlanError("the document is no list of labels", where=str(path))
        return LabelSet.from_json(document).to_json()
    except PlanError as error:
        raise ModelError(error.found, expected=error.expected, where=error.where or str(path)) from error


def _require_files(folder: Path, card: Card) -> None:
    """Refuse a folder whose files are not exactly those of the card, by name and by content."""
    misnamed = [name for name in card.files if name not in {PLAN, LABELS} and not _WEIGHTS.fullmatch(name)]
    absent = [name for name in (PLAN, LABELS, *card.files) if name not in card.files or not (folder / name).is_file()]
    if misnamed or absent or not any(_WEIGHTS.fullmatch(name) for name in card.files):
        found = (
            f"the card names {misnamed[0]!r}" if misnamed else f"{absent[0] if absent else 'every weight'} is missing"
        )
        raise ModelError(
            found, expected=f"{PLAN}, {LABELS}, fold_N.safetensors and {CARD}", where=str(folder), remedy=_AGAIN
        )
    own = {CARD, *card.files} | ({EXPORTS} if (folder / EXPORTS).is_dir() else set())
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in own and p.name[0] != ".")
    if foreign:
        raise ModelError(
            f"{foreign[0]!r} does not belong to the model: its card does not name it",
            expected="safetensors named by the card; pickled weights (.pt, .pth, .ckpt) are never opened",
            where=str(folder),
            remedy="Take the file out of the folder",
        )
    require_content(folder, card)


def require_content(folder: Path, card: Card) -> None:
    """Refuse a folder in which a file's content is not what the card says.

    Raises
    ------
    ModelError
        Naming the file.
    """
    for name, digest in card.files.items():
        if file_sha256(folder / name) != digest:
            raise ModelError(
                "the file's content is not what the card says (SHA-256)", where=str(folder / name), remedy=_AGAIN
            )


def _blueprint(plan: Plan) -> nn.Module:
    """Return the plan's network without memory for its weights."""
    return networks.blueprint(plan.network, len(plan.channels), len(plan.labels) + 1)


def _require_fit(network: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted({*wanted, *shapes}):
        if wanted.get(name) != shapes.get(name):
            found, expected = (
                f"the shape {s}" if s is not None else "nothing" for s in (shapes.get(name), wanted.get(name))
            )
            raise ModelError(
                f"the weights hold {found} for {name!r}", expected=f"{expected}, as the plan's network has"
            )
