"""Voxels that are no numbers: refused, or filled where a person allows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.io.dicom.findings import RULES, Finding, finding
from medseg.volume import let_go

if TYPE_CHECKING:
    from medseg.volume import Volume

_CODE = "non-finite"


def finite(volume: Volume, *, fill: bool) -> tuple[Volume, tuple[Finding, ...]]:
    """Return a scan of numbers only, and what was done to it.

    Parameters
    ----------
    volume : Volume
        (C, Z, Y, X) of any type.
    fill : bool
        Whether NaN and infinities are set to the lowest finite value of their channel.

    Raises
    ------
    InputError
        Where a voxel is not finite and may not be filled, or no voxel of a channel is finite.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.volume import Volume
    >>> scan = Volume(np.array([[[[2.0, np.nan, 7.0]]]], np.float32), Geometry((1, 1, 3), np.eye(4)))
    >>> mended, (found,) = finite(scan, fill=True)
    >>> mended.array.ravel().tolist(), found.message[:7]
    ([2.0, 2.0, 7.0], '1 voxel')
    """
    lacking = _count(volume)
    if not lacking:
        return volume, ()
    voxels = "1 voxel that is no number" if lacking == 1 else f"{lacking} voxels that are no numbers"
    if not fill:
        found = f"the scan holds {voxels} (NaN or infinity)"
        raise InputError(found, remedy=RULES[_CODE].remedy, code=_CODE)
    array = volume.array.copy()
    for image_zyx in array:
        known = np.isfinite(image_zyx)
        if not known.any():
            raise InputError("no voxel of the scan is a number", remedy="Export the scan again", code=_CODE)
        image_zyx[~known] = image_zyx[known].min()
    words = f"{voxels} set to the lowest finite value, as --on-nonfinite fill asks"
    return replace(volume, array=array), (finding(_CODE, words, effect="ok", remedy=""),)


def _count(volume: Volume) -> int:
    if volume.array.dtype.kind != "f":
        return 0
    known = sum(int(np.isfinite(image_yx).sum()) for image_zyx in volume.array for image_yx in image_zyx)
    let_go(volume.array)
    return int(volume.array.size) - known
