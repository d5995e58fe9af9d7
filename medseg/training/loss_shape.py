"""Losses of shape: how far a wrong voxel lies from the boundary, and whether centre lines are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.losses.cldice import soft_skel
from scipy import ndimage

from medseg.labels import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.training.loss_row import Row

SKELETON_SMOOTH = 1.0
"""One voxel, as in the authors' code of clDice: a skeleton may have only a few."""


def boundary(row: Row, *, spacing_mm: tuple[float, ...]) -> Tensor:
    """Return the mean, over voxels and all classes but the background, of distance times error, in mm.

    The distance of a voxel to the boundary of a class is positive outside and negative inside; the error is the
    softmax less the label. This is the boundary loss (Kervadec 2019, arXiv:1812.07032) less its value for the
    labels themselves: the gradient is the same, and a perfect prediction is at zero. Where a class is not there, or
    fills everything, there is no boundary and the term is zero.

    Parameters
    ----------
    row : Row
        Logits and labels.
    spacing_mm : tuple of float
        Spacing along the spatial axes of the row's own grid.
    """
    labels = row.label.cpu().numpy()
    classes = range(1, row.log_p.shape[1])
    maps = np.stack([[signed_distance_mm(label, k, spacing_mm) for k in classes] for label in labels])
    distance = torch.from_numpy(maps).to(row.log_p)
    product = (distance * (row.p - row.y)[:, 1:]).mean(1)
    return row.mean_over_voxels(product)


def signed_distance_mm(label: NDArray[np.int64], k: int, spacing_mm: tuple[float, ...]) -> NDArray[np.float32]:
    """Return each voxel's distance to class `k`, or, negative, from within it to all that is not.

    Distances are between centres of voxels. Ignored voxels are nowhere: nothing is measured to them, and they get 0.

    Examples
    --------
    >>> signed_distance_mm(np.array([0, 0, 1, 1, -1, 0]), 1, (2.0,)).tolist()
    [4.0, 2.0, -2.0, -4.0, 0.0, 4.0]
    """
    inside, outside = label == k, (label != k) & (label != IGNORED)
    if not inside.any() or not outside.any():
        return np.zeros(label.shape, dtype=np.float32)
    to_inside = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    to_outside = ndimage.distance_transform_edt(~outside, sampling=spacing_mm)
    return np.where(inside, -to_outside, np.where(outside, to_inside, 0.0)).astype(np.float32)


def centreline_dice(row: Row, *, iterations: int, batch: bool = True) -> Tensor:
    """Return 1 minus the mean soft clDice of all classes but the background (Shit 2021, arXiv:2003.07311, alg. 1, 2).

    clDice is the harmonic mean of two shares: of the prediction's skeleton within the label, and of the label's
    skeleton within the prediction. Both are thinned by min- and max-pooling, `iterations` times, with ignored voxels
    taken out of both first.

    Parameters
    ----------
    row : Row
        Logits and labels in two or three spatial dimensions.
    iterations : int
        Steps of thinning, at least the radius of the thickest vessel in voxels.
    batch : bool
        Count voxels over the whole batch before dividing.
    """
    p, y = row.p[:, 1:], row.y[:, 1:]
    thin_p, thin_y = soft_skel(p, iterations), soft_skel(y, iterations)
    precision = _share(row.per_class(thin_p * y, batch=batch), row.per_class(thin_p, batch=batch))
    sensitivity = _share(row.per_class(thin_y * p, batch=batch), row.per_class(thin_y, batch=batch))
    return row.mean_over_cases(1 - 2 * precision * sensitivity / (precision + sensitivity))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return (part + SKELETON_SMOOTH) / (whole + SKELETON_SMOOTH)
