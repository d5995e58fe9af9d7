"""An image on another grid, made some slices at a time: neither source nor target need be in memory as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.resample.copying import Copying
from medseg.resample.images import AlongAxes, Obliquely
from medseg.resample.lattice import Lattice
from medseg.volume import let_go

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.volume import Volume

Order = Literal[1, 3]

SLICES = 32
"""Slices of an image that are made together: enough to keep matrix products busy, few enough for any memory."""


class SlicedImage:
    """What `medseg.resample.resample` gives for an image, slices at a time.

    Parameters
    ----------
    volume : Volume
        The image; its array may be a memory map.
    onto : Geometry
        The other grid.
    order, fill
        As `medseg.resample.resample`. Numbers that are not finite are not looked for.
    """

    def __init__(self, volume: Volume, *, onto: Geometry, order: Order = 1, fill: float | None = None) -> None:
        self.shape = (len(volume.array), *onto.shape)
        self._array = volume.array
        self._way = _way(volume, Lattice.between(volume.geometry, onto), order=order, fill=fill)

    @property
    def is_copy(self) -> bool:
        """Whether voxels are taken over bit for bit."""
        return isinstance(self._way, Copying)

    def slices(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices `start` to `stop` of all channels, (C, n, Y, X); float32, but where voxels are copied."""
        made = np.stack([self._way.slices(channel, start, stop) for channel in self._array])
        let_go(self._array)
        return made

    def whole(self) -> NDArray[Any]:
        """Return all slices."""
        first = self.slices(0, min(SLICES, self.shape[1]))
        out = np.empty(self.shape, dtype=first.dtype)
        out[:, : first.shape[1]] = first
        for start in range(SLICES, self.shape[1], SLICES):
            stop = min(start + SLICES, self.shape[1])
            out[:, start:stop] = self.slices(start, stop)
        return out


def _way(volume: Volume, lattice: Lattice, *, order: Order, fill: float | None) -> Copying | AlongAxes | Obliquely:
    whole = lattice.whole_steps()
    if whole is not None:
        return Copying(whole, fill=fill)
    steps = lattice.steps()
    if steps is None:
        return Obliquely(lattice, order=order, fill=fill)
    return AlongAxes(steps, volume.geometry.shape, order=order, fill=fill)
