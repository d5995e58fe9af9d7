"""The layout of Pascal VOC (Everingham 2010, IJCV 88:303): ``JPEGImages`` beside ``SegmentationClass``.

Masks are PNG with a palette: their pixels are the indices, whatever the colours. ``ImageSets/Segmentation/train.txt``
and ``val.txt`` are the split, where they are there; images without a mask, of which VOC has many, are left out. Names
are in ``labels.yaml``, or one a line in ``class_names.txt``, background first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.case import Case, safe_id
from medseg.datasets.findings import finding
from medseg.datasets.folders import foreign, stem, twice
from medseg.datasets.ignored import VOC_IGNORE, VOC_MASKS
from medseg.datasets.label_file import read_label_file
from medseg.datasets.listing import Listing, entries, relative
from medseg.errors import InputError
from medseg.labels import LabelSet, voc_color

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medseg.datasets.findings import DatasetFinding

VOC_IMAGES = "jpegimages"
NAME_FILES = ("class_names.txt", "classes.txt", "labels.txt")
MAX_LIST_BYTES = 16_000_000
_LISTS = ("train", "val", "trainval")
_BACKGROUND = "background"


def is_voc(root: Path) -> bool:
    """Tell whether a folder has the two folders of VOC's layout; upper and lower case count the same."""
    return {VOC_IMAGES, VOC_MASKS} <= set(_folders(root))


def list_voc(root: Path) -> Listing:
    """Return what a folder in the layout of VOC holds; a label has the colour that VOC gives its id.

    Raises
    ------
    InputError
        Where names or lists are there and cannot be understood.
    """
    folders = _folders(root)
    findings: list[DatasetFinding] = []
    images = _by_stem(folders[VOC_IMAGES], root, findings)
    masks = _by_stem(folders[VOC_MASKS], root, findings)
    lists = _lists(root)
    listed = tuple(dict.fromkeys(name for names in lists.values() for name in names))
    wanted = listed or tuple(masks)
    cases = [Case(_id(name), (images[name],), masks[name]) for name in wanted if name in images and name in masks]
    if listed:
        findings += _not_there(listed, images, masks)
        findings += [_unlisted(masks[name], root) for name in masks if name not in set(listed)]
    else:
        findings += [_without_image(masks[name], root) for name in masks if name not in images]
        findings += _without_mask([images[name] for name in images if name not in masks], root)
    rules = read_label_file(root)
    labels = _names(root) if rules is None else rules.labels
    return Listing(
        "voc",
        root,
        tuple(cases),
        voc_colored(labels),
        findings=tuple(findings),
        name=root.name,
        rules=rules,
        ignore=None if VOC_IGNORE in labels.ids else VOC_IGNORE,
        splits=_split(lists, {case.id for case in cases}),
    )


def voc_colored(labels: LabelSet) -> LabelSet:
    """Return labels in VOC's colours; those with colours somebody chose, or with ids above 255, keep theirs."""
    names = {label.id: label.name for label in labels}
    usual = (LabelSet.from_names(names), LabelSet.from_names({0: _BACKGROUND, **names}))  # a name for 0 takes a colour
    if labels not in usual or max(labels.ids, default=0) > VOC_IGNORE:
        return labels
    return LabelSet(tuple(replace(label, color=voc_color(label.id)) for label in labels))


def _folders(root: Path) -> Mapping[str, Path]:
    return {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}


def _id(name: str) -> str:
    return safe_id(name, name)


def _by_stem(folder: Path, root: Path, findings: list[DatasetFinding]) -> dict[str, Path]:
    files, others = entries(folder)
    findings += [foreign(path, root) for path in others]
    result: dict[str, Path] = {}
    for path in files:
        if stem(path) in result:
            findings.append(twice(stem(path), (result[stem(path)], path), root))
        else:
            result[stem(path)] = path
    return result


# -- lists and names --------------------------------------------------------------------------------------------------
def _lists(root: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the names in ``train.txt``, ``val.txt`` and ``trainval.txt``, as far as they are there."""
    folder = _folders(root).get("imagesets")
    place = None if folder is None else _folders(folder).get("segmentation")
    if place is None:
        return {}
    files = {name: place / f"{name}.txt" for name in _LISTS}
    return {name: _lines(path) for name, path in files.items() if path.is_file()}


def _split(lists: Mapping[str, Sequence[str]], ids: set[str]) -> tuple[tuple[str, ...], ...]:
    """Return the one fold that ``val.txt`` makes; none where it leaves nothing to train or to validate on."""
    held_out = tuple(i for i in dict.fromkeys(map(_id, lists.get("val", ()))) if i in ids)
    return (held_out,) if 0 < len(held_out) < len(ids) else ()


def _names(root: Path) -> LabelSet:
    """Return the labels a file of names holds, one a line; without such a file there are none.

    The first line has to be the background, or every name would be off by one; labelme's ``__ignore__`` goes before it.
    """
    path = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    if path is None:
        return LabelSet(())
    names = list(_lines(path))
    if names and names[0].strip("_").lower() == "ignore":
        names = names[1:]
    if len(names) < 2 or names[0].strip("_").lower() != _BACKGROUND:
        raise InputError(
            f"the first name is {names[0]!r}" if names else "the file holds no name",
            expected="background on the first line, then one name a line",
            where=str(path),
            remedy="Add the line, or name the ids in labels.yaml",
        )
    return LabelSet.from_names(dict(enumerate(names)))


def _lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a small text file, without empty ones and outer blanks."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise InputError(f"the file has {path.stat().st_size} bytes", expected="one name a line", where=str(path))
        return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file cannot be read ({type(error).__name__})", where=str(path)) from error


# -- findings ---------------------------------------------------------------------------------------------------------
def _not_there(
    listed: Iterable[str], images: Mapping[str, Path], masks: Mapping[str, Path]
) -> Iterable[DatasetFinding]:
    for name in listed:
        for what, files in (("image", images), ("mask", masks)):
            if name not in files:
                message = f"{name} is listed in ImageSets but has no {what}"
                yield finding("missing-file", message, "Put the file in place, or take the line out", case=_id(name))


def _unlisted(path: Path, root: Path) -> DatasetFinding:
    file = relative(path, root)
    remedy = "Add it to a list in ImageSets if it is to be trained on"
    return finding("unlisted-file", f"{file} is in no list in ImageSets", remedy, file=file)


def _without_image(path: Path, root: Path) -> DatasetFinding:
    file = relative(path, root)
    remedy = f"Add its image to JPEGImages, or take {file} out of the data set"
    return finding("mask-without-image", f"the mask {file} has no image", remedy, case=_id(stem(path)), file=file)


def _without_mask(paths: Sequence[Path], root: Path) -> Iterable[DatasetFinding]:
    if paths:
        message = f"{len(paths)} images have no mask, {relative(paths[0], root)} among them"
        yield finding("unmasked-image", message, "Nothing to do: they are left out")
