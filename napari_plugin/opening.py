"""From paths to layers: files, DICOM files and folders; which of several series is asked, never guessed. No Qt.

DICOM's libraries are loaded when DICOM is met.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from medseg.errors import GeometryError, InputError
from medseg.io import READABLE_SUFFIXES, is_dicom, read_segmentation, read_volume, suffix_of
from medseg.progress import Progress, ignore
from napari_plugin.bridge import image_layers, labels_layer
from napari_plugin.source import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from medseg.io.dicom import Item, Repairs
    from napari_plugin.bridge import LayerData

_MASK_WORDS = re.compile(r"(?<![a-z])(segmentation|seg|mask|masks|label|labels|labelmap)(?![a-z])", re.IGNORECASE)
_LOOKED_AT = 500  # entries of a folder, until one is an image
_STEPS = {
    "four-d": "",
    "missing-slice": "interpolated onto even slices",
    "uneven-spacing": "interpolated onto even slices",
    "mosaic": "taken apart into its slices",
}


@dataclass(frozen=True, eq=False)
class Offer:
    """One thing that can be opened, as a person is asked.

    Attributes
    ----------
    item : Item
        What the inventory found.
    name : str
        The layer's name: the item's id, and the volume's number where there are several.
    kind : {"image", "mask"}
    repairs : Repairs or None
        The steps without which it cannot be opened; a person who chooses it allows them.
    words : str
        What it is, and what will be done to it.
    obstacle : str
        Why it cannot be opened; empty where it can.
    """

    item: Item
    name: str
    kind: Literal["image", "mask"] = "image"
    repairs: Repairs | None = None
    words: str = ""
    obstacle: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it opens without any step to be allowed."""
        return not self.obstacle and self.repairs is None


def may_be_ours(path: Path) -> bool:
    """Tell, without reading voxels, whether there is something to open: in a folder, an image among the first entries.

    Examples
    --------
    >>> from pathlib import Path
    >>> may_be_ours(Path("scan.nii.gz")), may_be_ours(Path("notes.txt"))
    (True, False)
    """
    if not path.is_dir():
        return is_dicom(path) or suffix_of(path) in READABLE_SUFFIXES
    for number, entry in enumerate(path.rglob("*")):
        if number >= _LOOKED_AT:
            return False
        if entry.is_file() and (suffix_of(entry) in READABLE_SUFFIXES or _has_mark(entry)):
            return True
    return False


def open_paths(
    paths: Sequence[Path],
    *,
    choose: Callable[[Sequence[Offer]], Sequence[Offer]] | None = None,
    progress: Progress = ignore,
) -> list[LayerData]:
    """Return the layers of files, of DICOM files that belong together, or of a folder.

    Parameters
    ----------
    paths : sequence of Path
        One file or folder, or several files.
    choose : callable, optional
        Asked where a folder offers several things or one that needs a step to be allowed. Without it, all that open as
        they are do, and where none does the sentence says why.
    progress : Progress, optional
        Told while headers and slices are read.

    Raises
    ------
    InputError
        Where nothing can be opened.
    """
    if all(path.is_file() and not is_dicom(path) for path in paths):
        return [layer for path in paths for layer in open_file(path)]
    from medseg.io.dicom import inspect_files, inspect_folder

    inventory = inspect_folder(paths[0], progress=progress) if len(paths) == 1 else inspect_files(list(paths))
    offers = [offer for item in inventory.items for offer in offers_of(item)]
    chosen = _chosen(offers, where=paths[0].name, choose=choose)
    images = [offer for offer in chosen if offer.kind == "image"]
    layers = [layer for offer in images for layer in open_offer(offer, progress=progress)]
    return layers + [mask_on(offer, layers) for offer in chosen if offer.kind == "mask"]


def open_file(path: Path) -> list[LayerData]:
    """Return the layers of one file that is no DICOM: Labels where its name says `mask`, `seg` or `label`."""
    name = path.name[: -len(suffix_of(path))]
    if _MASK_WORDS.search(name):
        try:
            return [labels_layer(read_segmentation(path), name=_name_of_mask(path, name))]
        except InputError:
            pass  # probabilities, or a scan that is called so
    return image_layers(read_volume(path), name=name)


def offers_of(item: Item) -> list[Offer]:
    """Return what can be opened of an item of an inventory: nothing for what is neither an image nor a mask."""
    if item.kind == "seg":
        return [Offer(item, item.id, "mask", words="DICOM SEG")]
    if item.kind not in {"series", "image", "volume"} or item.status == "ignored":
        return []
    offer = Offer(item, item.id, words=_in_words(item))
    if item.status == "refused":
        return [replace(offer, obstacle=item.reason or "refused")]
    return [offer] if item.source is None else _of_series(offer)


def _of_series(offer: Offer) -> list[Offer]:
    """Return an offer for each volume of a series, with the steps it needs."""
    item = offer.item
    needed = [f for f in item.findings if f.effect == "repairable"]
    unknown = next((f for f in needed if f.code not in _STEPS), None)
    if unknown is not None:
        return [replace(offer, obstacle=f"{unknown.message}. {unknown.remedy}")]
    steps = sorted({_STEPS[f.code] for f in needed} - {""})
    words = ", ".join((offer.words, *steps))
    allowed = _allowed({f.code for f in needed})
    if item.volumes == 1:
        return [replace(offer, words=words, repairs=allowed if needed else None)]
    return [
        replace(
            offer,
            name=f"{item.id} volume {n}",
            words=f"volume {n + 1} of {item.volumes}, {words}",
            repairs=replace(allowed, volume=n),
        )
        for n in range(item.volumes)
    ]


def open_offer(offer: Offer, *, progress: Progress = ignore) -> list[LayerData]:
    """Return the layers of an image that was chosen.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    item = offer.item
    if item.source is None:
        return open_file(item.files[0])
    from medseg.io.dicom import Repairs, read_series

    repairs = offer.repairs or Repairs()
    series = item.source.repaired(repairs)
    volume = read_series(item, repairs=repairs, progress=progress)
    return image_layers(volume, name=offer.name, modality=item.modality or "", series=series)


def mask_on(offer: Offer, layers: Sequence[LayerData]) -> LayerData:
    """Return the layer of a DICOM SEG: on the grid of that of the images it lies on, else on the least of its own.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    from medseg.io.dicom import read_seg

    path = offer.item.files[0]
    for layer in layers:
        source = layer.arguments["metadata"][KEY]
        try:
            return labels_layer(read_seg(path, onto=source.geometry), name=offer.name, of=source)
        except GeometryError:
            continue  # of another scan
    return labels_layer(read_seg(path), name=offer.name)


def _chosen(
    offers: Sequence[Offer], *, where: str, choose: Callable[[Sequence[Offer]], Sequence[Offer]] | None
) -> Sequence[Offer]:
    if not offers:
        raise InputError("no image is here", expected="DICOM or another image file", where=where)
    if len(offers) == 1 and offers[0].is_plain:
        return offers
    if len(offers) == 1 and offers[0].obstacle:
        raise InputError(offers[0].obstacle, where=where)
    if choose is not None:
        return choose(offers)
    plain = [offer for offer in offers if offer.is_plain]
    if not plain:
        words = "; ".join(f"{offer.name}: {offer.obstacle or offer.words}" for offer in offers[:3])
        raise InputError(
            f"nothing here opens as it is ({words})", where=where, remedy="Open the folder in napari's window"
        )
    return plain


def _allowed(codes: Iterable[str]) -> Repairs:
    from medseg.io.dicom import Repairs

    codes = set(codes)
    return Repairs(
        on_irregular="resample" if codes & {"missing-slice", "uneven-spacing"} else "refuse",
        mosaic="split" if "mosaic" in codes else "refuse",
    )


def _in_words(item: Item) -> str:
    size = "" if item.shape is None else " x ".join(map(str, item.shape[::-1]))
    spacing = "" if item.spacing_mm is None else " x ".join(f"{s:.3g}" for s in item.spacing_mm[::-1]) + " mm"
    plane = item.orientation if item.orientation != "none" else ""
    return ", ".join(part for part in (item.modality or "", plane, size, spacing) if part)


def _name_of_mask(path: Path, stem: str) -> str:
    """Return a mask's name: in an output folder of `medseg segment` all are called alike, and their folders differ."""
    return f"{path.parent.name} {stem}" if stem == "segmentation" and path.parent.name else stem


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
