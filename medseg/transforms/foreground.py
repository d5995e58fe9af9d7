"""Where a scan is not zero: skull-stripped and defaced images have nothing around what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from medseg.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nonzero(image_czyx: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where any channel is not zero, (Z, Y, X), holes filled, as nnU-Net has it (Isensee 2021)."""
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(_occupied(image_czyx))
    return filled


def nonzero_box(image_czyx: NDArray[Any]) -> Box:
    """Return the smallest box of voxels outside which all channels are zero; the whole image where all are.

    Examples
    --------
    >>> image = np.zeros((1, 4, 4, 4))
    >>> image[0, 1:3, 2, 2:] = 7
    >>> nonzero_box(image)
    Box(start=(1, 2, 2), stop=(3, 3, 4))
    """
    occupied = _occupied(image_czyx)
    if not occupied.any():
        return Box((0, 0, 0), (occupied.shape[0], occupied.shape[1], occupied.shape[2]))
    z, y, x = (
        np.flatnonzero(occupied.any(axis=tuple(other for other in range(3) if other != axis)))[[0, -1]]
        for axis in range(3)
    )
    return Box((int(z[0]), int(y[0]), int(x[0])), (int(z[1]) + 1, int(y[1]) + 1, int(x[1]) + 1))


def _occupied(image_czyx: NDArray[Any]) -> NDArray[np.bool_]:
    occupied: NDArray[np.bool_] = image_czyx[0] != 0
    for channel in image_czyx[1:]:
        occupied |= channel != 0
    return occupied
