"""Pictures of patches: what a network finds in them beside what is true, for those who watch a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SIDE = 256  # pixels of a panel's longer side, about
_GAP = 6
_FILL = 0.25  # how much of a label's colour covers its inside
_PERCENTILES = (0.5, 99.5)


def patch_picture(
    image_czyx: NDArray[Any], truth_zyx: NDArray[Any], found_zyx: NDArray[Any], colors: Sequence[tuple[int, int, int]]
) -> NDArray[np.uint8]:
    """Draw the slice of a patch with most of the structures: the truth on the left, what was found on the right.

    Labels have their colours; on the right a white line is the truth's outline.

    Parameters
    ----------
    image_czyx : (C, Z, Y, X) or (C, Y, X) array
        The patch, of which the first channel is drawn.
    truth_zyx, found_zyx : (Z, Y, X) or (Y, X) integer arrays
        Classes: 0 for background, n for the n-th label; below 0 is ignored.
    colors : sequence of (red, green, blue)
        Of the labels, in order.

    Returns
    -------
    (rows, columns, 3) uint8 array
        The picture.

    Examples
    --------
    >>> mask = np.zeros((4, 16, 16), dtype=np.int64)
    >>> mask[2, 4:9, 4:9] = 1
    >>> patch_picture(mask[None] * 1.0, mask, mask, [(255, 0, 0)]).shape
    (256, 518, 3)
    """
    image, truth, found = image_czyx[0].astype(np.float32), truth_zyx, found_zyx
    if image.ndim == 3:
        index = _fullest(truth, found)
        image, truth, found = image[index], truth[index], found[index]
    times = max(1, round(_SIDE / max(image.shape)))
    low, high = np.percentile(image, _PERCENTILES)
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0.0, 1.0) * 255.0
    size = (image.shape[1] * times, image.shape[0] * times)
    scaled = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
    fine_truth, fine_found = (np.kron(m.astype(np.int64), np.ones((times, times), np.int64)) for m in (truth, found))
    palette = np.array([(0, 0, 0), *colors], dtype=np.float32)
    left, right = (_covered(scaled, mask.clip(0), palette) for mask in (fine_truth, fine_found))
    right[_outline(fine_truth.clip(0))] = 255.0
    gap = np.zeros((len(left), _GAP, 3), dtype=np.float32)
    return np.concatenate([left, gap, right], axis=1).round().astype(np.uint8)


def _fullest(truth: NDArray[Any], found: NDArray[Any]) -> int:
    """Return the slice with most of the truth; where there is none, with most of what was found; else the middle."""
    for mask in (truth, found):
        area = (mask > 0).sum(axis=(1, 2))
        if area.any():
            return int(area.argmax())
    return len(truth) // 2


def _covered(grey: NDArray[np.float32], mask: NDArray[np.int64], palette: NDArray[np.float32]) -> NDArray[np.float32]:
    share = np.where(_outline(mask), 1.0, np.where(mask > 0, _FILL, 0.0)).astype(np.float32)[..., None]
    mixed: NDArray[np.float32] = grey[..., None] * (1.0 - share) + palette[mask] * share
    return mixed


def _outline(mask: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the inner edge of every label, a pixel wide."""
    edge: NDArray[np.bool_] = (mask > 0) & (ndimage.minimum_filter(mask, 3) != ndimage.maximum_filter(mask, 3))
    return edge
