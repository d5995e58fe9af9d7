"""nnU-Net's order of things, for models brought in from it: what is done on the scan's own voxels comes first.

Forth, the scan is cropped and normalised on its own voxels and then interpolated, thick slices apart. Back, scores are
taken to the scan's slices as the nearest the network saw, where an axis is treated apart, and interpolated in the plane
of the slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.geometry import Geometry
from medseg.preprocess.grid import spaced, target_mm, turned
from medseg.resample import resample, resized
from medseg.resample.images import nearest, positions_between_faces
from medseg.resample.lattice import TOLERANCE_VOXELS
from medseg.transforms.foreground import nonzero_box
from medseg.transforms.intensity import normalise
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.plan import Plan, ScanFirst

_FACE = 0.5  # voxels from a centre to a face
_TIE = 1e-6  # voxels: of two slices equally near the later one is taken


def prepared_first(volume: Volume, plan: Plan, first: ScanFirst) -> Volume:
    """Return a scan that was cropped and normalised on its own voxels, then interpolated."""
    scan = resample(volume, onto=turned(volume.geometry, plan))
    if first.crop == "nonzero":
        box = nonzero_box(scan.array)
        scan = Volume(scan.array[(slice(None), *box.slices)], scan.geometry.crop(box), scan.channels)
    image = normalise(torch.from_numpy(readable(scan.array)), plan.preprocess.normalisation)
    grid = spaced(scan.geometry, plan)
    apart = first.image.axis_apart(scan.geometry.spacing_mm, target_mm(scan.geometry, plan))
    normalised = Volume(image.numpy(), scan.geometry, plan.channels)
    return resized(normalised, onto=grid, order=first.image.order, apart=apart, across=first.image.across)


@dataclass(frozen=True, slots=True)
class NearestSlices:
    """Which slices that the network saw stand for slices of the scan.

    Attributes
    ----------
    axis : int
        Of the working grid, treated apart.
    picks : (n,) int
        For each slice of the scan, the number of the slice the network saw; rising.
    geometry : Geometry
        The scan's slices, in the plane as the working grid.
    """

    axis: int
    picks: NDArray[np.intp]
    geometry: Geometry

    def through(self, slabs: Iterable[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor]]:
        """Yield slabs in the scan's slices, from slabs (first slice, scores (K, n, Y, X)) of what the network saw."""
        for start, logits_kzyx in slabs:
            if self.axis != 0:
                yield start, logits_kzyx.index_select(self.axis + 1, torch.from_numpy(self.picks))
                continue
            first, stop = (int(i) for i in np.searchsorted(self.picks, [start, start + logits_kzyx.shape[1]]))
            if first < stop:
                yield first, logits_kzyx.index_select(1, torch.from_numpy(self.picks[first:stop] - start))


def nearest_slices(working: Geometry, onto: Geometry, plan: Plan) -> NearestSlices | None:
    """Return the slices that stand for the scan's, where the plan takes an axis apart; None where scores stay.

    Parameters
    ----------
    working : Geometry
        The grid of the scores.
    onto : Geometry
        The grid that the scores are to be restored on.
    plan : Plan
        Says whether an axis is treated apart on the way back.
    """
    first = plan.preprocess.scan_first
    if first is None or first.scores.across != 0:
        return None
    scan = turned(onto, plan)
    axis = first.scores.axis_apart(target_mm(scan, plan), scan.spacing_mm)
    if axis is None:
        return None
    n_source = working.shape[axis]
    along = np.zeros((scan.shape[axis], 3))
    along[:, axis] = np.arange(scan.shape[axis])
    positions = working.to_index(scan.to_lps(along))[:, axis]
    positions = positions[(positions > -_FACE) & (positions < n_source - _FACE)]
    whole = positions_between_faces(n_source, max(1, len(positions)))
    is_whole = len(positions) > 0 and np.allclose(positions, whole, atol=TOLERANCE_VOXELS)
    picks = nearest(whole if is_whole else positions + _TIE, n_source)  # nnU-Net's arithmetic decides ties, or ours
    if not len(picks) or np.array_equal(picks, np.arange(n_source)):
        return None
    return NearestSlices(axis, picks, _with_slices(working, axis, positions, scan.affine[:3, axis]))


def _with_slices(grid: Geometry, axis: int, positions: NDArray[np.float64], step_lps: NDArray[np.float64]) -> Geometry:
    """Return a grid with slices at other positions along one axis, a step apart."""
    affine = grid.affine.copy()
    affine[:3, axis] = step_lps
    affine[:3, 3] = grid.to_lps([positions[0] if a == axis else 0.0 for a in range(3)])
    z, y, x = (len(positions) if a == axis else n for a, n in enumerate(grid.shape))
    return Geometry((z, y, x), affine, grid.frame_of_reference_uid)


def readable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type and layout torch takes, without a copy where it can be."""
    if array.dtype == np.uint16:
        array = array.astype(np.int32)
    return np.require(array, requirements=["C", "W"])
