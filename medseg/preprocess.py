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
from einops import rearrange
from torch.nn import functional as F

from medseg.errors import InputError, ModelError
from medseg.geometry import Geometry
from medseg.plan.part import AXES
from medseg.resample import resample, resized
from medseg.resample.cells import labels_between
from medseg.resample.copying import copied
from medseg.resample.images import inside_faces, nearest, positions_between_faces
from medseg.resample.lattice import TOLERANCE_VOXELS, Lattice
from medseg.transforms.foreground import nonzero_box
from medseg.transforms.intensity import normalise
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.labels import LabelSet
    from medseg.plan import Plan, ScanFirst

IMAGE_ORDER: Literal[3] = 3  # cubic, as nnU-Net; along the axes of a grid it costs little more than linear
MAX_WORKING_VOXELS = 4_000_000_000  # a scan beyond this has a header in other units
_FACE = 0.5  # voxels from a centre to a face
_TIE = 1e-6  # voxels: of two slices equally near the later one is taken
_GATHERED = 4_000_000  # scores taken from memory at once


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
    return _spaced(_turned(geometry, plan), plan)


def _turned(geometry: Geometry, plan: Plan) -> Geometry:
    """Return a scan's grid, right-angled and with its axes as the plan has them."""
    grid = geometry.without_shear() if geometry.is_sheared else geometry
    codes = plan.preprocess.orientation
    if codes == "stored":
        codes = "".join(grid.axis_codes[AXES.index(axis)] for axis in plan.preprocess.axis_order)
    return grid.reoriented(codes)


def _spaced(grid: Geometry, plan: Plan) -> Geometry:
    """Return a grid between the same faces in the plan's spacing."""
    spacing = _target_mm(grid, plan)
    voxels = math.prod(
        max(1.0, n * own / new) for n, own, new in zip(grid.shape, grid.spacing_mm, spacing, strict=True)
    )
    if voxels > MAX_WORKING_VOXELS:
        raise InputError(
            f"the scan would have {voxels:.2g} voxels at the model's spacing of {plan.preprocess.spacing_mm} mm",
            expected=f"at most {MAX_WORKING_VOXELS:.2g}",
            remedy="Check the spacing in its header",
        )
    if plan.preprocess.scan_first is None:
        return grid.with_spacing(spacing)
    counts = [max(1, round(own / new * n)) for n, own, new in zip(grid.shape, grid.spacing_mm, spacing, strict=True)]
    return grid.with_spacing([n * own / m for n, own, m in zip(grid.shape, grid.spacing_mm, counts, strict=True)])


def _target_mm(grid: Geometry, plan: Plan) -> list[float]:
    """Return the spacing a turned grid is to have; along the slice axis of a 2-D network it is the grid's own."""
    spacing = list(plan.preprocess.spacing_mm)
    if plan.slice_axis is not None:
        spacing[plan.slice_axis] = grid.spacing_mm[plan.slice_axis]
    return spacing


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
    if plan.preprocess.scan_first is not None:
        return _prepared_first(volume, plan, plan.preprocess.scan_first)
    grid = working_grid(volume.geometry, plan)
    placed = resample(volume, onto=grid, order=IMAGE_ORDER)
    image = normalise(torch.from_numpy(_readable(placed.array)), plan.preprocess.normalisation)
    return Volume(image.numpy(), grid, plan.channels)


def _prepared_first(volume: Volume, plan: Plan, first: ScanFirst) -> Volume:
    """Return a scan that was cropped and normalised on its own voxels, then interpolated."""
    scan = resample(volume, onto=_turned(volume.geometry, plan))
    if first.crop == "nonzero":
        box = nonzero_box(scan.array)
        scan = Volume(scan.array[(slice(None), *box.slices)], scan.geometry.crop(box), scan.channels)
    image = normalise(torch.from_numpy(_readable(scan.array)), plan.preprocess.normalisation)
    grid = _spaced(scan.geometry, plan)
    apart = first.image.axis_apart(scan.geometry.spacing_mm, _target_mm(scan.geometry, plan))
    normalised = Volume(image.numpy(), scan.geometry, plan.channels)
    return resized(normalised, onto=grid, order=first.image.order, apart=apart, across=first.image.across)


def prepare_mask(mask: Segmentation, plan: Plan, *, onto: Geometry | None = None) -> Segmentation:
    """Return a reference mask on the working grid, by the label rule of `resample`.

    `onto` is that grid where it depends on the scan, too: the geometry of what `prepare` made.
    """
    return resample(mask, onto=onto or working_grid(mask.geometry, plan))


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
    if steps is None:
        classes = labels_between(winners, lattice, lambda positions: _strongest(logits.array, positions))
    else:
        classes = copied(winners, steps, fill=0)
    return Segmentation(ids[classes], onto, labels)


def in_slices_of(logits: Volume, onto: Geometry, plan: Plan) -> Volume:
    """Return the scores in the scan's slices, each the nearest the network saw, where the plan takes an axis apart.

    What is left for `restore` is then interpolation in the plane of the slices. Without such an axis, or where the
    network saw these slices, the scores are returned as they are.

    Parameters
    ----------
    logits : Volume
        Scores on the working grid.
    onto : Geometry
        The grid that `restore` will be asked for.
    plan : Plan
        Says whether an axis is treated apart on the way back.
    """
    scan = _turned(onto, plan)
    first = plan.preprocess.scan_first
    axis = first.scores.axis_apart(_target_mm(scan, plan), scan.spacing_mm) if first is not None else None
    if first is None or axis is None or first.scores.across != 0:
        return logits
    n_source = logits.geometry.shape[axis]
    along = np.zeros((scan.shape[axis], 3))
    along[:, axis] = np.arange(scan.shape[axis])
    positions = logits.geometry.to_index(scan.to_lps(along))[:, axis]
    positions = positions[(positions > -_FACE) & (positions < n_source - _FACE)]
    whole = positions_between_faces(n_source, max(1, len(positions)))
    is_whole = len(positions) > 0 and np.allclose(positions, whole, atol=TOLERANCE_VOXELS)
    picks = nearest(whole if is_whole else positions + _TIE, n_source)  # nnU-Net's arithmetic decides ties, or ours
    if not len(picks) or np.array_equal(picks, np.arange(n_source)):
        return logits
    grid = _with_slices(logits.geometry, axis, positions, scan.affine[:3, axis])
    return Volume(logits.array.take(picks, axis=axis + 1), grid, logits.channels)


def _with_slices(grid: Geometry, axis: int, positions: NDArray[np.float64], step_lps: NDArray[np.float64]) -> Geometry:
    """Return a grid with slices at other positions along one axis, a step apart."""
    affine = grid.affine.copy()
    affine[:3, axis] = step_lps
    affine[:3, 3] = grid.to_lps([positions[0] if a == axis else 0.0 for a in range(3)])
    z, y, x = (len(positions) if a == axis else n for a, n in enumerate(grid.shape))
    return Geometry((z, y, x), affine, grid.frame_of_reference_uid)


def background_outside(probabilities: Volume, working: Geometry) -> None:
    """Make all that lies outside the working grid certain background, in place: a crop left it out."""
    lattice = Lattice.between(working, probabilities.geometry)
    outside = ~inside_faces(lattice.slab_positions(0, lattice.shape[0]), working.shape)
    outside = np.broadcast_to(outside, lattice.shape)
    probabilities.array[:, outside] = 0
    probabilities.array[0, outside] = 1


def restore_logits(logits: Volume, onto: Geometry) -> Volume:
    """Return the scores of all classes on the scan's grid, float32: large, for those who need them all."""
    return resample(logits, onto=onto, order=1)


def _winners(scores_kzyx: NDArray[Any]) -> NDArray[Any]:
    """Return the class with the largest score at each voxel, the lowest of equals."""
    kind = np.uint8 if len(scores_kzyx) <= 256 else np.uint16
    winners = np.zeros(scores_kzyx.shape[1:], dtype=kind)
    for z, winner in enumerate(winners):  # plane by plane, so that all stays in the processor's cache
        highest = scores_kzyx[0, z].copy()
        for k in range(1, len(scores_kzyx)):
            score = scores_kzyx[k, z]
            winner[score > highest] = k
            np.maximum(highest, score, out=highest)
    return winners


def _strongest(scores_kzyx: NDArray[Any], positions: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """Return the class with the largest interpolated score at positions inside the grid.

    The block of scores around all positions is turned so that the scores of a voxel lie side by side: a corner is then
    one place in memory, whatever the number of classes.

    Parameters
    ----------
    scores_kzyx : (K, Z, Y, X)
        Scores of all classes.
    positions : three arrays (M,)
        Index along z, y and x.
    """
    first = [int(p.min()) for p in positions]
    last = [min(int(p.max()) + 1, n - 1) for p, n in zip(positions, scores_kzyx.shape[1:], strict=True)]
    block = scores_kzyx[(slice(None), *(slice(a, b + 1) for a, b in zip(first, last, strict=True)))]
    table = np.ascontiguousarray(rearrange(block, "k z y x -> z y x k"), dtype=np.float32)
    rows = torch.from_numpy(table).reshape(-1, len(scores_kzyx))
    found = np.empty(len(positions[0]), dtype=np.int64)
    chunk = max(1, _GATHERED // len(scores_kzyx))
    for start in range(0, len(found), chunk):
        inner = [p[start : start + chunk] - a for p, a in zip(positions, first, strict=True)]
        places, weights = _corners(inner, table.shape[:3])
        total = F.embedding_bag(places, rows, per_sample_weights=weights, mode="sum")
        found[start : start + chunk] = total.argmax(dim=1).numpy()
    return found


def _corners(positions: Sequence[NDArray[np.float64]], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return for each of M positions the flat index (M, 8) of the voxels around it, and their weights (M, 8)."""
    strides = (shape[1] * shape[2], shape[2], 1)
    steps, shares = [], []
    for p, n, stride in zip(positions, shape, strides, strict=True):
        lower = p.astype(np.int64)
        fraction = (p - lower).astype(np.float32)
        steps.append((lower * stride, np.minimum(lower + 1, n - 1) * stride))
        shares.append((1 - fraction, fraction))
    places = np.empty((8, len(positions[0])), dtype=np.int64)
    weights = np.empty((8, len(positions[0])), dtype=np.float32)
    for row, (z, y, x) in enumerate(itertools.product((0, 1), repeat=3)):
        np.add(steps[0][z], steps[1][y], out=places[row])
        places[row] += steps[2][x]
        np.multiply(shares[0][z], shares[1][y], out=weights[row])
        weights[row] *= shares[2][x]
    return torch.from_numpy(places).t().contiguous(), torch.from_numpy(weights).t().contiguous()


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type and layout torch takes, without a copy where it can be."""
    if array.dtype == np.uint16:
        array = array.astype(np.int32)
    return np.require(array, requirements=["C", "W"])
