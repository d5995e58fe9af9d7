"""A binary mask in pieces: connected components, and components cut at their necks by a watershed.

Pieces are numbered from 1 by where they begin in memory. The watershed of a distance transform is a recipe of the
field's; its parts are

* the Euclidean distance to the background, in mm, smoothed by a Gaussian of one voxel against the steps of the grid;
* seeds: the regional maxima that stand out (Soille, Morphological Image Analysis, 2003, section 6.3.6), here by a ratio
  instead of a height, so that the result is the same in every unit: a part has a seed of its own where the distance on
  the way to every larger part falls below `neck` times its own largest distance. This is the h-maxima transform of the
  distance's logarithm with h = -log(neck);
* flooding from the seeds, in falling order of distance (Vincent and Soille, IEEE TPAMI 13, 1991; by markers: Meyer,
  Signal Processing 38, 1994), as ITK has it (Beare and Lehmann, Insight Journal 2006).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial import KDTree

from medseg.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_RANK = {6: 1, 18: 2, 26: 3}  # of the neighbourhood, by its number of voxels in three dimensions
_SMOOTHING = 1.0  # standard deviation, in sides of a voxel where it is shortest


def components(inside_zyx: NDArray[np.bool_], *, connectivity: int = 26) -> NDArray[np.int32]:
    """Return a number from 1 for every connected piece, 0 for background.

    Parameters
    ----------
    inside_zyx : (Z, Y, X) bool
        What to number.
    connectivity : {6, 18, 26}
        Which voxels hang together: by faces, also by edges, also by corners; within one slice 4, 8 and 8.

    Examples
    --------
    >>> components(np.array([[[True, False, True, True]]])).tolist()
    [[[1, 0, 2, 2]]]
    """
    structure = ndimage.generate_binary_structure(3, _RANK[connectivity])
    numbers: NDArray[np.int32] = ndimage.label(inside_zyx, structure)[0]
    return numbers


def watershed(
    inside_zyx: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    *,
    neck: float = 0.9,
    minimum_distance_mm: float = 0.0,
    connectivity: int = 26,
) -> NDArray[np.int32]:
    """Return a number from 1 for every connected piece, pieces cut where their necks are narrow; 0 for background.

    In a mask of one slice, distances are those within the slice.

    Parameters
    ----------
    inside_zyx : (Z, Y, X) bool
        What to number.
    spacing_mm : sequence of 3 float
        Distance between voxels along each axis; on sheared grids distances are those of the grid made right-angled.
    neck : float
        How wide two parts may be joined and still be two, as a part of the smaller one's width; between 0 and 1.
        Larger values cut more.
    minimum_distance_mm : float
        Of two parts whose middles are nearer than this only the larger keeps its seed.
    connectivity : {6, 18, 26}
        As for `components`; the flood runs by faces, or by faces, edges and corners.

    Raises
    ------
    PlanError
        Where `neck` or `minimum_distance_mm` is out of range.

    Examples
    --------
    >>> y, x = np.mgrid[:15, :27]
    >>> discs = (np.hypot(y - 7, x - 7) < 7) | (np.hypot(y - 7, x - 19) < 7)
    >>> int(components(discs[None]).max()), int(watershed(discs[None], (1.0, 1.0, 1.0)).max())
    (1, 2)
    """
    if not 0 < neck < 1:
        raise PlanError(f"the neck is {neck}", expected="a number between 0 and 1")
    if not (minimum_distance_mm >= 0 and math.isfinite(minimum_distance_mm)):
        raise PlanError(f"the minimum distance is {minimum_distance_mm} mm", expected="zero or more")
    whole = components(inside_zyx, connectivity=connectivity)
    flat = inside_zyx.shape.index(1) if 1 in inside_zyx.shape else None
    spacing = [float(side) for axis, side in enumerate(spacing_mm) if axis != flat]
    numbers, count = np.zeros_like(whole), 0
    for number, box in enumerate(ndimage.find_objects(whole), start=1):
        own = whole[box] == number
        relief = _relief(np.pad(own if flat is None else own.squeeze(flat), 1), spacing)
        seeds = _seeds(relief, spacing, neck=neck, minimum_distance_mm=minimum_distance_mm)
        flooded = _flooded(relief, seeds, by_corners=connectivity != 6)[(slice(1, -1),) * relief.ndim]
        numbers[box][own] = flooded.reshape(own.shape)[own] + count
        count += int(seeds.max())
    return _in_order(numbers)


def _relief(inside: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return the logarithm of the smoothed distance to the background; the background lies far below."""
    distance_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    sigma = [_SMOOTHING * min(spacing_mm) / side for side in spacing_mm]
    smooth = ndimage.gaussian_filter(distance_mm, sigma, mode="constant")
    relief = np.log(np.where(inside, smooth, 1.0))
    relief[~inside] = relief[inside].min() - 100.0  # e^100 times narrower: below every neck
    return relief.astype(np.float32)


def _seeds(
    relief: NDArray[np.float32], spacing_mm: Sequence[float], *, neck: float, minimum_distance_mm: float
) -> NDArray[np.int32]:
    """Return a number for each of the maxima that stand out and are far enough from larger ones."""
    tall = relief > relief.min()  # the lowest is background alone
    seeds, count = _joined(tall & (relief == ndimage.maximum_filter(relief, 3)))
    if count == 1:  # as most are: one top, one seed
        return seeds
    image = sitk.GetImageFromArray(relief)
    lowered = sitk.ReconstructionByDilation(
        sitk.GetImageFromArray(relief + np.float32(math.log(neck))), image, fullyConnected=True
    )
    tops = sitk.RegionalMaxima(lowered, fullyConnected=True)
    seeds, count = _joined(sitk.GetArrayFromImage(tops) > 0)
    if minimum_distance_mm == 0.0 or count == 1:
        return seeds
    ids = np.arange(1, count + 1)
    middles_mm = np.array(ndimage.center_of_mass(seeds > 0, seeds, ids)) * spacing_mm
    heights = np.asarray(ndimage.maximum(relief, seeds, ids))
    keep = _far_apart(middles_mm, heights, minimum_distance_mm)
    table = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)]).astype(np.int32)
    return table[seeds]


def _joined(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Return the pieces of a mask of any dimension, joined by corners too, and how many they are."""
    numbers, count = ndimage.label(inside, np.ones((3,) * inside.ndim))
    return numbers, int(count)


def _far_apart(middles_mm: NDArray[np.float64], heights: NDArray[Any], distance_mm: float) -> NDArray[np.bool_]:
    """Tell which points stay where, from the highest down, each takes away those nearer to it than a distance."""
    keep = np.ones(len(middles_mm), dtype=bool)
    order = np.argsort(-heights, kind="stable")
    near = KDTree(middles_mm).query_ball_point(middles_mm, distance_mm)
    done = np.zeros_like(keep)
    for point in order:
        done[point] = True
        if keep[point]:
            others = np.array(near[point])
            keep[others[~done[others]]] = False
    return keep


def _flooded(relief: NDArray[np.float32], seeds: NDArray[np.int32], *, by_corners: bool) -> NDArray[np.int32]:
    """Return the seed that the flood reaches each voxel from, the deepest water first."""
    if seeds.max() == 1:
        return np.ones_like(seeds)
    basins = sitk.MorphologicalWatershedFromMarkers(
        sitk.GetImageFromArray(-relief),
        sitk.GetImageFromArray(seeds.astype(np.uint32)),
        markWatershedLine=False,
        fullyConnected=by_corners,
    )
    flooded: NDArray[Any] = sitk.GetArrayFromImage(basins)
    return flooded.astype(np.int32)


def _in_order(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the pieces numbered from 1 by where they begin in memory."""
    found, first = np.unique(numbers, return_index=True)
    found, first = found[found > 0], first[found > 0]
    table = np.zeros(int(numbers.max(initial=0)) + 1, dtype=np.int32)
    table[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return table[numbers]
