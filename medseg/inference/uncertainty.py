"""How unsure a network is at each voxel: the entropy of the probabilities it gives, as a share of the most there is.

With probabilities p of K classes this is ``-sum_k p_k log p_k / log K``: 0 where one class is certain, 1 where all are
equally likely. It is the voxel-wise predictive uncertainty of Wang et al. 2019 (Neurocomputing,
doi:10.1016/j.neucom.2019.01.103; arXiv:1807.07356, section 3) and Mehrtash et al. 2020 (IEEE TMI 39:3868,
doi:10.1109/TMI.2020.3006437), there of probabilities averaged over members; the members' logits are averaged here, and
their disagreement with each other is not told apart. Softmax probabilities are as a rule too sure of themselves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.preprocess.restoration import Slabs, interpolated
from medseg.resample.cells import Cells, Places, mixed_cells, picked
from medseg.resample.lattice import Lattice

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.geometry import Geometry

FLOOR = 1 / 512
"""Less uncertainty than this is given as none."""


class Uncertainty:
    """The uncertainty at each voxel of the scan, from slabs of scores in rising order.

    Scores are interpolated linearly onto the scan's grid, beyond the working grid as at its edge, and entropy is taken
    there: where voxels that are certain of different classes meet, the middle between them is in doubt, which entropies
    interpolated instead would not show. A cell of eight voxels which agree on the winner, all with so large a
    probability that the entropy is below `FLOOR`, is not computed: log-probabilities are concave in the scores, so
    between the eight the winner's is nowhere below the least of them.

    Parameters
    ----------
    working, onto : Geometry
        As `medseg.preprocess.Restoration`.
    out : (Z, Y, X) float32
        Zeros, written into; may lie in a file.
    is_cropped : bool
        Whether what lies beyond the working grid was left out as background, which it then is for certain.

    Examples
    --------
    >>> import torch
    >>> from medseg.geometry import Geometry
    >>> grid = Geometry((1, 1, 3), np.eye(4))
    >>> uncertainty = Uncertainty(grid, grid, np.zeros(grid.shape, np.float32))
    >>> uncertainty.add(torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 1.0986]]).reshape(2, 1, 1, 3))
    >>> [round(float(value), 2) for value in uncertainty.out.ravel()]
    [0.0, 1.0, 0.81]
    """

    def __init__(
        self, working: Geometry, onto: Geometry, out: NDArray[np.float32], *, is_cropped: bool = False
    ) -> None:
        self.out = out
        self._is_cropped = is_cropped
        self._slabs = Slabs(working)
        lattice = Lattice.between(working, onto)
        self._cells, self._is_copy = Cells(lattice, working.shape), lattice.whole_steps() is not None

    def add(self, logits_kzyx: Tensor) -> None:
        """Take the next slices' scores (K, n, Y, X)."""
        for first, rows in self._slabs.blocks(logits_kzyx):
            stop = first + len(rows)
            is_open = _open(rows, voxels_only=self._is_copy)
            for box, positions, is_here in self._cells.chunks(first, stop - (stop < self._slabs.depth)):
                positions[0] = np.clip(positions[0] - first, 0, len(rows) - 1)
                near = [(np.rint(p) if self._is_copy else np.floor(p)).astype(np.intp) for p in positions]
                is_wanted = picked(is_open, near)
                for condition in (is_here, self._cells.inside(box) if self._is_cropped else None):
                    if condition is not None:
                        is_wanted &= condition
                places = Places(positions, box.shape, np.flatnonzero(is_wanted))
                found = [entropy(scores).numpy() for scores in interpolated(rows, places)]
                if found:
                    self.out[box.slices][places.coordinates] = np.concatenate(found)


def entropy(scores_nk: Tensor) -> Tensor:
    """Return the entropy of the softmax of scores (N, K), K of at least two, over its most; below `FLOOR` it is 0.

    Examples
    --------
    >>> import torch
    >>> entropy(torch.tensor([[1.0, 1.0, 1.0], [0.0, 50.0, 0.0]])).round(decimals=3).tolist()
    [1.0, 0.0]
    """
    logs = scores_nk.log_softmax(dim=1)
    share = logs.exp().mul_(logs).sum(dim=1).div_(-math.log(scores_nk.shape[1])).clamp_(0, 1)
    return share.masked_fill_(share < FLOOR, 0)


def _open(rows_zyxk: Tensor, *, voxels_only: bool) -> NDArray[np.bool_]:
    """Tell in which cells, by their lowest voxel, the entropy may be worth computing; or at which voxels."""
    largest, winners = rows_zyxk.max(dim=-1)
    is_sure: NDArray[np.bool_] = (largest - rows_zyxk.logsumexp(dim=-1) >= _sure(rows_zyxk.shape[-1])).numpy()
    if voxels_only:
        return ~is_sure
    return ~is_sure | mixed_cells(is_sure) | mixed_cells(winners.numpy())


def _sure(classes: int) -> float:
    """Return the logarithm of a winner's probability from which on entropy is below `FLOOR`, by bisection.

    With p for the winner, entropy is largest where the others are equally likely, and falls with p.
    """
    low, high = 1 / classes, 1.0
    for _ in range(50):
        p = (low + high) / 2
        most = -p * math.log(p) - (1 - p) * math.log((1 - p) / (classes - 1))
        low, high = (low, p) if most < 0.99 * FLOOR * math.log(classes) else (p, high)
    return math.log(high)
