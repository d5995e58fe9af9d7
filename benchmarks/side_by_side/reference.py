"""What the labels should be: every window added up in double precision, and scores interpolated at every voxel.

Written apart from the package, of NumPy alone: windows by nnU-Net's even spacing, Gaussian weights of an eighth of the
window, sums over all windows divided by sums of weights, linear interpolation along each axis, the largest score.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.volume import Volume

OVERLAP = 0.5
SLICES_AT_ONCE = 4


def starts_of(size: int, patch: int) -> list[int]:
    """Return the first voxel of every window along an axis.

    Examples
    --------
    >>> starts_of(244, 128), starts_of(100, 128)
    ([0, 58, 116], [0])
    """
    if size <= patch:
        return [0]
    gaps = math.ceil((size - patch) / (patch * (1 - OVERLAP)))
    return [round((size - patch) / gaps * i) for i in range(gaps + 1)]


def windows_of(shape: Sequence[int], patch: int) -> list[tuple[int, ...]]:
    """Return the first voxel of every window."""
    return list(itertools.product(*(starts_of(n, patch) for n in shape)))


def bump(patch: int, *, flat: bool) -> NDArray[np.float64]:
    """Return a window's weights (patch, patch, patch); `flat` ones are the control that must not agree."""
    if flat:
        return np.ones((patch,) * 3)
    offset = np.arange(patch) - (patch - 1) / 2
    line = np.exp(-0.5 * (offset / (patch / 8)) ** 2)
    return line[:, None, None] * line[:, None] * line


def positions(native: Geometry, working: Geometry, axis: int) -> NDArray[np.float64]:
    """Return where the scan's voxels lie along an axis of the network's grid; both are parallel."""
    index = np.zeros((native.shape[axis], 3))
    index[:, axis] = np.arange(native.shape[axis])
    along = working.to_index(native.to_lps(index))[:, axis]
    return np.clip(along, 0, working.shape[axis] - 1)


def labels_of(
    predict: Callable[[torch.Tensor], torch.Tensor],
    image: Volume,
    native: Geometry,
    *,
    patch: int,
    crop: Sequence[slice],
    flat: bool = False,
) -> NDArray[np.int64]:
    """Return the labels of a crop of the scan.

    Parameters
    ----------
    predict : callable
        The network: (1, 1, z, y, x) to (1, classes, z, y, x), float32.
    image : Volume
        The scan as the network sees it.
    native : Geometry
        The scan's grid, parallel to the image's.
    patch : int
        Side of a window; no axis of the image is shorter.
    crop : three slices
        Voxels of the scan.
    flat : bool
        Whether all weights are one: the control.
    """
    wanted = [positions(native, image.geometry, axis)[part] for axis, part in enumerate(crop)]
    first = [math.floor(p[0]) for p in wanted]
    last = [math.ceil(p[-1]) + 1 for p in wanted]
    scores = _blended(predict, image.array[0], patch, (first, last), flat=flat)
    along_y, along_x = (_lines(wanted[a] - first[a], scores.shape[a + 1]) for a in (1, 2))
    labels = []
    for begin in range(0, len(wanted[0]), SLICES_AT_ONCE):
        part = wanted[0][begin : begin + SLICES_AT_ONCE] - first[0]
        thick = np.einsum("zs,ksyx->kzyx", _lines(part, scores.shape[1]), scores, optimize=True)
        labels.append((along_y @ thick @ along_x.T).argmax(axis=0))
    return np.concatenate(labels)


def _blended(
    predict: Callable[[torch.Tensor], torch.Tensor],
    image_zyx: NDArray[np.float32],
    patch: int,
    box: tuple[list[int], list[int]],
    *,
    flat: bool,
) -> NDArray[np.float64]:
    """Return the scores (classes, z, y, x) of a box of the network's grid."""
    first, last = box
    weights = bump(patch, flat=flat)
    total, norm = np.zeros(0), np.zeros([b - a for a, b in zip(first, last, strict=True)])
    for start in windows_of(image_zyx.shape, patch):
        low = [max(s, a) for s, a in zip(start, first, strict=True)]
        high = [min(s + patch, b) for s, b in zip(start, last, strict=True)]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            continue
        window = tuple(slice(s, s + patch) for s in start)
        with torch.inference_mode():
            logits = predict(torch.from_numpy(np.ascontiguousarray(image_zyx[window]))[None, None])[0].numpy()
        if not total.size:
            total = np.zeros((len(logits), *norm.shape))
        inside = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        place = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
        total[(slice(None), *place)] += logits[(slice(None), *inside)] * weights[inside]
        norm[place] += weights[inside]
    return total / norm


def _lines(where: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the matrix of linear interpolation at positions along an axis of `size` voxels."""
    lower = np.minimum(where.astype(np.int64), max(0, size - 2))
    matrix = np.zeros((len(where), size))
    rows = np.arange(len(where))
    matrix[rows, lower] = 1 - (where - lower)
    matrix[rows, np.minimum(lower + 1, size - 1)] += where - lower
    return matrix
