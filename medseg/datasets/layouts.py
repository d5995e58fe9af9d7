"""Which layout a data set has, and the `Dataset` made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.case import Dataset
from medseg.datasets.decathlon import DOCUMENT, list_decathlon
from medseg.datasets.folders import find_pair, list_folders, list_nnunet
from medseg.datasets.ignored import ignored_id
from medseg.datasets.listing import read_json
from medseg.datasets.table import list_table
from medseg.datasets.voc import is_voc, list_voc
from medseg.errors import InputError, MedsegError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.datasets.listing import Listing

SPLITS = "splits_final.json"
KNOWN = (
    "a folder with dataset.json, with imagesTr and labelsTr (or images and masks), with JPEGImages and "
    "SegmentationClass, or a CSV file"
)
_SHOWN = 4


def open_dataset(path: str | Path, *, channels: Sequence[str] | None = None) -> Dataset:
    """Return the data set in a folder or table; opens no voxel file but one mask's header, where masks are pictures.

    Parameters
    ----------
    path : path
        A folder in the layout of the Medical Segmentation Decathlon, of nnU-Net (raw) or of Pascal VOC, one that holds
        a folder of images and a folder of masks, or a CSV file (``id,image[,image_2 ...],label[,group]``).
    channels : sequence of str, optional
        Modality or name of each channel, in place of what the layout says.

    Returns
    -------
    Dataset
        Its `labels` are empty where the layout names none: see `with_labels`. Its `splits` are those of a
        ``splits_final.json`` beside the images, or of VOC's ``ImageSets``. Its `ignore` is what ``labels.yaml`` or
        ``dataset.json`` says, else 255 for masks with a palette and in the layout of VOC, else none.

    Raises
    ------
    InputError
        Where there is no data set, or its files do not fit together; `check_dataset` lists everything.
    """
    root = Path(path)
    listing = list_dataset(root)
    errors = [fault for fault in listing.findings if fault.severity == "error"]
    if errors:
        others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(
            errors[0].message + others, where=str(root), remedy=f"{errors[0].remedy}. 'medseg check' lists everything"
        )
    if not listing.cases:
        raise InputError("the data set has no image with a mask", where=str(root))
    return Dataset(
        name=listing.name,
        cases=tuple(replace(case, rules=listing.rules, ignore=listing.ignore) for case in listing.cases),
        labels=listing.labels,
        channels=tuple(channels or listing.channels),
        root=listing.root,
        splits=_splits(listing),
        ignore=listing.ignore,
    )


def list_dataset(path: Path) -> Listing:
    """Return what a data set's layout says it holds, sound or not."""
    is_table = path.is_file() and path.suffix.lower() == ".csv"
    if not is_table and not path.is_dir():
        found = "the file is no data set" if path.exists() else "there is no such data set"
        raise InputError(found, expected=KNOWN, where=str(path), remedy="Give the data set's folder or CSV file")
    try:
        listing = list_table(path) if is_table else _list_folder(path)
        return replace(listing, ignore=ignored_id(listing))
    except OSError as error:  # a name too long for the disk, a folder one may not read
        raise InputError(f"the data set cannot be read ({error.strerror})", where=str(path)) from error
    except MedsegError as error:
        raise error.at(str(path)) from error


def _list_folder(root: Path) -> Listing:
    document = _document(root)
    if document is None and is_voc(root):
        return list_voc(root)
    if document is None:
        if find_pair(root) is None:
            raise InputError(
                "the folder is not a data set medseg knows",
                expected=KNOWN,
                where=str(root),
                remedy=_nearer(root) or "Give the data set's own folder, or list its files in a CSV",
            )
        return list_folders(root)
    has_list = isinstance(document.get("training"), list) and document["training"]
    if has_list or isinstance(document.get("dataset"), dict):
        return list_decathlon(root, document)
    return list_nnunet(root, document)


def _nearer(root: Path) -> str:
    """Return which folders inside are data sets, as CamVid's ``train`` and ``test``; empty where none is."""
    inside = [p.name for p in sorted(root.iterdir()) if p.is_dir() and (is_voc(p) or find_pair(p) is not None)]
    return f"Give one of the folders inside: {', '.join(inside[:_SHOWN])}" if inside else ""


def _document(root: Path) -> dict[str, Any] | None:
    path = root / DOCUMENT
    if not path.is_file():
        return None
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError("the file holds no mapping", expected="labels and modality or channel_names", where=str(path))
    return document


def _splits(listing: Listing) -> tuple[tuple[str, ...], ...]:
    """Return the validation ids per fold of nnU-Net's ``splits_final.json``, else those of the layout."""
    path = listing.root / SPLITS
    if not path.is_file():
        return listing.splits
    document = read_json(path)
    folds = document if isinstance(document, list) else []
    if not folds or not all(isinstance(fold, dict) and _are_names(fold.get("val")) for fold in folds):
        raise InputError(
            "the split is not understood", expected='a list of {"train": [...], "val": [...]}', where=str(path)
        )
    known = {case.id for case in listing.cases}
    unknown = sorted({str(name) for fold in folds for name in fold["val"]} - known)
    if unknown:
        raise InputError(
            f"the split names {unknown[0]!r}, which is no case", where=str(path), remedy="Correct the split file"
        )
    return tuple(tuple(fold["val"]) for fold in folds)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)
