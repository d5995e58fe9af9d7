"""Looking at every voxel: `inspect --deep` decodes what the headers promise, slice by slice, keeping none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError
from medseg.io.dicom.findings import RULES, Finding, finding
from medseg.progress import Progress, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.io.dicom.item import Item


def decoded(items: Sequence[Item], progress: Progress) -> tuple[Item, ...]:
    """Return the items with what decoding their voxels found; ignored and refused ones are as they were.

    Parameters
    ----------
    items : sequence of Item
        What the headers told.
    progress : Progress
        Told after each item (stage ``"decode"``); may cancel.
    """
    checked = []
    for done, item in enumerate(items):
        more = _faults(item) if item.status in {"ok", "repairable"} else ()
        checked.append(replace(item, findings=(*item.findings, *more)) if more else item)
        progress(Step("decode", done + 1, len(items), item.id))
    return tuple(checked)


def _faults(item: Item) -> tuple[Finding, ...]:
    try:
        count = _non_finite(item)
    except MedsegError as error:
        code = error.code if error.code in RULES else "undecodable"
        return (finding(code, str(error), remedy=error.remedy or None),)
    if count:
        return (finding("non-finite", f"{count} voxels are not numbers (NaN or infinite)"),)
    return ()


def _non_finite(item: Item) -> int:
    """Decode every voxel of an item; return how many are no numbers."""
    from medseg.io import read_volume
    from medseg.io.dicom.voxels.decoding import planes

    if item.source is None:
        return _count(read_volume(item.files[0]).array)
    modality = item.source.modality
    return sum(_count(plane) for volume in item.source.volumes for _, plane in planes(volume, modality=modality))


def _count(array: NDArray[np.generic]) -> int:
    return 0 if array.dtype.kind != "f" else int(array.size - np.count_nonzero(np.isfinite(array)))
