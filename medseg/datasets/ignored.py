"""Which value of a data set's masks stands for voxels that nobody decided on.

What is said counts first: ``ignore`` in ``labels.yaml``, or among the labels of a ``dataset.json``. Where nothing is
said, 255 is such a value in the layout of Pascal VOC and in pictures with a palette, as VOC draws the rims of objects
(Everingham 2010, IJCV 88:303). Elsewhere 255 is an id like any other: in a mask of 0 and 255 it is the foreground.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.datasets.decathlon import DOCUMENT
from medseg.datasets.label_file import read_ignore
from medseg.datasets.listing import id_and_name, read_json, split_ignore
from medseg.errors import InputError, MedsegError
from medseg.io.images import colour_table

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from medseg.datasets.listing import Listing

VOC_IGNORE = 255
VOC_MASKS = "segmentationclass"
"""The name of the folder that holds the masks in the layout of VOC, in lower case."""


def ignored_id(listing: Listing) -> int | None:
    """Return the value of a data set's undecided voxels; ``None`` where there is none.

    Raises
    ------
    InputError, PlanError
        Where ``labels.yaml`` is there and cannot be understood, or the value said to be ignored is a label.
    """
    said = listing.ignore
    masks = [case.reference for case in listing.cases if case.reference is not None]
    if said is None and masks:
        usual = usual_ignore(masks[0])
        said = None if usual in listing.labels.ids else usual
    ignore = read_ignore(listing.root, default=said)
    _refuse_label(ignore, listing.labels.ids)
    return ignore


def said_ignore(mask: Path, *, default: int | None = None) -> int | None:
    """Return the value of undecided voxels that is said beside a mask or in the folder above.

    ``labels.yaml`` goes before ``dataset.json``, and the nearer file before the farther.

    Parameters
    ----------
    mask : Path
        Where the mask is; it is not opened.
    default : int, optional
        The value where nothing is said.

    Raises
    ------
    InputError, PlanError
        Where such a file is there and cannot be understood, or contradicts itself.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (pathlib.Path(folder) / "dataset.json").write_text('{"labels": {"liver": 1, "ignore": 2}}')
    ...     said_ignore(pathlib.Path(folder) / "labelsTr" / "a.nii.gz")
    2
    """
    folders = (mask.parent.parent, mask.parent)
    for folder in folders:
        default = _of_document(folder / DOCUMENT, default)
    for folder in folders:
        default = read_ignore(folder, default=default)
    return default


def usual_ignore(mask: Path) -> int | None:
    """Return the value that undecided voxels have in a mask of which nothing is said.

    Parameters
    ----------
    mask : Path
        A mask; of a picture the header is read.
    """
    if mask.parent.name.lower() == VOC_MASKS:
        return VOC_IGNORE
    try:
        return None if colour_table(mask) is None else VOC_IGNORE
    except InputError:  # said where the mask itself is read
        return None


def _of_document(path: Path, default: int | None) -> int | None:
    """Return what a ``dataset.json`` says; its regions, which are for others to read, are no fault here."""
    document = read_json(path) if path.is_file() else None
    if not isinstance(document, dict):
        return default
    try:
        labels, ignore = split_ignore(document.get("labels"), default)
        if isinstance(labels, dict) and labels != document["labels"]:  # it was said
            _refuse_label(ignore, [i for key, value in labels.items() for i in _ids(str(key), value)])
    except MedsegError as error:
        raise error.at(str(path)) from error
    return ignore


def _ids(key: str, value: object) -> list[int]:
    return value if isinstance(value, list) else [id_and_name(key, value)[0]]


def _refuse_label(ignore: int | None, ids: Collection[int]) -> None:
    if ignore in ids:
        raise InputError(f"the id {ignore} is to be ignored and is a label", expected="one of the two")
