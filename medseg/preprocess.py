"""From a scan to what the network sees, and from its scores back to the scan: a pair in one file.

Forth: the scan is taken onto the *working grid*, right-angled, in the plan's orientation and spacing, and its grey
values are normalised. Back: the scores of all classes are interpolated linearly at every voxel of the scan, and the
largest wins. Both are the choice of another grid; nothing about the way forth is remembered for the way back.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from medseg.errors import InputError, ModelError
from medseg.resample import resample
from medseg.resample.copying import copied
from medseg.resample.images import inside_faces
from medseg.resample.lattice import Lattice
from medseg.transforms.intensity import normalise
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.geometry import Geometry
    from medseg.labels import LabelSet
    from medseg.plan import Plan

IMAGE_ORDER: Literal[3] = 3  # cubic, as nnU-Net; along the axes of a grid it costs little more than linear
MAX_WORKING_VOXELS = 4_000_000_000  # a scan beyond this has a header in other units
_SLAB_VOXELS = 2_000_000
_GATHERED = 8_000_000  # scores taken from memory at once
_CORNERS = tuple(itertools.product((0, 1), repeat=3))


def working_grid(geometry: Geometry, plan: Plan) -> Geometry:
    """Return the grid the network sees a scan on.

    Right-angled; in the plan's orientation, unless that is ``stored``; in the plan's spacing, but along the slice axis
    of a 2-D network in the scan's own. Where rounding leaves the number of voxels as it is, so does the grid, and
    nothing is interpolated.

    Parameters
    ----------
    geometry : Geometry
        The scan's.
    plan : Plan
        Says orientation and spacing.

    Raises
    ------
    InputError
        Where that grid would be absurdly large.
    """
    grid = geometry.without_shear() if geometry.is_sheared else geometry
    if plan.preprocess.orientation != "stored":
        grid = grid.reoriented(plan.preprocess.orientation)
    spacing = list(plan.preprocess.spacing_mm)
    if plan.slice_axis is not None:
        spacing[plan.slice_axis] = grid.spacing_mm[plan.slice_axis]
    voxels = math.prod(
        max(1.0, n * own / new) for n, own, new in zip(grid.shape, grid.spacing_mm, spacing, strict=True)
    )
    if voxels > MAX_WORKING_VOXELS:
        raise InputError(
            f"the scan would have {voxels:.2g} voxels at the model's spacing of {plan.preprocess.spacing_mm} mm",
            expected=f"at most {MAX_WORKING_VOXELS:.2g}",
            remedy="Check the spacing in its header",
        )
    return grid.with_spacing(spacing)


def prepare(volume: Volume, plan: Plan) -> Volume:
    """Return a scan as the network sees it: on the working grid, normalised, float32.

    Parameters
    ----------
    volume : Volume
        One channel per channel of the plan, in the units of the file.
    plan : Plan
        Says grid and normalisation.

    Raises
    ------
    InputError
        Where the channels are not as many as the plan's, or a voxel is not finite (code ``non-finite``).
    """
    if len(volume.array) != len(plan.channels):
        raise InputError(
            f"the scan has {len(volume.array)} channels", expected=f"{len(plan.channels)}: {', '.join(plan.channels)}"
        )
    grid = working_grid(volume.geometry, plan)
    placed = resample(volume, onto=grid, order=IMAGE_ORDER)
    image = normalise(torch.from_numpy(_readable(placed.array)), plan.preprocess.normalisation)
    return Volume(image.numpy(), grid, plan.channels)


def prepare_mask(mask: Segmentation, plan: Plan) -> Segmentation:
    """Return a reference mask on the working grid, by the label rule of `resample`."""
    return resample(mask, onto=working_grid(mask.geometry, plan))


def restore(logits: Volume, onto: Geometry, labels: LabelSet) -> Segmentation:
    """Return the mask on the scan's grid that scores on the working grid stand for.

    At every voxel of `onto` the scores are interpolated linearly and the class with the largest wins; ties go to the
    lower class. Where the eight scores around it agree on the winner, it wins there too, as interpolation only mixes
    them with weights that sum to one; so only cells that disagree are computed, and the scores of all classes at full
    resolution never exist. Where the grids coincide, voxels are copied. Outside the working grid is background.

    Parameters
    ----------
    logits : Volume
        Float (classes, Z, Y, X), background first, then the labels by rising id.
    onto : Geometry
        Any grid: the scan's.
    labels : LabelSet
        What the classes mean.

    Returns
    -------
    Segmentation
        On `onto`, with label ids as uint8, or uint16 where an id is above 255.

    Raises
    ------
    ModelError
        Where there is not one score a class.
    """
    ids = np.array([0, *labels.ids], dtype=np.uint8 if max(labels.ids, default=0) <= 255 else np.uint16)
    if len(logits.array) != len(ids):
        raise ModelError(f"the network gave {len(logits.array)} scores a voxel", expected=f"{len(ids)}, one a class")
    winners = _winners(logits.array)
    lattice = Lattice.between(logits.geometry, onto)
    steps = lattice.whole_steps()
    classes = _between_voxels(logits.array, winners, lattice) if steps is None else copied(winners, steps, fill=0)
    return Segmentation(ids[classes], onto, labels)


def restore_logits(logits: Volume, onto: Geometry) -> Volume:
    """Return the scores of all classes on the scan's grid, float32: large, for those who need them all."""
    return resample(logits, onto=onto, order=1)


def _winners(scores_kzyx: NDArray[Any]) -> NDArray[Any]:
    """Return the class with the largest score at each voxel."""
    kind = np.uint8 if len(scores_kzyx) <= 256 else np.uint16
    winners = np.empty(scores_kzyx.shape[1:], dtype=kind)
    for z, plane in enumerate(winners):
        plane[...] = torch.from_numpy(_readable(scores_kzyx[:, z])).argmax(dim=0).numpy()
    return winners


def _between_voxels(scores_kzyx: NDArray[Any], winners: NDArray[Any], lattice: Lattice) -> NDArray[Any]:
    """Return the winning class at the lattice's positions."""
    flat = torch.from_numpy(_readable(scores_kzyx)).reshape(len(scores_kzyx), -1)
    is_uniform = _uniform_cells(winners)
    out = np.empty(lattice.shape, dtype=winners.dtype)
    depth = max(1, _SLAB_VOXELS // (lattice.shape[1] * lattice.shape[2]))
    for start in range(0, lattice.shape[0], depth):
        slab = out[start : start + depth]
        positions = lattice.slab_positions(start, start + len(slab))
        clipped = [np.clip(p, 0, n - 1) for p, n in zip(positions, winners.shape, strict=True)]
        lower = [np.floor(p).astype(np.intp) for p in clipped]
        slab[...] = winners[lower[0], lower[1], lower[2]]
        mixed = np.nonzero(np.broadcast_to(~is_uniform[lower[0], lower[1], lower[2]], slab.shape))
        at = [np.broadcast_to(p, slab.shape)[mixed] for p in clipped]
        slab[mixed] = _strongest(flat, at, winners.shape).astype(out.dtype)
        slab[~np.broadcast_to(inside_faces(positions, winners.shape), slab.shape)] = 0
    return out


def _uniform_cells(winners: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for every voxel whether it and its seven neighbours towards higher index have one winner."""
    low, high = winners, winners
    for axis, count in enumerate(winners.shape):
        neighbour = np.minimum(np.arange(count) + 1, count - 1)  # the last voxel is its own
        low = np.minimum(low, low.take(neighbour, axis=axis))
        high = np.maximum(high, high.take(neighbour, axis=axis))
    return np.asarray(low == high)


def _strongest(flat: Tensor, positions: Sequence[NDArray[np.float64]], shape: Sequence[int]) -> NDArray[np.int64]:
    """Return the class with the largest interpolated score at positions inside the grid.

    Parameters
    ----------
    flat : (K, Z * Y * X) Tensor
        Scores of all classes.
    positions : three arrays (M,)
        Index along z, y and x.
    shape : three int
        Z, Y, X.
    """
    found = np.empty(len(positions[0]), dtype=np.int64)
    chunk = max(1, _GATHERED // len(flat))
    for start in range(0, len(found), chunk):
        part = slice(start, start + chunk)
        lower = [np.floor(p[part]).astype(np.int64) for p in positions]
        fraction = [p[part] - i for p, i in zip(positions, lower, strict=True)]
        total = torch.zeros(len(flat), len(lower[0]))
        for corner in _CORNERS:
            place, weight = np.zeros_like(lower[0]), np.ones(len(lower[0]))
            for side, i, f, n in zip(corner, lower, fraction, shape, strict=True):
                place = place * n + np.minimum(i + side, n - 1)
                weight = weight * (f if side else 1.0 - f)
            taken = flat.index_select(1, torch.from_numpy(place)).float()
            total.addcmul_(taken, torch.from_numpy(weight.astype(np.float32)))
        found[part] = total.argmax(dim=0).numpy()
    return found


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type and layout torch takes, without a copy where it can be."""
    if array.dtype == np.uint16:
        array = array.astype(np.int32)
    return np.require(array, requirements=["C", "W"])
