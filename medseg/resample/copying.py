"""Voxels taken over bit for bit: permuted, flipped, cropped, strided and padded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.resample.lattice import Step


class Copying:
    """Voxels taken over bit for bit, target slices at a time."""

    def __init__(self, steps: Sequence[Step], *, fill: float | None) -> None:
        self._steps, self._fill = steps, fill

    def slices(self, array_zyx: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        """Return target slices, a new array."""
        along_z, *in_plane = self._steps
        return copied(array_zyx, [along_z.part(start, stop), *in_plane], fill=self._fill)


def copied(array_zyx: NDArray[Any], steps: Sequence[Step], *, fill: float | None) -> NDArray[Any]:
    """Return the voxels at whole-numbered positions; outside is `fill`, or the nearest voxel where it is None.

    Parameters
    ----------
    array_zyx : (Z, Y, X)
        The source.
    steps : three Step
        Where to find each target axis, in whole numbers.
    fill : float or None
        The value outside the source. Where the source's type cannot hold it, the result is float32.

    Returns
    -------
    array
        A new, C-contiguous array.
    """
    view = viewed(array_zyx, steps)
    if view is not None:
        return np.array(view, order="C")
    source = array_zyx.transpose([step.source_axis for step in steps])
    spans = [_span(step, n) for step, n in zip(steps, source.shape, strict=True)]
    shape = tuple(step.count for step in steps)
    if fill is None:
        for axis, (step, n) in enumerate(zip(steps, source.shape, strict=True)):
            source = source.take(np.clip(step.positions.astype(np.intp), 0, n - 1), axis=axis)
        return np.ascontiguousarray(source)
    out = np.full(shape, fill, dtype=_type_with(array_zyx.dtype, fill))
    if all(stop > start for start, stop in spans):
        out[tuple(slice(*span) for span in spans)] = source[_taken(steps, spans)]
    return out


def viewed(array: NDArray[Any], steps: Sequence[Step]) -> NDArray[Any] | None:
    """Return the voxels at whole-numbered positions as a view; None where some of these lie outside the source.

    Parameters
    ----------
    array : (..., Z, Y, X)
        The source.
    steps : three Step
        As `copied`.
    """
    lead = array.ndim - len(steps)
    source = array.transpose([*range(lead), *(lead + step.source_axis for step in steps)])
    spans = [_span(step, n) for step, n in zip(steps, source.shape[lead:], strict=True)]
    if any(stop - start != step.count for (start, stop), step in zip(spans, steps, strict=True)):
        return None
    view: NDArray[Any] = source[(*[slice(None)] * lead, *_taken(steps, spans))]
    return view


def _span(step: Step, n_source: int) -> tuple[int, int]:
    """Return the target voxels, from first to one past the last, that lie inside the source."""
    inside = np.flatnonzero((step.positions >= 0) & (step.positions < n_source))
    return (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)


def _taken(steps: Sequence[Step], spans: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """Return the source voxels that fill the target's `spans`."""
    slices = []
    for step, (start, stop) in zip(steps, spans, strict=True):
        stride = int(step.stride) or 1  # an axis of one voxel has no stride
        first, last = (int(step.offset) + stride * i for i in (start, stop - 1))
        end = last + (1 if stride > 0 else -1)
        slices.append(slice(first, end if end >= 0 else None, stride))
    return tuple(slices)


def _type_with(dtype: np.dtype[Any], fill: float) -> np.dtype[Any]:
    if dtype.kind == "f":
        return dtype
    limits = np.iinfo(dtype)
    fits = float(fill).is_integer() and limits.min <= fill <= limits.max
    return dtype if fits else np.dtype(np.float32)
