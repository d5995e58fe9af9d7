"""What a data set folder says it holds: the record every layout fills, and how files and paths are taken from disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from medseg.case import FILE_SUFFIXES, Case
from medseg.errors import InputError
from medseg.labels import MAX_LABEL_ID, LabelSet
from medseg.rois import RoiRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.datasets.findings import DatasetFinding

Layout = Literal["decathlon", "nnunet", "folders", "voc", "table"]
MAX_JSON_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Listing:
    """A data set as its layout describes it, sound or not; no voxel file was opened.

    Attributes
    ----------
    layout : str
        How the files are arranged.
    root : Path
        Folder that all paths in findings are relative to.
    cases : tuple of Case
        Images that have their mask.
    labels : LabelSet
        Empty where the layout names none.
    rules : RoiRules or None
        Which structure of a DICOM reference is which label; ``None`` where the layout names no label.
    channels : tuple of str
        Empty where the layout does not tell.
    findings : tuple of DatasetFinding
        What does not fit together.
    name : str
        The data set's own name, else the folder's.
    ignore : int or None
        The value of voxels that nobody decided on.
    splits : tuple of tuple of str
        Validation ids per fold, where the layout has a split.
    """

    layout: Layout
    root: Path
    cases: tuple[Case, ...]
    labels: LabelSet = field(default_factory=lambda: LabelSet(()))
    channels: tuple[str, ...] = ()
    findings: tuple[DatasetFinding, ...] = ()
    name: str = ""
    rules: RoiRules | None = None
    ignore: int | None = None
    splits: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Where labels are named and nothing is said of structures, a structure is the label of its name."""
        if self.rules is None and len(self.labels):
            object.__setattr__(self, "rules", RoiRules.from_labels(self.labels))


def entries(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the images and masks in a folder, and its foreign files, both by name.

    A sub-folder counts as one image (a DICOM series). Names that start with a dot are left out: macOS writes a ``._x``
    beside every file on foreign disks.
    """
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    wanted = tuple(path for path in visible if path.is_dir() or path.name.lower().endswith(FILE_SUFFIXES))
    return wanted, tuple(path for path in visible if path not in set(wanted))


def plain_path(root: Path, text: object) -> Path | None:
    """Return the path a document names, or None where it would leave the data set's folder.

    Examples
    --------
    >>> plain_path(Path("d"), "./imagesTr/a.nii.gz").as_posix()
    'd/imagesTr/a.nii.gz'
    >>> plain_path(Path("d"), "../secret") is None, plain_path(Path("d"), "/etc/passwd") is None
    (True, True)
    """
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        return None
    pure = PurePosixPath(text.strip().replace("\\", "/"))
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        return None
    return root.joinpath(*pure.parts)


def relative(path: Path, root: Path) -> str:
    """Return a path relative to the data set, with forward slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def read_json(path: Path) -> Any:
    """Return the plain value of a JSON file of bounded size.

    Raises
    ------
    InputError
        Where it is too large, not text, not JSON, or nested too deeply.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"the file has {path.stat().st_size} bytes", expected="a JSON document", where=str(path))
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"the file cannot be read as JSON ({type(error).__name__})", where=str(path), remedy="Correct the file"
        ) from error


def labels_from_mapping(document: object) -> LabelSet:
    """Return the labels of ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net); background is left out.

    Raises
    ------
    InputError
        Where an entry is neither, or asks for regions.

    Examples
    --------
    >>> labels_from_mapping({"0": "background", "1": "liver"}).names, labels_from_mapping({"liver": 2}).ids
    (('liver',), (2,))
    """
    if not isinstance(document, dict) or not document:
        raise InputError("the labels are not a mapping of ids and names", expected='such as {"1": "liver"}')
    names: dict[int, str] = {}
    for key, value in document.items():
        label_id, name = id_and_name(str(key), value)
        if label_id in names:
            raise InputError(f"the label id {label_id} occurs twice")
        names[label_id] = name
    return LabelSet.from_names(names)


def split_ignore(document: object, default: int | None = None) -> tuple[object, int | None]:
    """Part a mapping of labels into the labels and the id of voxels that nobody decided on.

    That id is called ``ignore``, as in nnU-Net's ``dataset.json``; ``ignore: none`` says that there is none.

    Parameters
    ----------
    document : object
        A mapping of ids and names, in either direction; everything else comes back as it is.
    default : int, optional
        The id where the mapping does not say.

    Raises
    ------
    InputError
        Where it is no id.

    Examples
    --------
    >>> split_ignore({"liver": 1, "ignore": 255}), split_ignore({1: "liver", 255: "ignore"})
    (({'liver': 1}, 255), ({1: 'liver'}, 255))
    >>> split_ignore({"liver": 1, "ignore": "none"}, default=255), split_ignore({"liver": 1}, default=255)
    (({'liver': 1}, None), ({'liver': 1}, 255))
    """
    if not isinstance(document, dict):
        return document, default
    said = [value for key, value in document.items() if _is_ignore(key)]
    said += [key for key, value in document.items() if _is_ignore(value)]
    rest = {key: value for key, value in document.items() if not (_is_ignore(key) or _is_ignore(value))}
    if not said:
        return document, default
    if len(said) > 1:
        raise InputError(f"{len(said)} ids are to be ignored", expected="one, such as 'ignore: 255'")
    return rest, _ignored_id(said[0])


def _is_ignore(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() == "ignore"


def _ignored_id(value: object) -> int | None:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MAX_LABEL_ID:
        raise InputError(f"the id to be ignored is {value!r}", expected=f"1 to {MAX_LABEL_ID}, or none")
    return number


def id_and_name(key: str, value: object) -> tuple[int, str]:
    """Return the id and the name of one entry of a mapping of labels, whichever of the two comes first.

    Raises
    ------
    InputError
        Where it is neither way round.
    """
    if key.strip().isdecimal() and isinstance(value, str):
        return int(key), value
    if isinstance(value, list):
        raise InputError(f"the label {key!r} is a region of several values", expected="one value a label")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value, key
    raise InputError(f"the label entry {key!r}: {value!r} is not understood", expected='such as "1": "liver"')


def channels_from(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the channel names of a ``dataset.json``: ``channel_names`` (nnU-Net 2) or ``modality`` (Decathlon).

    Examples
    --------
    >>> channels_from({"modality": {"1": "T1w", "0": "FLAIR"}})
    ('FLAIR', 'T1w')
    """
    named = document.get("channel_names", document.get("modality"))
    if isinstance(named, dict) and all(str(key).isdecimal() for key in named):
        return tuple(str(named[key]) for key in sorted(named, key=int))
    return tuple(str(name) for name in named) if isinstance(named, list) else ()
