"""The exported folder: written as a whole or not at all, measured against PyTorch, and read back."""

from __future__ import annotations

import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.documents import format_yaml
from medseg.errors import OutputError, PlanError
from medseg.export import bundle
from medseg.export.onnx import require_exporter, write_onnx
from medseg.export.openvino import write_openvino
from medseg.export.page import page
from medseg.export.parity import compared
from medseg.export.processing import described
from medseg.export.torchscript import write_torchscript
from medseg.export.window import IN_WORDS, example_window
from medseg.inference.backends import as_backend, member_of
from medseg.inference.exported import (
    EXAMPLE,
    FORMATS,
    PARITY,
    PROCESSING,
    README,
    ExportCard,
    Exported,
    ExportNote,
    Parity,
    file_names,
    load_exported,
)
from medseg.inference.hardware import NumericPath
from medseg.io.hashing import file_sha256
from medseg.model import CARD, EXPORTS, LABELS, PLAN, write_part
from medseg.progress import Step, ignore

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medseg.inference.exported import Format, MemberParity
    from medseg.model import Model
    from medseg.progress import Progress

_WRITERS = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torchscript": write_torchscript,
    "monai-bundle": write_torchscript,
}
_TOOLS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}


@dataclass(frozen=True, slots=True)
class Report:
    """What was exported, and how well it agrees.

    Attributes
    ----------
    exported : Exported
        The folder, read back.
    """

    exported: Exported

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return a row per member: file, largest difference, relative, share of equal labels, lowest Dice."""
        return [
            (
                name,
                f"{member.max_absolute:.2g}",
                f"{member.max_relative:.2g}",
                f"{100 * member.share_equal:.4f} %",
                f"{min((d for d in member.dice.values() if d is not None), default=float('nan')):.5f}",
            )
            for name, member in self.exported.parity.members.items()
        ]

    @property
    def verdict(self) -> str:
        """The one sentence a person reads first."""
        parity = self.exported.parity
        if not parity.is_equal:
            return "Not label-equal: the export differs from PyTorch more than rounding explains; don't use it unseen."
        if not parity.share_foreground:
            return "Label-equal, but the example has no foreground: compare masks of real scans, too."
        return "Label-equal on the example."

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        exported = self.exported
        return {
            "schema": 1,
            "folder": str(exported.model.folder),
            "format": exported.note.format,
            "model_sha256": exported.note.model_sha256,
            "sha256": exported.model.sha256,
            "label_equal": exported.parity.is_equal,
            "parity": exported.parity.model_dump(mode="json"),
        }


def export_model(model: Model, out: Path, *, format: str, progress: Progress = ignore) -> Report:  # noqa: A002 - the word of the command line
    """Write a model in another program's format, with an example and a record of how well it agrees.

    Parameters
    ----------
    model : Model
        A verified model folder.
    out : Path
        The folder to make: it must not hold anything. Within the model's own folder it is ``exports/<format>``.
    format : {"onnx", "openvino", "torchscript", "monai-bundle"}
        What to write.
    progress : Progress
        Told the stage ``export`` before each member.

    Raises
    ------
    PlanError
        Where the format is not known.
    MissingExtraError
        Where a library the format needs is not installed.
    ModelError
        Where the network or the plan cannot be expressed in the format.
    OutputError
        Where `out` holds something, lies where it must not, or cannot be written.
    """
    kind = _known(format)
    _require_place(model, out, kind)
    if kind in _TOOLS:
        require_exporter(kind)
    if kind == "monai-bundle":
        bundle.require_expressible(model.plan)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            fresh = Path(scratch) / "export"
            fresh.mkdir()
            _write(model, fresh, kind, progress)
            exported = load_exported(fresh)
            if out.exists():
                out.rmdir()
            fresh.rename(out)
    except OSError as error:
        raise OutputError(f"the export cannot be written ({error.strerror})", where=str(out)) from error
    return Report(exported.moved_to(out))


def _known(format: str) -> Format:  # noqa: A002 - the word of the command line
    for kind in FORMATS:
        if kind == format:
            return kind
    raise PlanError(f"the format {format!r} is not known", expected=f"one of {', '.join(FORMATS)}")


def _require_place(model: Model, out: Path, kind: Format) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError("the folder for the export holds something", where=str(out), remedy="Name another one")
    own, place = model.folder.resolve(), out.resolve()
    if own in (place, *place.parents) and place != own / EXPORTS / kind:
        raise OutputError(
            "the export would lie in the model's own folder",
            expected=f"exports/{kind} there, or a folder elsewhere",
            where=str(out),
        )


def _write(model: Model, folder: Path, kind: Format, progress: Progress) -> None:
    """Write all files of an export, the card last."""
    window = example_window(model.plan)
    if kind == "monai-bundle":
        networks: dict[int, nn.Module] = {0: bundle.MeanOfMembers([model.network(fold) for fold in model.weights])}
        networks[0].eval()
    else:
        networks = {fold: model.network(fold) for fold in model.weights}
    records: dict[str, MemberParity] = {}
    total = torch.zeros(())
    for done, (fold, network) in enumerate(networks.items()):
        progress(Step("export", done, len(networks)))
        file = folder / file_names(kind, fold)[0]
        file.parent.mkdir(exist_ok=True)
        _WRITERS[kind](network, window, file)
        expected = _logits(network, model, window)
        records[file_names(kind, fold)[0]] = compared(expected, _again(file, kind, window), model.plan.labels)
        total = total + expected / len(networks)
    progress(Step("export", len(networks), len(networks)))
    labels = total.argmax(dim=1)
    parity = Parity(example=IN_WORDS, share_foreground=float((labels > 0).double().mean()), members=records)
    np.savez(folder / EXAMPLE, windows=window.numpy(), labels=labels.numpy().astype(np.uint16))
    _write_texts(model, folder, kind, parity)


def _logits(network: nn.Module, model: Model, window: Tensor) -> Tensor:
    with torch.inference_mode():
        return as_backend(network, NumericPath(), dimensions=model.plan.network.dimensions)(window)


def _again(file: Path, kind: Format, window: Tensor) -> Tensor:
    """Return the logits of the file just written, run by what it was written for."""
    backend = "torchscript" if kind == "monai-bundle" else kind
    with torch.inference_mode():
        return member_of(file, NumericPath(backend=backend))(window)


def _write_texts(model: Model, folder: Path, kind: Format, parity: Parity) -> None:
    plan, card = model.plan, model.card
    write_part(folder / PLAN, plan.to_yaml())
    write_part(folder / LABELS, format_yaml(plan.labels.to_json()))
    write_part(folder / PROCESSING, format_yaml(described(plan)))
    write_part(folder / PARITY, parity.model_dump_json(indent=2) + "\n")
    if kind == "monai-bundle":
        for name in ("configs", "docs"):
            (folder / name).mkdir()
        write_part(folder / "configs" / "metadata.json", bundle.as_json(bundle.metadata(plan, card)))
        write_part(folder / "configs" / "inference.json", bundle.as_json(bundle.inference(plan)))
        write_part(folder / "docs" / "README.md", bundle.readme(plan, card))
        write_part(folder / "LICENSE", f"The weights' licence, as the model's card has it: {card.licence}\n")
    else:
        write_part(folder / README, page(plan, card, kind, list(parity.members)))
    tools = {name: importlib.metadata.version(name) for name in ("torch", *_TOOLS.get(kind, ("monai",)))}
    note = ExportNote(format=kind, model_sha256=model.sha256, tools=tools)
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): file_sha256(path) for path in names}
    told = {name: getattr(card, name) for name in type(card).model_fields} | {"export": note, "files": hashes}
    write_part(folder / CARD, ExportCard(**told).to_yaml())
