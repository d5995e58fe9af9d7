"""The single spatial operation: take an image or a mask onto another grid.

`resample` decides by itself between two ways:

* an **exact copy** where the target's voxel centres coincide with the source's, to a thousandth of a voxel (any
  permutation, flip, crop, pad or whole-numbered stride): values and type are kept bit for bit;
* **interpolation** otherwise. Images: linear, or cubic B-splines (Unser et al. 1991, IEEE Trans. PAMI 13:277), as
  float32. Masks: every label's 0/1 indicator is interpolated linearly and the label with the largest weight wins, ties
  going to the lower id. Nothing is smoothed before shrinking, as in nnU-Net.

The source reaches to the outer faces of its voxels. Up to there the value of the outermost voxels counts; beyond, a
mask is background, and an image is `fill`, or goes on as its edge where `fill` is None.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.resample.copying import copied, viewed
from medseg.resample.images import interpolated_between_faces
from medseg.resample.lattice import Lattice
from medseg.resample.masks import interpolated_labels
from medseg.resample.sliced import Order, SlicedImage
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Geometry

__all__ = ["SlicedImage", "resample", "resized"]


@overload
def resample(
    x: Volume, *, onto: Geometry, order: Order = 1, fill: float | None = None, shared: bool = False
) -> Volume: ...
@overload
def resample(
    x: Segmentation, *, onto: Geometry, order: Order = 1, fill: float | None = None, shared: bool = False
) -> Segmentation: ...
def resample(
    x: Volume | Segmentation, *, onto: Geometry, order: Order = 1, fill: float | None = None, shared: bool = False
) -> Volume | Segmentation:
    """Return `x` on the grid `onto`.

    Parameters
    ----------
    x : Volume or Segmentation
        What to take. Its type picks the rule: see the module's text.
    onto : Geometry
        Where to take it. Frames of reference are not compared: whether two grids belong together is the caller's
        knowledge.
    order : 1 or 3
        Linear or cubic, for images that need interpolation; masks have their own rule.
    fill : float, optional
        The value of an image outside its source; by default its edge goes on. A mask is background there.
    shared : bool
        Whether an exact copy may be a view of `x` instead, to be read only: where `onto` is all voxels of `x`, or some.

    Returns
    -------
    Volume or Segmentation
        The same type, on `onto`. An image keeps its voxel type in an exact copy (unless `fill` does not fit into it)
        and is float32 otherwise; a mask keeps its type. It shares memory with `x` only where that
        was allowed.

    Raises
    ------
    GeometryError
        Where a mask is given a `fill`, or `order` is neither 1 nor 3.
    InputError
        Where an image to be interpolated holds numbers that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg.geometry import Geometry
    >>> scan = Volume(np.arange(8, dtype=np.int16).reshape(1, 2, 2, 2), Geometry((2, 2, 2), np.eye(4)))
    >>> flipped = resample(scan, onto=scan.geometry.reoriented("RAI"))
    >>> flipped.array.ravel().tolist(), flipped.array.dtype
    ([7, 6, 5, 4, 3, 2, 1, 0], dtype('int16'))
    >>> finer = resample(scan, onto=scan.geometry.with_spacing((0.5, 1, 1)))
    >>> finer.array[0, :, 0, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    if order not in (1, 3):
        raise GeometryError(f"there is no interpolation of order {order}", expected="1 (linear) or 3 (cubic)")
    view = _view(x, onto) if shared and fill is None else None
    if view is not None:
        return view
    if isinstance(x, Volume):
        image = SlicedImage(x, onto=onto, order=order, fill=fill)
        if not image.is_copy:
            _require_finite(x.array)
        return Volume(image.whole(), onto, x.channels)
    if fill is not None:
        raise GeometryError("a mask was given a fill value", expected="none: outside its grid a mask is background")
    lattice = Lattice.between(x.geometry, onto)
    strides = lattice.whole_steps()
    array = interpolated_labels(x.array, lattice) if strides is None else copied(x.array, strides, fill=0)
    return Segmentation(array, onto, x.labels, x.ignore)


def _view(x: Volume | Segmentation, onto: Geometry) -> Volume | Segmentation | None:
    """Return `x` on other voxels that are its own, without a copy; None where they are not."""
    steps = Lattice.between(x.geometry, onto).whole_steps()
    array = None if steps is None else viewed(x.array, steps)
    return None if array is None else replace(x, array=array, geometry=onto)


def resized(x: Volume, *, onto: Geometry, order: Order = 3, apart: int | None = None, across: int = 0) -> Volume:
    """Return an image on a grid of other voxels between the same outer faces, as nnU-Net resamples.

    Beside `resample` it keeps within the values of the image, and may treat an axis of thick slices apart; it does so
    for models that learned from images made in this way.

    Parameters
    ----------
    x : Volume
        What to take.
    onto : Geometry
        A grid that `Geometry.with_spacing` made of the image's own.
    order : 1 or 3
        Linear or cubic.
    apart : int, optional
        The axis across which slices are taken by the order `across` (0: the nearest slice).
    across : 0, 1 or 3
        See `apart`.

    Returns
    -------
    Volume
        Float32, on `onto`.
    """
    channels = [interpolated_between_faces(c, onto.shape, order=order, apart=apart, across=across) for c in x.array]
    return Volume(np.stack(channels), onto, x.channels)


def _require_finite(array_czyx: NDArray[Any]) -> None:
    if array_czyx.dtype.kind == "f" and not all(np.isfinite(plane).all() for image in array_czyx for plane in image):
        raise InputError(
            "the image holds numbers that are not finite", expected="finite voxels", remedy="Replace them first"
        )
