"""Proof that meshes are the surfaces of labels: closed, facing outwards, and between the right voxels.

Marching cubes puts a corner half way between each pair of neighbouring voxels of which one is in the label and one is
not, and none elsewhere. So the corners in a file tell for every such pair whether the surface parts it: a mesh of
another place, orientation, size or label cannot pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.io.mesh import SUFFIX, file_name, is_closed, label_boxes, numbered_corners, read_stl, volume_and_centroid
from medseg.io.planes import same_side

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.volume import Segmentation


@dataclass(frozen=True, slots=True)
class SurfaceCheck:
    """How far meshes are from the labels they stand for; of all labels the worst.

    Attributes
    ----------
    closed : bool
        Whether each surface is closed and faces outwards.
    grid_mm : float
        The largest distance of a corner from its place half way between two voxels.
    voxels_differing : int
        Pairs of neighbouring voxels that a surface should part and does not, or the other way round.
    centroid_mm : float
        The largest distance between the centroids of a surface's inside and of the label's voxels. A surface cuts
        corners off, so that it is not 0.
    volume_ml : float
        The largest difference between what a surface holds and the label's voxels, for the same reason.
    laterality : bool
        Whether both centroids are on the same side of the middle of the scan, left or right; those closer to it than a
        voxel are on none.
    """

    closed: bool
    grid_mm: float
    voxels_differing: int
    centroid_mm: float
    volume_ml: float
    laterality: bool


def check_surfaces(folder: Path, segmentation: Segmentation) -> SurfaceCheck:
    """Compare the meshes in a folder with the labels of a mask.

    Raises
    ------
    InputError
        Where a file is missing, too many, or cannot be read.
    """
    boxes = zip(segmentation.labels, label_boxes(segmentation), strict=True)
    present = {file_name(label): (label.id, box) for label, box in boxes if box is not None}
    there = {path.name for path in folder.iterdir() if path.suffix == SUFFIX}
    if there != set(present):
        raise InputError(
            f"the folder holds {len(there)} meshes", expected=f"{len(present)}, one per label that is there"
        )
    checks = [_one(folder / name, segmentation, id_, box) for name, (id_, box) in present.items()]
    return SurfaceCheck(
        closed=all(c.closed for c in checks),
        grid_mm=max((c.grid_mm for c in checks), default=0.0),
        voxels_differing=sum(c.voxels_differing for c in checks),
        centroid_mm=max((c.centroid_mm for c in checks), default=0.0),
        volume_ml=max((c.volume_ml for c in checks), default=0.0),
        laterality=all(c.laterality for c in checks),
    )


def _one(path: Path, segmentation: Segmentation, id_: int, box: tuple[slice, slice, slice]) -> SurfaceCheck:
    triangles = read_stl(path)
    if not len(triangles):
        raise InputError("the mesh holds no triangle", where=path.name)
    inside = np.pad(segmentation.array[box] == id_, 1)
    start = np.array([s.start for s in box]) - 1
    geometry = segmentation.geometry
    volume_mm3, centroid = volume_and_centroid(triangles)
    wanted = geometry.to_lps(_centre(inside) + start)
    middle = geometry.corners_lps.mean(axis=0)
    numbers, points = numbered_corners(triangles)
    off_mm, differing = _corners(points.astype(np.float64), inside, start=start, geometry=geometry)
    return SurfaceCheck(
        closed=volume_mm3 > 0 and is_closed(numbers),
        grid_mm=off_mm,
        voxels_differing=differing,
        centroid_mm=float(np.linalg.norm(centroid - wanted)),
        volume_ml=abs(volume_mm3 / 1000 - float(np.count_nonzero(inside)) * geometry.voxel_ml),
        laterality=same_side(
            (centroid - middle)[None], (wanted - middle)[None], within_mm=float(np.sum(geometry.spacing_mm))
        ),
    )


def _centre(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean index of what is inside."""
    counts = [inside.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array([float(c @ np.arange(len(c))) / float(c.sum()) for c in counts])


def _corners(
    points: NDArray[np.float64], inside: NDArray[np.bool_], *, start: NDArray[Any], geometry: Geometry
) -> tuple[float, int]:
    """Return how far corners are from half way between two voxels, and how many pairs are parted wrongly."""
    halves = np.rint(2 * (geometry.to_index(points) - start)).astype(np.int64)
    off_mm = float(np.linalg.norm(geometry.to_lps(halves / 2 + start) - points, axis=1).max())
    lower = halves // 2
    upper = (halves + 1) // 2
    is_between = ((upper - lower).sum(axis=1) == 1) & (lower >= 0).all(axis=1) & (upper < inside.shape).all(axis=1)
    lower, upper = lower[is_between], upper[is_between]
    parted = int(np.count_nonzero(inside[tuple(lower.T)] != inside[tuple(upper.T)]))
    to_part = sum(int(np.count_nonzero(np.diff(inside, axis=axis))) for axis in range(3))
    return off_mm, (to_part - parted) + (len(points) - parted)
