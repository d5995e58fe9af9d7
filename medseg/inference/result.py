"""What segmenting one scan gave, and what of it a person should look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from medseg.geometry import Box
    from medseg.inference.maps import MapName
    from medseg.volume import Segmentation, Volume

Flag = Literal["empty", "touches-edge", "touches-region", "nothing-within"]
"""``empty``: no voxel was labelled. ``touches-edge``: a label reaches the scan's outermost voxels, so it may be cut.
``touches-region``: a label reaches a face of the region looked at that is not the scan's own, so more of it may lie
outside. ``nothing-within``: the model that says where to look found nothing, and this one did not look."""


@dataclass(frozen=True, slots=True)
class Result:
    """What segmenting one scan gave.

    Attributes
    ----------
    segmentation : Segmentation
        The mask on the scan's own grid.
    confidence : float or None
        Mean over the predicted foreground (on the network's grid, before tidying) of the largest softmax probability;
        None where nothing was predicted. Uncalibrated unless the model's card says otherwise.
    flags : tuple of Flag
        What a person should look at.
    seconds : dict
        Wall time of the steps ``look`` where the region was to be found, ``prepare``, ``network``, ``crf`` where there
        is one, ``restore``.
    peak_ram_mb : float
        The most memory this process held resident so far, in 10^6 bytes.
    region : Box or None
        Where the network looked, in the scan's voxels; None where it looked everywhere, or nowhere
        (``nothing-within``).
    maps : dict
        The maps that were asked for, float32 on the scan's grid. Each lies in a temporary file, which goes when it is
        let go of.
    """

    segmentation: Segmentation
    confidence: float | None
    flags: tuple[Flag, ...]
    seconds: dict[str, float]
    peak_ram_mb: float
    region: Box | None = None
    maps: dict[MapName, Volume] = field(default_factory=dict)


def flags_of(mask_zyx: NDArray[Any], region: Box | None = None) -> tuple[Flag, ...]:
    """Return what of a mask a person should look at; `region` is where the network looked.

    Examples
    --------
    >>> from medseg.geometry import Box
    >>> mask = np.zeros((4, 4, 4))
    >>> flags_of(mask)
    ('empty',)
    >>> mask[1, 2, 2] = 1
    >>> flags_of(mask, Box((1, 0, 0), (4, 4, 4)))
    ('touches-region',)
    """
    if not mask_zyx.any():
        return ("empty",)
    found: list[Flag] = ["touches-edge"] if any(face.any() for face in _outer(mask_zyx)) else []
    if region is not None and any(face.any() for face in _inner(mask_zyx, region)):
        found.append("touches-region")
    return tuple(found)


def _outer(mask_zyx: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the scan's outermost voxels."""
    return (np.take(mask_zyx, end, axis=axis) for axis in range(3) if mask_zyx.shape[axis] > 1 for end in (0, -1))


def _inner(mask_zyx: NDArray[Any], region: Box) -> Iterator[NDArray[Any]]:
    """Yield the region's outermost voxels where the scan goes on beyond them."""
    for axis, (start, stop, n) in enumerate(zip(region.start, region.stop, mask_zyx.shape, strict=True)):
        if start > 0:
            yield np.take(mask_zyx, start, axis=axis)
        if stop < n:
            yield np.take(mask_zyx, stop - 1, axis=axis)
