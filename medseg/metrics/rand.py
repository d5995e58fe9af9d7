"""Agreement of two partitions of an image: the foreground-restricted Rand score of the ISBI 2012 challenge.

Source: Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for connectomics, Frontiers
in Neuroanatomy 9:142, 2015, section 2.3. Take a pair of voxels that lie in objects of the reference. *Split* is the
chance that a pair of one reference object is in one predicted object; *merge* the chance that a pair of one predicted
object is in one reference object. The score is their harmonic mean, 1 for equal partitions; the challenge's Rand error
is one minus it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.metrics.instances import object_overlap
from medseg.metrics.overlap import require_same_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RandScore:
    """How well two partitions agree, from 0 to 1.

    Attributes
    ----------
    split, merge : float
        Lower where the prediction takes objects apart; where it joins some.
    """

    split: float
    merge: float

    @property
    def f_score(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.split * self.merge / (self.split + self.merge)


def rand_score(prediction: NDArray[Any], reference: NDArray[Any]) -> RandScore | None:
    """Return the foreground-restricted Rand score of numbered objects; None where the reference has none.

    Voxels outside the reference's objects are left out; a predicted background inside them counts as objects of one
    voxel each, as the challenge has it.

    Parameters
    ----------
    prediction, reference : integer arrays of one shape
        The object's number at each voxel, 0 outside.

    Raises
    ------
    GeometryError
        Where the shapes differ.

    Examples
    --------
    >>> reference = np.array([[1, 1, 1, 1, 0, 2, 2]])
    >>> round(rand_score(np.array([[1, 1, 2, 2, 0, 3, 3]]), reference).split, 3)
    0.6
    """
    require_same_shape(prediction, reference)
    overlap = object_overlap(np.where(reference > 0, prediction, 0), reference)
    if not len(overlap.reference_voxels):
        return None
    shared, true, found = (
        voxels.astype(np.float64) for voxels in (overlap.shared, overlap.reference_voxels, overlap.predicted_voxels)
    )
    alone = float(true.sum() - shared.sum())
    together = float((shared**2).sum()) + alone
    return RandScore(split=together / float((true**2).sum()), merge=together / (float((found**2).sum()) + alone))
