"""A box drawn in a Shapes layer as a box of the scan's voxels. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Shapes

    from medseg.geometry import Box
    from napari_plugin.source import Source

_FLAT_MM = 1e-3


def region_of(shapes: Shapes, source: Source) -> Box:
    """Return the voxels of a scan around all shapes of a layer; across the slices all of it, where all lie in one.

    A rectangle drawn on one slice bounds what that slice shows, and leaves the slices free; rectangles on several
    slices bound these, too.

    Raises
    ------
    InputError
        Where nothing is drawn, or nothing of the scan lies inside.
    """
    if not shapes.data:
        raise InputError("nothing is drawn", where=shapes.name, remedy="Draw a rectangle, or choose the whole scan")
    corners = np.concatenate([[shapes.data_to_world(point) for point in shape] for shape in shapes.data])
    corners = np.asarray(corners, dtype=np.float64)[:, -3:]
    if corners.shape[1] != len(source.geometry.shape):
        raise InputError(
            "the shapes were drawn on a flat layer", where=shapes.name, remedy="Draw them with the scan in the window"
        )
    low, high = corners.min(axis=0), corners.max(axis=0)
    flat = high - low < _FLAT_MM
    ends = source.display.to_world([np.zeros(3), np.array(source.geometry.shape) - 1.0])
    low, high = np.where(flat, ends.min(axis=0), low), np.where(flat, ends.max(axis=0), high)
    box = source.display.box(low, high)
    if box is None:
        raise InputError("the box holds no voxel of the scan", where=shapes.name, remedy="Draw it over the scan")
    return box


def in_words(box: Box, source: Source) -> str:
    """Return a box's size for people.

    Examples
    --------
    >>> from medseg.geometry import Box, Geometry
    >>> from napari_plugin.source import Source
    >>> grid = Geometry((10, 20, 30), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]]))
    >>> in_words(Box((0, 2, 2), (4, 6, 8)), Source("scan", grid))
    '6 x 4 x 4 of 30 x 20 x 10 voxels, 6 x 4 x 8 mm'
    """
    voxels = " x ".join(map(str, box.shape[::-1]))
    whole = " x ".join(map(str, source.geometry.shape[::-1]))
    size = " x ".join(f"{n * mm:.3g}" for n, mm in zip(box.shape[::-1], source.geometry.spacing_mm[::-1], strict=True))
    return f"{voxels} of {whole} voxels, {size} mm"
