"""Two folders, images and masks, paired by name: plain pairs, and nnU-Net's raw layout with its channel numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from medseg.case import Case, safe_id, split_channel, stem_of
from medseg.datasets.findings import finding
from medseg.datasets.label_file import read_label_file
from medseg.datasets.listing import Listing, channels_from, entries, labels_from_mapping, relative, split_ignore
from medseg.errors import InputError
from medseg.labels import LabelSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.datasets.findings import DatasetFinding

IMAGE_FOLDERS = ("imagestr", "images", "image", "imgs", "img", "scans", "volumes")
MASK_FOLDERS = ("labelstr", "labels", "label", "masks", "mask", "segmentations", "segmentation", "annotations", "gt")
_WORD = re.compile(
    r"[-_. ](image|img|scan|volume|seg|segmentation|mask|label|labels|gt|annotation|rtstruct|rtss|rs)$", re.IGNORECASE
)

Channels = dict[int, "Path"]


def find_pair(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks in `root`, or None where there are no such two."""
    folders = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    masks = next((folders[name] for name in MASK_FOLDERS if name in folders), None)
    return (images, masks) if images and masks else None


def list_folders(root: Path) -> Listing:
    """Return what two sibling folders hold; labels come from ``labels.yaml`` beside them, where there is one."""
    cases, findings = pair(root)
    rules = read_label_file(root)
    labels = LabelSet(()) if rules is None else rules.labels
    return Listing("folders", root, cases, labels, findings=findings, name=root.name, rules=rules)


def list_nnunet(root: Path, document: Mapping[str, Any]) -> Listing:
    """Return what an nnU-Net raw data set holds: ``imagesTr/<case>_<channel>`` beside ``labelsTr/<case>``."""
    channels = channels_from(document)
    cases, findings = pair(root, n_channels=len(channels))
    labels, ignore = split_ignore(document.get("labels"))
    name = str(document.get("name") or root.name)
    return Listing("nnunet", root, cases, labels_from_mapping(labels), channels, findings, name, ignore=ignore)


def pair(root: Path, *, n_channels: int = 0) -> tuple[tuple[Case, ...], tuple[DatasetFinding, ...]]:
    """Pair images and masks whose names are equal but for suffix, channel number and words such as ``_mask``.

    Never by the order of a sorted list: one file too many would shift every pair after it.

    Parameters
    ----------
    root : Path
        Holds a folder of images and a folder of masks.
    n_channels : int
        Files every image must have; 0 where the layout does not tell.
    """
    found = find_pair(root)
    if found is None:
        raise InputError(
            "there is no folder of images beside a folder of masks",
            expected="such as imagesTr and labelsTr",
            where=str(root),
        )
    images, foreign_images = entries(found[0])
    masks, foreign_masks = entries(found[1])
    findings = [foreign(path, root) for path in (*foreign_images, *foreign_masks)]
    mask_of = _by_key(masks, root, findings)
    channels_of = _channels_by_key(images, root, mask_of=mask_of, findings=findings)
    cases = []
    for key, channels in channels_of.items():
        mask = mask_of.pop(key, None)
        findings += _faults(key, channels, root, has_mask=mask is not None, n_channels=n_channels)
        if mask is not None:
            cases.append(Case(_case_id(key, channels, root), tuple(channels[c] for c in sorted(channels)), mask))
    findings += [_without_image(key, path, root, images=found[0]) for key, path in mask_of.items()]
    return tuple(cases), tuple(findings)


def stem(path: Path) -> str:
    """Return the name of a file without its suffix, of a folder as it is."""
    return path.name if path.is_dir() else stem_of(path.name)


def _by_key(masks: tuple[Path, ...], root: Path, findings: list[DatasetFinding]) -> dict[str, Path]:
    """Return masks by their name, without a word such as ``_mask`` where the rest stays unique."""
    stems = {stem(path) for path in masks}
    result: dict[str, Path] = {}
    for path in masks:
        whole = stem(path)
        short = _WORD.sub("", whole)
        key = whole if short in stems else short
        if key in result:
            findings.append(twice(key, (result[key], path), root))
            continue
        result[key] = path
    return result


def _channels_by_key(
    images: tuple[Path, ...], root: Path, *, mask_of: Mapping[str, Path], findings: list[DatasetFinding]
) -> dict[str, Channels]:
    """Group images by case. A trailing ``_0001`` is a channel unless a mask bears the same number."""
    result: dict[str, Channels] = {}
    for path in images:
        whole = stem(path)
        key, channel = (whole, None) if path.is_dir() or whole in mask_of else split_channel(whole)
        if key not in mask_of and (short := _WORD.sub("", key)) in mask_of:
            key = short
        channels = result.setdefault(key, {})
        if (channel or 0) in channels:
            findings.append(twice(key, (channels[channel or 0], path), root))
        else:
            channels[channel or 0] = path
    return result


def _case_id(key: str, channels: Channels, root: Path) -> str:
    return safe_id(key.removesuffix("_0000") or key, relative(channels[min(channels)], root))


def _faults(key: str, channels: Channels, root: Path, *, has_mask: bool, n_channels: int) -> list[DatasetFinding]:
    file = relative(channels[min(channels)], root)
    case = _case_id(key, channels, root)
    faults = []
    if not has_mask:
        message = f"the image {file} has no mask"
        remedy = f"Add a mask named {key} to the folder of masks, or take {file} out of the data set"
        faults.append(finding("image-without-mask", message, remedy, case=case, file=file))
    wanted = range(n_channels or max(channels) + 1)
    missing = [c for c in wanted if c not in channels]
    if missing or len(channels) > len(wanted):
        message = f"{key} has the channels {sorted(channels)}, not {list(wanted)}"
        remedy = (
            f"Add {key}_{missing[0]:04d}" if missing else "Correct channel_names in dataset.json, or remove the rest"
        )
        faults.append(finding("missing-channel", message, remedy, case=case, file=file))
    return faults


def _without_image(key: str, path: Path, root: Path, *, images: Path) -> DatasetFinding:
    file = relative(path, root)
    message = f"the mask {file} has no image"
    remedy = f"Add its image to {images.name} under the name {key}, or take {file} out of the data set"
    return finding("mask-without-image", message, remedy, case=safe_id(key, file), file=file)


def twice(key: str, paths: tuple[Path, Path], root: Path) -> DatasetFinding:
    """Return the finding of two files with one name."""
    first, second = (relative(path, root) for path in paths)
    message = f"{first} and {second} both claim the name {key}"
    return finding("ambiguous-pair", message, f"Rename or remove {second}", case=safe_id(key, second), file=second)


def foreign(path: Path, root: Path) -> DatasetFinding:
    """Return the finding of a file that is neither image nor mask."""
    file = relative(path, root)
    return finding("foreign-file", f"{file} is neither an image nor a mask medseg knows", "It is ignored", file=file)
