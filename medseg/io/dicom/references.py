"""SEG and RTSTRUCT as references: found in a file or folder, put on the image's grid, their structures made labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pydicom

from medseg.errors import GeometryError, InputError, MedsegError
from medseg.io.dicom.cover import Cover
from medseg.io.dicom.inventory.tree import inspect_folder
from medseg.io.dicom.origin import series_uid_of
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.remarks import Remark, remarks_on
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


def read_reference(
    path: Path, *, onto: Geometry | None = None, rules: RoiRules | None = None, image: Path | None = None
) -> Segmentation:
    """Read a SEG or an RTSTRUCT as a mask.

    Parameters
    ----------
    path : Path
        The file, or a folder that holds exactly one.
    onto : Geometry, optional
        The grid of the image it was drawn on. A SEG has one of its own; contours have none.
    rules : RoiRules, optional
        Which structure is which label. By default ids are the structures' numbers, names their names.
    image : Path, optional
        The DICOM image it was drawn on. Where the file names that very series, it is taken to lie where the image does
        although their frames of reference differ: some writers invent one.

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
            _check_frame(_claim_of(file), onto, image)
            return read_seg(file, onto=onto, rules=rules)
        return _drawn(file, onto, rules=rules, image=image)
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


def remarks(path: Path, *, onto: Geometry, rules: RoiRules, image: Path | None = None) -> tuple[Remark, ...]:
    """Return what is worth saying of a reference that can be read, about the structures that are for a label.

    Parameters
    ----------
    path : Path
        A SEG or RTSTRUCT, or a folder that holds exactly one.
    onto : Geometry
        The grid of the image.
    rules : RoiRules
        Which structure is which label.
    image : Path, optional
        The DICOM image it is a reference for.

    Raises
    ------
    InputError
        Where there is no such file, or it cannot be read.
    """
    item = find_reference(path)
    file, found = item.files[0], list[Remark]()
    if item.kind == "seg":
        named = set(_claim_of(file).series_uids)
    else:
        rois = rois_of(file)
        taken = [rois[structure] for structure, _ in rules.assign([_name(roi) for roi in rois]).taken]
        named = {uid for roi in taken for uid in roi.series_uids}
        found += [remark for roi in taken for remark in remarks_on(roi, onto)]
    if named and image is not None and series_uid_of(image) not in named:
        found.append(Remark("other-series", "the series it was drawn on is another than the image"))
    return tuple(found)


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


def _drawn(file: Path, onto: Geometry | None, *, rules: RoiRules | None, image: Path | None) -> Segmentation:
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
        roi = rois[structure]
        _check_frame(_Claim(roi.frame_of_reference_uid or "", roi.series_uids), onto, image)
        cover.add(structure, rasterised(roi, onto, same_frame=True))
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


class _Claim(NamedTuple):
    """Where a file says that it lies: its frame of reference, and the series it was drawn on."""

    frame_uid: str
    series_uids: tuple[str, ...]


def _claim_of(file: Path) -> _Claim:
    """Return what a SEG says."""
    try:
        with quiet():
            dataset = pydicom.dcmread(
                file, force=True, specific_tags=["FrameOfReferenceUID", "ReferencedSeriesSequence"]
            )
            series = [str(s.get("SeriesInstanceUID") or "") for s in dataset.get("ReferencedSeriesSequence") or []]
            return _Claim(str(dataset.get("FrameOfReferenceUID") or ""), tuple(uid for uid in series if uid))
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file cannot be read as DICOM", code="unreadable") from error


def _check_frame(claim: _Claim, onto: Geometry | None, image: Path | None) -> None:
    wanted = onto.frame_of_reference_uid if onto is not None else None
    if not claim.frame_uid or not wanted or claim.frame_uid == wanted:
        return
    if image is not None and series_uid_of(image) in claim.series_uids:
        return
    raise GeometryError(
        "the segmentation lies in another frame of reference than the image",
        expected="one drawn on this image, or on one in register with it",
        code="other-frame",
    )
