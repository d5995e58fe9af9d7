"""Pair predicted masks with reference masks by case id; opens no voxel file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from medseg.datasets import read_label_file
from medseg.documents import MAX_DOCUMENT_BYTES
from medseg.errors import InputError
from medseg.io import READABLE_SUFFIXES
from medseg.labels import Label, LabelSet, distinct_color

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MASK_SUFFIXES = tuple(suffix for suffix in READABLE_SUFFIXES if suffix not in {".jpg", ".jpeg"})  # JPEG blurs labels
_DICOM_SUFFIXES = (".dcm", ".ima")
_OURS = ("segmentation.dcm", "rtstruct.dcm")  # what `medseg segment` calls its DICOM outputs
_CHANNEL_MARK = "_0000"  # nnU-Net's mark of the first channel; a case id does not carry it
_SHOWN = 3
MASK = "segmentation"  # what `medseg segment` calls a mask, without suffix


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which files belong together.

    Attributes
    ----------
    pairs : mapping of id to (prediction, reference)
        By rising id.
    missing : mapping of id to reference
        References without a prediction, by rising id.
    """

    pairs: Mapping[str, tuple[Path, Path]]
    missing: Mapping[str, Path]


def pair(predictions: Path, references: Path | Mapping[str, Path], *, name: str = MASK) -> Pairing:
    """Pair the masks of two folders by id, or two files with each other; references may be given by id instead.

    A prediction made from a file whose name is not safe on every file system has an id of its own; the manifest beside
    it tells which file that was, and the reference of that name belongs to it.

    Parameters
    ----------
    predictions, references
        Folders, files, or masks by id.
    name : str
        Of the masks in folders of their own, as for `masks_in`.

    Raises
    ------
    InputError
        Where a folder holds no mask, one id has two masks, or a prediction has no reference.
    """
    if isinstance(references, Mapping):
        found, wanted, where = masks_in(predictions, name=name), references, str(predictions)
    elif predictions.is_file() and references.is_file():
        return Pairing({mask_id(references) or references.stem: (predictions, references)}, {})
    else:
        found, wanted, where = masks_in(predictions, name=name), masks_in(references, name=name), str(references)
    partner = _partners(found, wanted, inputs=_inputs_by_id(predictions))
    lost = [case for case in found if case not in partner]
    if lost:
        count = f"{len(lost)} predictions have" if len(lost) > 1 else "one prediction has"
        raise InputError(
            f"{count} no reference: {_some(lost)}",
            expected="a mask of the same id among the references",
            where=where,
            remedy="Give the folder that holds their references, or take the predictions out",
        )
    left = {case: path for case, path in wanted.items() if case not in set(partner.values())}
    return Pairing({partner[case]: (path, wanted[partner[case]]) for case, path in found.items()}, left)


def masks_in(folder: Path, *, name: str = MASK) -> dict[str, Path]:
    """Return the masks of a folder by case id: ``<id>/segmentation.nii.gz`` or ``<id>.nii.gz``, or another mask format.

    SEG and RTSTRUCT are such formats: ``<id>.dcm``, or a folder ``<id>`` of DICOM files of which one is the reference.

    Parameters
    ----------
    folder : Path
        Where to look.
    name : str
        What a mask in a folder ``<id>`` is called; DICOM holds none of another name than the usual one.

    Raises
    ------
    InputError
        Where the folder is not there, holds no mask, or has two masks for one id.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), expected="a folder of masks")
    masks: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        case, path = _mask_of(entry, name)
        if path is None:
            continue
        if case in masks:
            raise InputError(
                f"the case {case} has two masks, {masks[case].relative_to(folder)} and {path.relative_to(folder)}",
                expected="one",
                where=str(folder),
            )
        masks[case] = path
    if not masks:
        expected = f"files <id>.nii.gz or <id>/{name}.nii.gz (or another mask format)"
        raise InputError("the folder holds no mask", expected=expected, where=str(folder))
    return masks


def mask_id(path: Path) -> str | None:
    """Return a mask file's name without its suffix; ``None`` where the suffix is not that of a mask.

    Examples
    --------
    >>> from pathlib import Path
    >>> mask_id(Path("case.1.nii.gz")), mask_id(Path("notes.txt"))
    ('case.1', None)
    """
    for suffix in (*MASK_SUFFIXES, *_DICOM_SUFFIXES):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return None


def named_labels(folder: Path) -> LabelSet:
    """Return the labels a folder of predictions names: in ``labels.yaml`` (any form), else in ``manifest.json``.

    Without either there are none.

    A manifest's label without a colour, or with one that is none, gets one that is easy to tell apart.

    Raises
    ------
    PlanError, InputError
        Where the file is there and cannot be understood.
    """
    rules = read_label_file(folder)
    if rules is not None:
        return rules.labels
    names: dict[int, str] = {}
    colors: dict[int, tuple[int, int, int]] = {}
    for case in _manifest_cases(folder):
        for entry in case.get("labels") or ():
            if isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str):
                names.setdefault(entry["id"], entry["name"])
                if color := _color(entry.get("color")):
                    colors.setdefault(entry["id"], color)
    return LabelSet(
        tuple(
            Label(i, name, colors.get(i) or distinct_color(n)) for n, (i, name) in enumerate(sorted(names.items())) if i
        )
    )


def _color(entry: object) -> tuple[int, int, int] | None:
    """Return a colour as a manifest holds it; ``None`` where it is not three whole numbers from 0 to 255."""
    match entry:
        case [int() as r, int() as g, int() as b] if all(type(c) is int and 0 <= c <= 255 for c in (r, g, b)):
            return r, g, b
        case _:
            return None


def _mask_of(entry: Path, name: str) -> tuple[str, Path | None]:
    if entry.name.startswith("."):
        return entry.name, None
    if entry.is_dir():
        ours = _OURS if name == MASK else ()
        files = [entry / file for file in (*(f"{name}{suffix}" for suffix in MASK_SUFFIXES), *ours)]
        found = next((file for file in files if file.is_file()), None)
        return entry.name, found or (entry if ours and _holds_dicom(entry) else None)
    case = mask_id(entry)
    return (entry.name, None) if case is None else (case, entry)


def _holds_dicom(folder: Path) -> bool:
    return any(path.name.lower().endswith(_DICOM_SUFFIXES) for path in folder.rglob("*"))


def _partners(found: Mapping[str, Path], wanted: Mapping[str, Path], *, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the reference's id for each prediction that has one, first by its own id, then by its input's name."""
    partner = {case: case for case in found if case in wanted}
    for case in found:
        name = inputs.get(case, case)
        if case not in partner and name in wanted and name not in partner.values():
            partner[case] = name
    return partner


def _inputs_by_id(folder: Path) -> dict[str, str]:
    """Return, for every case of a manifest, its first input's file name without suffix and channel mark."""
    names = {}
    for case in _manifest_cases(folder):
        inputs = case.get("inputs")
        if isinstance(case.get("id"), str) and isinstance(inputs, list) and inputs and isinstance(inputs[0], str):
            name = PurePosixPath(inputs[0]).name
            suffix = next((s for s in MASK_SUFFIXES if name.lower().endswith(s)), "")
            names[case["id"]] = name.removesuffix(name[len(name) - len(suffix) :]).removesuffix(_CHANNEL_MARK)
    return names


def _manifest_cases(folder: Path) -> list[dict[str, Any]]:
    path = folder / "manifest.json"
    if not path.is_file():
        return []
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES * 16:
            raise InputError(f"the file has {path.stat().st_size} bytes", expected="a manifest", where=str(path))
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "the manifest cannot be read", where=str(path), remedy="Run medseg segment again, or remove it"
        ) from error
    cases = document.get("cases") if isinstance(document, dict) else None
    return [case for case in cases if isinstance(case, dict)] if isinstance(cases, list) else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
