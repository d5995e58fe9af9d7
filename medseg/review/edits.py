"""Tools of a reviewer as pure functions: a block of a mask in, a new block out. Nothing outside the block is looked at.

Tools work on a block rather than on a whole scan, so that they stay quick on large ones: `label_box` gives the box a
label needs, and `medseg.review.changes.Edit.of_block` makes the edit of what comes out. No tool changes a label it was
not asked to change, and none writes over another label unless it says so.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from medseg.errors import InputError
from medseg.geometry import Box
from medseg.postprocess import fill_holes as filled_holes
from medseg.postprocess import keep_largest, remove_small

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_HALF = 0.5
_REACH = 3.0  # widths of a Gaussian beyond which nothing of it is left that a half could see


def label_box(mask_zyx: NDArray[Any], label_id: int, *, margin: Sequence[int] = (0, 0, 0)) -> Box | None:
    """Return the smallest box that holds a label, grown by `margin` voxels to each side inside the mask.

    Parameters
    ----------
    mask_zyx : (Z, Y, X) unsigned integer
        Label ids, 0 for background.
    label_id : int
        The label; ``None`` is returned where it is absent.
    margin : sequence of int
        Along (Z, Y, X).

    Examples
    --------
    >>> mask = np.zeros((4, 5, 6), np.uint8)
    >>> mask[1:3, 2, 3] = 7
    >>> label_box(mask, 7, margin=(0, 1, 1))
    Box(start=(1, 1, 2), stop=(3, 4, 5))
    """
    slices = np.fromiter(((slice_yx == label_id).any() for slice_yx in mask_zyx), bool, len(mask_zyx))
    if not slices.any():
        return None
    first, last = _ends(slices)
    plane: NDArray[np.bool_] = np.zeros(mask_zyx.shape[1:], np.bool_)
    for slice_yx in mask_zyx[first:last]:
        plane |= slice_yx == label_id
    ends = ((first, last), *(_ends(np.asarray(plane.any(axis=n))) for n in (1, 0)))
    low = [max(0, a - m) for (a, _), m in zip(ends, margin, strict=True)]
    high = [min(n, b + m) for (_, b), m, n in zip(ends, margin, mask_zyx.shape, strict=True)]
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def remove_islands(block_zyx: NDArray[Any], label_id: int, *, minimum_voxels: int | None = None) -> NDArray[Any]:
    """Return a block without the islands of a label: all pieces but the largest, or those below a size.

    Pieces hang together by the 26 neighbours of a voxel; see `medseg.postprocess`.

    Parameters
    ----------
    block_zyx : (Z, Y, X) unsigned integer
        The box of the label (`label_box`), or the pieces would be cut.
    label_id : int
        Whose islands go.
    minimum_voxels : int, optional
        Pieces smaller than this go; by default all but the largest.

    Examples
    --------
    >>> remove_islands(np.array([[[1, 0, 1, 1, 0, 2]]], np.uint8), 1).ravel().tolist()
    [0, 0, 1, 1, 0, 2]
    """
    if minimum_voxels is None:
        return keep_largest(block_zyx, [label_id])
    return remove_small(block_zyx, [label_id], minimum_voxels=minimum_voxels)


def fill_holes(block_zyx: NDArray[Any], label_id: int, *, axis: int | None = None) -> NDArray[Any]:
    """Return a block in which background that a label encloses is filled with it.

    Parameters
    ----------
    block_zyx : (Z, Y, X) unsigned integer
        The box of the label.
    label_id : int
        What encloses, and fills.
    axis : int, optional
        Fill what is enclosed in the slices across this axis; by default only what is enclosed on all sides in space.

    Examples
    --------
    >>> tube = np.array([[[3, 3, 3], [3, 0, 3], [3, 3, 3]]] * 2, np.uint8)
    >>> int(fill_holes(tube, 3)[0, 1, 1]), int(fill_holes(tube, 3, axis=0)[0, 1, 1])
    (0, 3)
    """
    if axis is None:
        return filled_holes(block_zyx, [label_id])
    result = block_zyx.copy()
    for view in np.moveaxis(result, axis, 0):  # views, written through
        view[ndimage.binary_fill_holes(view == label_id) & (view == 0)] = label_id
    return result


def smooth(block_zyx: NDArray[Any], label_id: int, *, sigma_mm: float, spacing_mm: Sequence[float]) -> NDArray[Any]:
    """Return a block with a label's surface smoothed: its indicator is blurred, and what is above a half belongs to it.

    Bumps and dents narrower than about `sigma_mm` go; so does what is thinner as a whole, and a ball of radius r loses
    about sigma² / r of it. The label grows into background only, and what it leaves becomes background.

    Parameters
    ----------
    block_zyx : (Z, Y, X) unsigned integer
        The box of the label with a margin of `smoothing_margin`.
    label_id : int
        What to smooth.
    sigma_mm : float
        Standard deviation of the Gaussian.
    spacing_mm : sequence of float
        Along (Z, Y, X).

    Raises
    ------
    InputError
        Where `sigma_mm` is not above zero.

    Examples
    --------
    >>> plate = np.zeros((1, 9, 9), np.uint8)
    >>> plate[0, 2:7, 2:7] = 1
    >>> plate[0, 4, 7] = 1  # a bump
    >>> int(smooth(plate, 1, sigma_mm=1.0, spacing_mm=(1, 1, 1))[0, 4, 7])
    0
    """
    if not sigma_mm > 0:
        raise InputError(f"the width of the smoothing is {sigma_mm} mm", expected="more than zero")
    sigmas = [0.0 if n == 1 else sigma_mm / s for n, s in zip(block_zyx.shape, spacing_mm, strict=True)]
    inside = block_zyx == label_id
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigmas, mode="nearest", truncate=_REACH)
    result = block_zyx.copy()
    result[inside & (weight <= _HALF)] = 0
    result[(block_zyx == 0) & (weight > _HALF)] = label_id
    return result


def smoothing_margin(sigma_mm: float, spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    """Return how far the smoothing looks, in voxels along (Z, Y, X).

    Examples
    --------
    >>> smoothing_margin(2.0, (5.0, 1.0, 1.0))
    (2, 6, 6)
    """
    z, y, x = (int(np.ceil(_REACH * sigma_mm / s)) for s in spacing_mm)
    return z, y, x


def fill_between(
    block_zyx: NDArray[Any], label_id: int, *, axis: int = 0, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> NDArray[Any]:
    """Return a block in which the slices between drawn ones are filled by shape-based interpolation.

    Every drawn slice becomes a map of signed distance to the outline, positive inside; in a slice between two drawn
    ones the maps are averaged by how near each is, and what is positive belongs to the label (Raya and Udupa, IEEE
    Transactions on Medical Imaging 9:32, 1990; Herman, Zheng and Bucholtz, IEEE Computer Graphics and Applications
    12(3):69, 1992; here with Euclidean distances in mm). Slices where the label is drawn stay as they are; outlines of
    two neighbours that do not overlap may leave a gap between them.

    Parameters
    ----------
    block_zyx : (Z, Y, X) unsigned integer
        The box of the label.
    label_id : int
        What was drawn in some slices.
    axis : int
        The slices lie across this axis: 0, 1 or 2.
    spacing_mm : sequence of float
        Along (Z, Y, X); only the spacing within the slices counts.

    Raises
    ------
    InputError
        Where the label is in no two slices with a gap between.

    Examples
    --------
    >>> block = np.zeros((3, 1, 7), np.uint8)
    >>> block[0, 0, 3:4] = block[2, 0, 1:6] = 1
    >>> fill_between(block, 1)[1, 0].tolist()
    [0, 0, 1, 1, 1, 0, 0]
    """
    result = block_zyx.copy()
    slices = np.moveaxis(result, axis, 0)
    within_mm = [s for n, s in enumerate(spacing_mm) if n != axis]
    drawn = [n for n, view in enumerate(slices) if (view == label_id).any()]
    gaps = [(a, b) for a, b in itertools.pairwise(drawn) if b - a > 1]
    if not gaps:
        raise InputError(
            "there is no gap between drawn slices", remedy="Draw the label in two slices with empty ones between them"
        )
    for first, last in gaps:
        below, above = (_signed_distance(slices[n] == label_id, within_mm) for n in (first, last))
        for n in range(first + 1, last):
            share = (n - first) / (last - first)
            view = slices[n]
            view[((1 - share) * below + share * above > 0) & (view == 0)] = label_id
    return result


def threshold_within(
    block_zyx: NDArray[Any],
    image_zyx: NDArray[Any],
    brush_zyx: NDArray[np.bool_],
    *,
    label_id: int,
    low: float,
    high: float,
) -> NDArray[Any]:
    """Return a block in which the brush painted only voxels of an intensity between two limits, both included.

    Parameters
    ----------
    block_zyx : (Z, Y, X) unsigned integer
        Labels.
    image_zyx : (Z, Y, X)
        Intensities of the same voxels, HU for CT.
    brush_zyx : (Z, Y, X) bool
        Where the brush was.
    label_id : int
        What to paint; background (0) removes what lies between the limits. Other labels are painted over.
    low, high : float
        The limits.

    Raises
    ------
    InputError
        Where the limits leave nothing.

    Examples
    --------
    >>> image = np.array([[[-100, 40, 60, 300]]], np.int16)
    >>> brush = np.array([[[True, True, True, True]]])
    >>> threshold_within(np.zeros_like(image, np.uint8), image, brush, label_id=2, low=0, high=100).ravel().tolist()
    [0, 2, 2, 0]
    """
    if not low <= high:
        raise InputError(f"the limits are {low:g} and {high:g}", expected="the lower one first")
    result = block_zyx.copy()
    result[brush_zyx & (image_zyx >= low) & (image_zyx <= high)] = label_id
    return result


def _signed_distance(inside_yx: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Return the distance in mm to the outline half-way between voxels, positive inside.

    The distance transform measures to the centre of the nearest voxel on the other side: half a step too far on both.
    """
    within = ndimage.distance_transform_edt(inside_yx, sampling=spacing_mm)
    without = ndimage.distance_transform_edt(~inside_yx, sampling=spacing_mm)
    half = min(spacing_mm) / 2
    signed: NDArray[np.float64] = np.where(inside_yx, within - half, half - without)
    return signed


def _ends(some: NDArray[np.bool_]) -> tuple[int, int]:
    found = np.flatnonzero(some)
    return int(found[0]), int(found[-1]) + 1
