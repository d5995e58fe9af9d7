"""SEG and RTSTRUCT as references: found in a file or folder, put on the image's grid, their structures made labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom

from medseg.errors import GeometryError, InputError, MedsegError
from medseg.io.dicom.cover import Cover
from medseg.io.dicom.inventory.tree import inspect_folder
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.rtstruct.reading import rasterised, rois_of
from medseg.io.dicom.seg.reading import read_seg, segment_names
from medseg.labels import MAX_LABEL_ID, LabelSet
from medseg.rois import RoiRules

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Geometry
    from medseg.io.dicom.item import Item
    from medseg.io.dicom.rtstruct.reading import Roi
    from medseg.volume import Segmentation

_KINDS = frozenset({"seg", "rtstruct"})
_SHOWN = 3


def read_reference(path: Path, *, onto: Geometry | None = None, rules: RoiRules | None = None) -> Segmentation:
    """Read a SEG or an RTSTRUCT as a mask.

    Parameters
    ----------
    path : Path
        The file, or a folder that holds exactly one.
    onto : Geometry, optional
        The grid of the image it was drawn on. A SEG has one of its own; contours have none.
    rules : RoiRules, optional
        Which structure is which label. By default ids are the structures' numbers, names their names.

    Returns
    -------
    Segmentation

    Raises
    ------
    InputError
        Where there is no such file, structures overlap and the rules do not say what that means, no structure is
        mapped, or contours are given no grid.
    GeometryError
        Where it lies in another frame of reference than the image, or not on its voxels.
    """
    item = find_reference(path)
    file = item.files[0]
    try:
        if item.kind == "seg":
            _check_frame(_frame_of(file), onto)
            return read_seg(file, onto=onto, rules=rules)
        return _drawn(file, onto, rules)
    except MedsegError as error:
        raise error.at(file.name) from error


def structure_names(path: Path) -> tuple[str, ...]:
    """Return the names of the structures in a SEG or an RTSTRUCT, in the order of their numbers.

    Raises
    ------
    InputError
        Where there is no such file, or it cannot be read.
    """
    item = find_reference(path)
    if item.kind == "seg":
        return segment_names(item.files[0])
    return tuple(_name(roi) for roi in rois_of(item.files[0]))


def find_reference(path: Path) -> Item:
    """Return the one SEG or RTSTRUCT that `path` is or holds.

    Raises
    ------
    InputError
        Where there is none, or several.
    """
    items = inspect_folder(path).items
    found = [item for item in items if item.kind in _KINDS]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(item.files[0].name for item in found[:_SHOWN])
        raise InputError(
            f"{len(found)} segmentations are here: {names}",
            expected="one SEG or RTSTRUCT",
            where=path.name,
            remedy="Name the file",
        )
    broken = next((item.reason for item in items if item.kind == "unreadable"), "")
    what = "the folder holds no SEG and no RTSTRUCT" if path.is_dir() else "the file is no SEG and no RTSTRUCT"
    raise InputError(f"{what} ({broken})" if broken else what, where=path.name)


def _drawn(file: Path, onto: Geometry | None, rules: RoiRules | None) -> Segmentation:
    if onto is None:
        raise InputError(
            "contours (RTSTRUCT) have no voxels of their own",
            expected="the grid of the image they were drawn on",
            code="no-grid",
        )
    rois = rois_of(file)
    names = [_name(roi) for roi in rois]
    if rules is None:
        rules = _own_rules(rois, names)
        taken = tuple((n, n) for n in range(len(rois)))
    else:
        taken = rules.take(names)
    cover = Cover(onto)
    for structure, _ in taken:
        _check_frame(rois[structure].frame_of_reference_uid, onto)
        cover.add(structure, rasterised(rois[structure], onto))
    return cover.labelled(rules, names, taken)


def _name(roi: Roi) -> str:
    return roi.name.strip() or f"structure {roi.number}"


def _own_rules(rois: tuple[Roi, ...], names: list[str]) -> RoiRules:
    """Return rules by which each structure is a label of its own: by its number, where all numbers serve as ids."""
    numbers = [roi.number for roi in rois]
    if len(set(numbers)) < len(numbers) or not all(1 <= number <= MAX_LABEL_ID for number in numbers):
        numbers = list(range(1, len(rois) + 1))
    own = [name if names.count(name) == 1 else f"{name} ({n})" for n, name in zip(numbers, names, strict=True)]
    return RoiRules(LabelSet.from_names(dict(zip(numbers, own, strict=True))), tuple(zip(own, numbers, strict=True)))


def _frame_of(file: Path) -> str:
    try:
        with quiet():
            dataset = pydicom.dcmread(file, force=True, specific_tags=["FrameOfReferenceUID"])
            return str(dataset.get("FrameOfReferenceUID") or "")
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file cannot be read as DICOM", code="unreadable") from error


def _check_frame(uid: str | None, onto: Geometry | None) -> None:
    wanted = onto.frame_of_reference_uid if onto is not None else None
    if uid and wanted and uid != wanted:
        raise GeometryError(
            "the segmentation lies in another frame of reference than the image",
            expected="one drawn on this image, or on one in register with it",
            code="other-frame",
        )
