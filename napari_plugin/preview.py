"""The mask as it grows: finished slabs of the network's grid, put on the scan's own. No Qt.

For looking at only: each voxel of the scan takes the label of the nearest voxel of the slab, along the grids' common
axes. The mask at the end is made by `Segmenter.segment` and takes the preview's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plugin.display import UPRIGHT, Display

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Box, Geometry
    from medseg.volume import Segmentation


class Preview:
    """A mask on the scan's grid that is filled slab by slab.

    Parameters
    ----------
    geometry : Geometry
        The scan's grid.
    dtype : type
        Of its labels.
    region : Box, optional
        Outside it nothing is shown, as nothing will be there.
    """

    def __init__(self, geometry: Geometry, dtype: Any, region: Box | None = None) -> None:
        self.array: NDArray[Any] = np.zeros(geometry.shape, dtype=dtype)
        target = geometry.crop(region) if region else geometry
        self._shown = Display(geometry).view(self.array) if region is None else _part(self.array, target, region)
        self._upright = target.reoriented(UPRIGHT)

    def add(self, slab: Segmentation) -> None:
        """Take the labels of a slab."""
        upright = slab.geometry.reoriented(UPRIGHT)
        labels = Display(slab.geometry).view(slab.array)
        index = [self._nearest(upright, axis) for axis in range(3)]
        if any(not len(target) for target, _ in index):
            return
        (z, from_z), (y, from_y), (x, from_x) = index
        self._shown[z[0] : z[-1] + 1, y[0] : y[-1] + 1, x[0] : x[-1] + 1] = labels[np.ix_(from_z, from_y, from_x)]

    def _nearest(self, slab: Geometry, axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the scan's indices along an axis that lie in the slab, and the slab's nearest ones."""
        count = self._upright.shape[axis]
        points = np.tile((np.array(self._upright.shape) - 1) / 2, (count, 1))
        points[:, axis] = np.arange(count)
        places = np.rint(slab.to_index(self._upright.to_lps(points))[:, axis]).astype(np.intp)
        inside = (places >= 0) & (places < slab.shape[axis])
        return np.flatnonzero(inside), places[inside]


def _part(array_zyx: NDArray[Any], target: Geometry, region: Box) -> NDArray[Any]:
    return Display(target).view(array_zyx[region.slices])
