"""Files that are not DICOM: volumes and images of the other formats, and what belongs to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.io import READABLE_SUFFIXES, check_length, describe, suffix_of
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.inventory.positions import oblique
from medseg.io.dicom.item import Item, id_of_file

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Geometry
    from medseg.io.description import Description
    from medseg.io.dicom.header.objects import Kind

_PICTURES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"})
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".dcm.gz", ".ima.gz")
_PAIRS = frozenset({".hdr", ".nhdr"})  # headers of formats in two files: images, but not ones that are read


def file_item(file: Path, root: Path) -> Item:
    """Return the item of a file that is not DICOM: header and length are checked, no voxel is read.

    Parameters
    ----------
    file : Path
        A file that is not empty.
    root : Path
        What the item's path is relative to.
    """
    suffix = suffix_of(file)
    if file.name.lower().endswith(_ARCHIVES):
        words = "an archive: what is in it was not looked at"
        return left_out(file, root, finding("not-dicom", words, remedy="Unpack it first, if it holds images"))
    if suffix not in READABLE_SUFFIXES and suffix not in _PAIRS:
        return left_out(file, root, finding("not-dicom", "not an image that medseg reads"))
    kind: Kind = "image" if suffix in _PICTURES else "volume"
    try:
        about = describe(file)
    except MedsegError as error:
        return left_out(file, root, finding("unreadable", error.found, remedy=error.remedy or None), kind="unreadable")
    found = [*_length(file), *(_picture(about) if kind == "image" else _volume(about))]
    relative = file.relative_to(root).as_posix()
    return Item(
        id=id_of_file(file.name, relative),
        kind=kind,
        paths=(relative,),
        root=root,
        shape=about.geometry.shape,
        volumes=1 if kind == "image" else about.volumes,
        spacing_mm=about.geometry.spacing_mm,
        geometry=about.geometry if about.is_placed else None,
        findings=tuple(found),
    )


def left_out(file: Path, root: Path, why: Finding, *, kind: Kind = "other") -> Item:
    """Return the item of a file that is no image, or cannot be read."""
    relative = file.relative_to(root).as_posix()
    return Item(id_of_file(file.name, relative) or "file", kind, (relative,), root, findings=(why,))


def _length(file: Path) -> list[Finding]:
    try:
        check_length(file)
    except MedsegError as error:
        return [finding("truncated", error.found, remedy=error.remedy or None)]
    return []


def _picture(about: Description) -> list[Finding]:
    if about.geometry.shape[0] > 1:
        return []
    return [finding("two-dimensional", "a two-dimensional image, without a place in the patient")]


def _volume(about: Description) -> list[Finding]:
    found = []
    if about.volumes > 1:
        words = f"{about.volumes} volumes or channels on one grid"
        found.append(finding("four-d", words))
    if not about.is_placed:
        words = "the file does not say where its voxels lie in the patient: left and right are not certain"
        found.append(finding("no-geometry", words, effect="ok", remedy=""))
        return found
    found.extend(_how_it_lies(about.geometry))
    return found


def _how_it_lies(geometry: Geometry) -> list[Finding]:
    found = []
    if geometry.is_sheared:
        found.append(finding("gantry-tilt", "the axes are not at right angles"))
    return [*found, *oblique(geometry)]
