"""What `inspect` says: items (a series, a volume, an image, something left out) and the inventory of a folder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from medseg.io.dicom.findings import Finding, Status, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from medseg.geometry import Geometry
    from medseg.io.dicom.header.objects import Kind
    from medseg.io.dicom.source import SourceSeries

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_CHANNEL = re.compile(r"_0000$")  # nnU-Net's mark of a first channel
_LONGEST_ID = 100
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))})


@dataclass(frozen=True, slots=True)
class Traits:
    """What a selection may ask for beside kind and grid. People write these texts: they are matched, never written.

    Attributes
    ----------
    description, protocol : str
        Of the series, as the scanner's operator named them.
    body_part : str
        BodyPartExamined.
    study_uid, frame_uid : str
        What tells which series belong together.
    """

    description: str = ""
    body_part: str = ""
    protocol: str = ""
    study_uid: str = ""
    frame_uid: str = ""


@dataclass(frozen=True, eq=False)
class Item:
    """One thing found under a path.

    Attributes
    ----------
    id : str
        Safe on every file system, never from a patient attribute.
    kind : str
        series, volume, image, seg, rtstruct, other or unreadable.
    paths : tuple of str
        Relative to the inventory's path, with ``/``; slices first and in order, then copies.
    modality, transfer_syntax : str or None
    shape : tuple of int or None
        Voxels along (Z, Y, X) of one volume.
    volumes : int
        Volumes on that grid.
    spacing_mm : tuple of float or None
        Along (Z, Y, X).
    geometry : Geometry or None
        The grid, where there is one.
    findings : tuple of Finding
    root : Path
        What `paths` are relative to.
    source : SourceSeries or None
        For a DICOM series or image: what `read_series` needs.
    traits : Traits
        For a DICOM series or image: what it is called.
    """

    id: str
    kind: Kind
    paths: tuple[str, ...]
    root: Path
    modality: str | None = None
    transfer_syntax: str | None = None
    shape: tuple[int, int, int] | None = None
    volumes: int = 1
    spacing_mm: tuple[float, float, float] | None = None
    geometry: Geometry | None = None
    findings: tuple[Finding, ...] = ()
    source: SourceSeries | None = field(default=None, repr=False)
    traits: Traits = field(default_factory=Traits, repr=False)

    @property
    def status(self) -> Status:
        """Ok, repairable, refused or ignored, by the gravest finding."""
        return status_of(self.findings)

    @property
    def orientation(self) -> str:
        """Plane of the slices: axial, coronal, sagittal or oblique; none where there is no grid."""
        return "none" if self.geometry is None else self.geometry.orientation

    @property
    def files(self) -> tuple[Path, ...]:
        """The item's files."""
        return tuple(self.root / path for path in self.paths)

    @property
    def reason(self) -> str:
        """Why it is not ok, in one line: the gravest findings' messages; empty where it is ok."""
        return "; ".join(f.message for f in self.findings if f.effect == self.status != "ok")

    def renamed(self, item_id: str) -> Item:
        """Return the same item under another id."""
        source = None if self.source is None else replace(self.source, id=item_id)
        return replace(self, id=item_id, source=source)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the contract."""
        return {
            "id": self.id,
            "kind": self.kind,
            "paths": list(self.paths),
            "modality": self.modality,
            "transfer_syntax": self.transfer_syntax,
            "shape": None if self.shape is None else list(self.shape),
            "volumes": self.volumes,
            "spacing_mm": None if self.spacing_mm is None else [round(s, 6) for s in self.spacing_mm],
            "orientation": self.orientation,
            "affine_lps": None if self.geometry is None else self.geometry.affine.tolist(),
            "status": self.status,
            "findings": [f.to_json() for f in self.findings],
        }


@dataclass(frozen=True, eq=False)
class Inventory:
    """Everything under a path: each file in exactly one item.

    Attributes
    ----------
    path : Path
        What was looked at.
    items : tuple of Item
        In the order of their first files.
    """

    path: Path
    items: tuple[Item, ...]

    @property
    def files(self) -> int:
        """Number of files found."""
        return sum(len(item.paths) for item in self.items)

    def with_status(self, *statuses: Status) -> tuple[Item, ...]:
        """Return the items of these statuses."""
        return tuple(item for item in self.items if item.status in statuses)

    def __getitem__(self, item_id: str) -> Item:
        """Return the item with `item_id`; a `KeyError` where there is none."""
        for item in self.items:
            if item.id == item_id:
                return item
        raise KeyError(item_id)

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``medseg inspect --json``."""
        return {"path": str(self.path), "files": self.files, "items": [item.to_json() for item in self.items]}


def short_hash(*parts: str) -> str:
    """Return 8 hexadecimal digits of a SHA-256 over `parts`."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def id_of_file(name: str, relative: str) -> str:
    """Return the id of a file of one volume or image: its name without suffix, made safe.

    Where a character had to be replaced, 8 hexadecimal digits of the hash of the relative path follow.

    Examples
    --------
    >>> id_of_file("case_07_0000.nii.gz", "case_07_0000.nii.gz"), id_of_file("über.png", "a/über.png")
    ('case_07', 'ber-98d8705b')
    """
    stem = re.sub(r"\.(nii|hdr|img)$", "", name.removesuffix(".gz").rsplit(".", 1)[0] if "." in name[1:] else name)
    stem = _CHANNEL.sub("", stem)
    safe = _UNSAFE.sub("-", stem).strip("-.")[:_LONGEST_ID]
    if safe == stem and safe.lower() not in _DEVICES:
        return safe
    return f"{safe[: _LONGEST_ID - 9]}-{short_hash(relative)}".lstrip("-")


def id_of_series(modality: str, *identity: str) -> str:
    """Return the id of a DICOM object: its modality and 8 hexadecimal digits of what identifies it.

    Examples
    --------
    >>> id_of_series("CT", "1.2.3")
    'ct-c47f5b18'
    """
    word = _UNSAFE.sub("", modality.lower())[:16] or "dicom"
    return f"{word}-{short_hash(*identity)}"


def told_apart(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return the items with a hash of the relative path behind every id that occurs twice, ignoring case."""
    items = tuple(items)
    seen: dict[str, int] = {}
    for item in items:
        seen[item.id.lower()] = seen.get(item.id.lower(), 0) + 1
    told = []
    for item in items:
        if seen[item.id.lower()] > 1:
            told.append(item.renamed(f"{item.id[: _LONGEST_ID - 9]}-{short_hash(item.paths[0])}"))
        else:
            told.append(item)
    return tuple(told)
