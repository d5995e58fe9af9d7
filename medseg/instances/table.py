"""A table of objects: number, label, size and place; and how many there are of each label."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.instances.objects import Objects

COLUMNS = (
    "object",
    "label",
    "name",
    "voxels",
    "volume_ml",
    "area_mm2",
    "diameter_mm",
    "centroid_l_mm",
    "centroid_p_mm",
    "centroid_s_mm",
    "z_first",
    "z_last",
    "y_first",
    "y_last",
    "x_first",
    "x_last",
)
_MM3_PER_ML = 1000.0
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Measured:
    """One object.

    Attributes
    ----------
    number, label_id : int
        Its number, and the id of its label.
    voxels : int
    volume_ml : float
    area_mm2 : float or None
        On a grid of one slice: its area in the slice.
    diameter_mm : float
        Of the ball of its volume; on a grid of one slice, of the disc of its area.
    centroid_lps : tuple of 3 float, mm
        The mean place of its voxels.
    first, last : tuple of 3 int
        The corners of its box: the first and the last voxel along (Z, Y, X), both in it.
    """

    number: int
    label_id: int
    voxels: int
    volume_ml: float
    area_mm2: float | None
    diameter_mm: float
    centroid_lps: tuple[float, float, float]
    first: tuple[int, int, int]
    last: tuple[int, int, int]


def measured(objects: Objects) -> tuple[Measured, ...]:
    """Return size and place of every object, by rising number.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.instances import Objects
    >>> from medseg.labels import LabelSet
    >>> array = np.zeros((2, 3, 4), np.uint16)
    >>> array[:, 1, 1:3] = 1
    >>> grid = Geometry((2, 3, 4), np.diag([5.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]])
    >>> (row,) = measured(Objects(array, grid, LabelSet.from_names({7: "stone"}), (7,)))
    >>> row.voxels, round(row.volume_ml, 3), row.centroid_lps, row.first, row.last
    (4, 0.02, (1.5, 1.0, 2.5), (0, 1, 1), (1, 1, 2))
    """
    grid, count = objects.geometry, len(objects.label_ids)
    if not count:
        return ()
    voxels, centres = _moments(objects.array, count)
    places = grid.to_lps(centres)
    pixel_mm2 = _pixel_mm2(grid)
    rows = []
    for number, box in enumerate(ndimage.find_objects(objects.array, max_label=count), start=1):
        size = int(voxels[number - 1])
        volume_ml = size * grid.voxel_ml
        area_mm2 = None if pixel_mm2 is None else size * pixel_mm2
        first, last = _corners(box)
        l_mm, p_mm, s_mm = places[number - 1].tolist()
        diameter_mm = _diameter_mm(volume_ml * _MM3_PER_ML, area_mm2)
        label_id = objects.label_ids[number - 1]
        rows.append(Measured(number, label_id, size, volume_ml, area_mm2, diameter_mm, (l_mm, p_mm, s_mm), first, last))
    return tuple(rows)


def summarised(objects: Objects, rows: Sequence[Measured]) -> tuple[dict[str, Any], ...]:
    """Return, for every label that was taken apart, how many objects it has and how large they are.

    Returns
    -------
    tuple of dict
        ``id``, ``name``, ``count``, and ``volume_ml`` (on a grid of one slice also ``area_mm2``): ``mean``, ``median``,
        ``min`` and ``max`` over the objects, ``None`` where there is none.
    """
    entries = []
    for label in objects.labels:
        own = [row for row in rows if row.label_id == label.id]
        entry: dict[str, Any] = {"id": label.id, "name": label.name, "count": len(own)}
        entry["volume_ml"] = _spread([row.volume_ml for row in own])
        if 1 in objects.geometry.shape:
            entry["area_mm2"] = _spread([row.area_mm2 for row in own if row.area_mm2 is not None])
        entries.append(entry)
    return tuple(entries)


def table_text(objects: Objects, rows: Sequence[Measured]) -> str:
    """Return the table as CSV with `COLUMNS`; places in LPS mm, boxes in voxels from 0, both ends in them."""
    names = {label.id: label.name for label in objects.labels}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        area = "" if row.area_mm2 is None else round(row.area_mm2, _DECIMALS)
        sizes = (row.voxels, round(row.volume_ml, _DECIMALS), area, round(row.diameter_mm, _DECIMALS))
        place = (round(value, _DECIMALS) for value in row.centroid_lps)
        box = (side for ends in zip(row.first, row.last, strict=True) for side in ends)
        writer.writerow((row.number, row.label_id, names[row.label_id], *sizes, *place, *box))
    return text.getvalue()


def _moments(array_zyx: NDArray[np.uint16], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each object's voxels, and its mean index (z, y, x); slice by slice, to spare memory."""
    voxels, sums = np.zeros(count + 1, np.int64), np.zeros((count + 1, 3))
    for z, plane_yx in enumerate(array_zyx):
        inside = np.flatnonzero(plane_yx)
        number = plane_yx.ravel()[inside].astype(np.intp)
        y, x = np.divmod(inside, plane_yx.shape[1])
        here = np.bincount(number, minlength=count + 1)
        voxels += here
        sums += np.stack([here * z, *(np.bincount(number, v, minlength=count + 1) for v in (y, x))], axis=1)
    return voxels[1:], sums[1:] / np.maximum(voxels[1:, None], 1)


def _pixel_mm2(grid: Geometry) -> float | None:
    """Return the area of a pixel on a grid of one slice."""
    if 1 not in grid.shape:
        return None
    axis = grid.shape.index(1)
    a, b = (grid.affine[:3, other] for other in range(3) if other != axis)
    return float(np.linalg.norm(np.cross(a, b)))


def _corners(box: tuple[slice, ...]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    z, y, x = box
    return (z.start, y.start, x.start), (z.stop - 1, y.stop - 1, x.stop - 1)


def _diameter_mm(volume_mm3: float, area_mm2: float | None) -> float:
    return math.cbrt(6.0 * volume_mm3 / math.pi) if area_mm2 is None else 2.0 * math.sqrt(area_mm2 / math.pi)


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    spread = {"mean": np.mean(values), "median": np.median(values), "min": np.min(values), "max": np.max(values)}
    return {name: round(float(value), _DECIMALS) for name, value in spread.items()}
