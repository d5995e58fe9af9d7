"""An exported model's folder: what is in it, whether it is whole, and how well it agrees with the model it came from.

It holds plan, labels and card as a model folder does, one file per ensemble member instead of the weights, an example,
and ``parity.json``: how far the exported members are from PyTorch's on that example. `medseg.export` writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, ValidationError

from medseg.errors import ModelError
from medseg.model import CARD, EXPORTS, LABELS, PLAN, Card, Model, Sha256, read_part, read_plan, require_content
from medseg.plan.part import Fraction, NonNegative, Part, faults

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.inference.hardware import BackendName

Format = Literal["onnx", "openvino", "torchscript", "monai-bundle"]
FORMATS: tuple[Format, ...] = get_args(Format)
PARITY, EXAMPLE, PROCESSING, README = "parity.json", "example.npz", "processing.yaml", "README.md"
BESIDE = (PLAN, LABELS, PARITY, EXAMPLE, PROCESSING)
BUNDLE_MEMBER = "models/model.ts"
BUNDLE_FILES = ("LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md")
SHARE_EQUAL, RELATIVE_DIFFERENCE = 0.9999, 1e-3  # what counts as the same labels

_FILES_OF_MEMBER: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx",),
    "openvino": ("xml", "bin"),
    "torchscript": ("pt",),
    "monai-bundle": (),
}
_BACKENDS: dict[Format, BackendName] = {
    "onnx": "onnx",
    "openvino": "openvino",
    "torchscript": "torchscript",
    "monai-bundle": "torchscript",
}
_MOST_BYTES = 8_000_000_000
_AGAIN = "Export the model again, with `medseg export`"


class ExportNote(Part):
    """Where an export comes from.

    Attributes
    ----------
    format : str
        What it was written as.
    model_sha256 : str
        The hash of the model it was made from (`medseg.model.Model.sha256`).
    tools : dict
        Name and version of the libraries that wrote it.
    """

    format: Format
    model_sha256: Sha256
    tools: dict[str, str] = Field(default_factory=dict)


class ExportCard(Card):
    """A model's card, and where the export comes from."""

    export: ExportNote


class MemberParity(Part):
    """How far one exported member is from PyTorch's, both in float32, on the example.

    Attributes
    ----------
    max_absolute : float
        Largest difference of two logits.
    max_relative : float
        The same, as a share of the largest logit.
    share_equal : float
        Share of voxels with the same label.
    dice : dict
        Between both masks, by label name; null where neither has the label.
    """

    max_absolute: NonNegative
    max_relative: NonNegative
    share_equal: Fraction
    dice: dict[str, Fraction | None]

    @property
    def is_equal(self) -> bool:
        """Whether this counts as the same labels."""
        return self.share_equal >= SHARE_EQUAL and self.max_relative <= RELATIVE_DIFFERENCE


class Parity(Part):
    """How far an export is from the model it was made from; ``parity.json``.

    Attributes
    ----------
    example : str
        What was compared on, in words.
    share_foreground : float
        Share of the example's voxels that PyTorch gives a label: with none, equal labels say little.
    members : dict
        By the file's name.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    example: str
    share_foreground: Fraction
    members: Annotated[dict[str, MemberParity], Field(min_length=1)]

    @property
    def is_equal(self) -> bool:
        """Whether all members count as label-equal."""
        return all(member.is_equal for member in self.members.values())


@dataclass(frozen=True, slots=True)
class Exported:
    """A verified exported folder.

    Parameters
    ----------
    model : Model
        Its folder, plan and card; without weights.
    note : ExportNote
        Format and origin.
    parity : Parity
        How far it is from that origin.
    members : dict
        The file to load for every ensemble member, by fold; a bundle holds the mean of all as its only one.
    """

    model: Model
    note: ExportNote
    parity: Parity
    members: dict[int, Path]

    @property
    def backend(self) -> BackendName:
        """What runs it."""
        return _BACKENDS[self.note.format]

    def moved_to(self, folder: Path) -> Exported:
        """Return the same export after its folder was renamed."""
        members = {fold: folder / file.relative_to(self.model.folder) for fold, file in self.members.items()}
        return replace(self, model=replace(self.model, folder=folder), members=members)


def load_exported(folder: Path) -> Exported:
    """Return the export in a folder after checking that it is whole: every file named, hashed and understood.

    Raises
    ------
    ModelError
        Where a file is missing, foreign, too large or changed, or the parts contradict each other.
    """
    card = read_part(ExportCard, folder / CARD)
    members = _members(card)
    _require_files(folder, card, members)
    require_content(folder, card)
    plan = read_plan(folder, card)
    parity = _parity(folder / PARITY)
    if set(parity.members) != set(members.values()):
        raise ModelError("parity.json tells of other members than there are", where=str(folder), remedy=_AGAIN)
    paths = {fold: folder / name for fold, name in members.items()}
    return Exported(Model(folder, plan, card), card.export, parity, paths)


def find_export(model: Model, format: Format) -> Exported | None:  # noqa: A002 - the word of the command line
    """Return the export of this format within a model's own folder, ``exports/<format>``; None where there is none.

    Raises
    ------
    ModelError
        Where it is damaged, or was made from other weights than the model has now.
    """
    folder = model.folder / EXPORTS / format
    if not folder.exists():
        return None
    exported = load_exported(folder)
    if exported.note.model_sha256 != model.sha256 or exported.note.format != format:
        raise ModelError(
            "the export was not made from the model it lies in, as that is now",
            where=str(folder),
            remedy="Remove the folder, and export the model again",
        )
    return exported


def file_names(format: Format, fold: int) -> tuple[str, ...]:  # noqa: A002 - the word of the command line
    """Return the names of a member's files, the one to load first.

    Examples
    --------
    >>> file_names("openvino", 0)
    ('fold_0.xml', 'fold_0.bin')
    """
    return tuple(f"fold_{fold}.{suffix}" for suffix in _FILES_OF_MEMBER[format]) or (BUNDLE_MEMBER,)


def _members(card: ExportCard) -> dict[int, str]:
    """Return the name of the file to load for every member the card names."""
    suffixes = _FILES_OF_MEMBER[card.export.format]
    if not suffixes:
        return {0: BUNDLE_MEMBER}
    pattern = re.compile(rf"fold_(0|[1-9][0-9]{{0,3}})\.{suffixes[0]}")
    found = {int(match[1]): name for name in card.files if (match := pattern.fullmatch(name))}
    return dict(sorted(found.items()))


def _require_files(folder: Path, card: ExportCard, members: dict[int, str]) -> None:
    """Refuse a folder whose files are not exactly those an export of its format has."""
    kind = card.export.format
    others = BUNDLE_FILES if kind == "monai-bundle" else (README,)
    wanted = {*BESIDE, *others, *(name for fold in members for name in file_names(kind, fold))}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."} - {CARD}
    for name in sorted(wanted ^ set(card.files)) or sorted(wanted ^ found):
        raise ModelError(
            f"{name!r} is {'missing' if name in wanted else 'not part of an export'}",
            expected=f"the files of an export to {kind}, each named by the card",
            where=str(folder),
            remedy=_AGAIN,
        )
    if not members:
        raise ModelError("the export holds no ensemble member", where=str(folder), remedy=_AGAIN)
    for name in sorted(wanted):
        size = (folder / name).stat().st_size
        if size > _MOST_BYTES:
            raise ModelError(f"the file has {size} bytes", expected=f"at most {_MOST_BYTES}", where=str(folder / name))


def _parity(path: Path) -> Parity:
    if path.stat().st_size > 1_000_000:
        raise ModelError("the file is too large to be a parity record", where=str(path), remedy=_AGAIN)
    try:
        return Parity.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(faults(error), where=str(path), remedy=_AGAIN) from error
