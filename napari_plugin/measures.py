"""A row a label: its volume, and where it is largest. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plugin.display import Display

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.labels import Label
    from medseg.volume import Segmentation


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of a label.

    Attributes
    ----------
    label : Label
    volume_ml : float
    largest_world : tuple of float or None
        For each axis of napari's world (z, y, x), where the slice across it that shows most of the label lies, mm;
        None where there is no voxel of it.
    """

    label: Label
    volume_ml: float
    largest_world: tuple[float, float, float] | None


def rows_of(mask: Segmentation) -> tuple[Row, ...]:
    """Return a row for every label of a mask, by rising id, absent ones too.

    Examples
    --------
    >>> from medseg.phantom import torso_ct
    >>> rows = rows_of(torso_ct(7, spacing_mm=(20, 20, 20)).segmentation)
    >>> rows[0].label.name, round(rows[0].volume_ml), len(rows)
    ('liver', 1784, 8)
    """
    display = Display(mask.geometry)
    counts = _counts(display.view(mask.array), 1 + max(mask.labels.ids, default=0))
    affine = display.affine
    rows = []
    for label in mask.labels:
        along = [axis[label.id] for axis in counts]
        voxels = int(along[0].sum())
        z, y, x = (float(affine[i, i] * along[i].argmax() + affine[i, 3]) for i in range(3))
        rows.append(Row(label, voxels * mask.geometry.voxel_ml, (z, y, x) if voxels else None))
    return tuple(rows)


def _counts(shown_zyx: NDArray[Any], ids: int) -> tuple[NDArray[np.int64], ...]:
    """Return how many voxels each label has in each slice, across z, y and x: three arrays (ids, slices)."""
    depth, height, width = shown_zyx.shape
    across = tuple(np.zeros((ids, n), np.int64) for n in (depth, height, width))
    for z, slice_yx in enumerate(shown_zyx):
        y, x = np.nonzero(slice_yx)
        labels = slice_yx[y, x].astype(np.intp)
        across[0][:, z] = np.bincount(labels, minlength=ids)
        across[1][:] += np.bincount(labels * height + y, minlength=ids * height).reshape(ids, height)
        across[2][:] += np.bincount(labels * width + x, minlength=ids * width).reshape(ids, width)
    return across
