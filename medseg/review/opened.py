"""A case as it lies on the reviewer's desk: scan, mask with all edits, and what can be undone."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.review.changes import History
from medseg.review.recovery import Base, EditJournal, base_of, recover
from medseg.volume import Segmentation, id_type

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.labels import LabelSet
    from medseg.review.cases import ReviewCase
    from medseg.review.versions import Version, Versions
    from medseg.volume import Volume

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(eq=False)
class OpenCase:
    """A case as it lies on the desk.

    Attributes
    ----------
    case : ReviewCase
    scan : Volume
        The image.
    mask : (Z, Y, X) unsigned integer
        The mask with all edits, on the scan's grid; edited in place.
    labels : LabelSet
        What its values mean.
    version : Version
        What the edits are made on.
    recovered : int
        How many edits of an earlier session were brought back.
    history : History
        What can be undone.
    steps : int or None
        How many edits the mask is away from `version`; ``None`` where nobody can tell any more.
    has_parts : bool
        Whether the journal holds parts of an edit that was not ended.
    """

    case: ReviewCase
    scan: Volume
    mask: NDArray[Any]
    labels: LabelSet
    version: Version
    journal: EditJournal
    recovered: int = 0
    history: History = field(default_factory=History)
    steps: int | None = 0
    has_parts: bool = False

    @property
    def is_edited(self) -> bool:
        """Whether the mask is another than that of `version`."""
        return self.steps != 0

    @property
    def segmentation(self) -> Segmentation:
        """A copy of the mask as it is now."""
        return Segmentation(self.mask.copy(), self.scan.geometry, self.labels)


def read_open(case: ReviewCase, versions: Versions, journal: Path, *, undo_bytes: int) -> OpenCase:
    """Return a case with its scan, its newest mask and the edits in the journal, which are made again.

    Raises
    ------
    InputError, GeometryError
        Where scan or mask cannot be read, or lie on different grids.
    """
    scan = case.read_image()
    base = base_of(journal)
    version = versions.get(base.version) if base is not None else versions.latest()
    mask = case.read_mask(scan)
    labels = mask.labels
    if version.number:
        mask = case.on_scan(versions.read(version.number, labels=labels), scan)
    array = np.array(mask.array, dtype=id_type(labels), order="C")
    now = Base(version.number, version.sha256, array.shape, array.dtype.name)
    recovered = recover(journal, array, now)
    return OpenCase(
        case=case,
        scan=scan,
        mask=array,
        labels=labels,
        version=version,
        journal=EditJournal(journal, now),
        recovered=recovered,
        history=History(undo_bytes),
        steps=None if recovered else 0,
    )


def file_name(who: str) -> str:
    """Return a reviewer's name as part of a file name; different names stay different.

    Examples
    --------
    >>> file_name("ada"), file_name("Ada Lovelace")
    ('ada', 'Ada_Lovelace-76740216')
    """
    kept = _UNSAFE.sub("_", who)[:40]
    return kept if kept == who else f"{kept}-{hashlib.sha256(who.encode()).hexdigest()[:8]}"
