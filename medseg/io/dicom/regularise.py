"""Slices at uneven positions: the regular grid they may be interpolated onto, and the way back for a mask.

The one place beside `medseg.resample` that interpolates in space: along the slice positions only, never within a slice.
An image is taken onto the regular grid (`interpolated`), a mask made there back onto the slices that were acquired
(`on_slices`). A tilted gantry needs none of this: its slices span a regular, sheared grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io.dicom.source import Irregular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from medseg.io.dicom.source import SourceSeries
    from medseg.volume import Segmentation

_SAME_PLACE_MM = 0.01  # positions closer than this are one
_EVEN = 0.01  # of the spacing: how far a slice may lie off a place of an even grid and still be on it
_WHOLE = 0.05  # how far a gap may be off a whole number of spacings to count as missing slices
_NONE_MISSING = 1.5  # no gap so many times another: no slice is missing between two
_MOST_GROWN = 8  # more slices made up for each real one, and there is next to no image between them
_MAX_VOXELS = 2**31
_HALF = 0.5
_TIE = 1e-9  # weights closer than this are equal


def plan_regular(
    positions_lps: ArrayLike,
    *,
    orientation: Sequence[float],
    pixel_spacing: tuple[float, float],
    size: tuple[int, int],
    usual_mm: float,
    frame_uid: str,
) -> Irregular | None:
    """Return the regular grid from the first slice to the last at about the usual spacing.

    Where slices are missing from an even row, each that is there keeps its place, and its station is a whole number.
    Elsewhere the spacing is what divides the span evenly and comes closest to the usual one. The slices may be stacked
    off their normal (a tilted gantry); the grid is then sheared as they are.

    Parameters
    ----------
    positions_lps : (n, 3) floats, mm
        ImagePositionPatient of each slice, sorted along the slice normal.
    orientation : six floats
        Direction cosines of rows and columns.
    pixel_spacing : pair of floats, mm
        Between rows and between columns, as in DICOM (PS3.3 section 10.7.1.3).
    size : pair of int
        Rows and columns.
    usual_mm : float
        The spacing most slices have.
    frame_uid : str
        Frame of reference; may be empty.

    Returns
    -------
    Irregular or None
        ``None`` where there is no such grid: slices that are not on one line or not all at different places, fewer
        than two of them, or so far apart that most of the grid would be made up.

    Examples
    --------
    >>> planned = plan_regular([(0, 0, 0), (0, 0, 5), (0, 0, 15)], orientation=[1, 0, 0, 0, 1, 0],
    ...                        pixel_spacing=(1, 1), size=(4, 4), usual_mm=5.0, frame_uid="")
    >>> planned.stations, planned.geometry.shape, planned.geometry.spacing_mm
    ((0.0, 1.0, 3.0), (4, 4, 4), (5.0, 1.0, 1.0))
    """
    points = np.asarray(positions_lps, dtype=np.float64).reshape(-1, 3)
    along = _along(points, usual_mm)
    if along is None:
        return None
    steps = _steps(np.diff(along), usual_mm)
    count = steps + 1
    if count > _MOST_GROWN * len(points) or count * size[0] * size[1] > _MAX_VOXELS:
        return None
    affine = np.eye(4)
    affine[:3, 0] = (points[-1] - points[0]) / steps
    affine[:3, 1] = np.asarray(orientation[3:]) * pixel_spacing[0]
    affine[:3, 2] = np.asarray(orientation[:3]) * pixel_spacing[1]
    affine[:3, 3] = points[0]
    try:
        geometry = Geometry((count, *size), affine, frame_uid or None)
    except GeometryError:
        return None  # slices stacked within their own plane
    return Irregular(geometry, _stations(along, steps))


def interpolated(array_zyx: NDArray[Any], irregular: Irregular) -> NDArray[Any]:
    """Return an image on the regular grid, interpolated linearly between the two slices around each place.

    A place where a slice lies gets that slice, exactly. The result is float32, as values between two whole numbers are
    none; where every place has a slice, nothing is interpolated and the type stays. One slice at a time is computed, so
    that beside the two arrays nothing large is held.

    Parameters
    ----------
    array_zyx : (n, Y, X) integer or float
        One slice per station.
    irregular : Irregular
        Where the slices lie, and the grid.

    Returns
    -------
    (Z, Y, X) float32, or the type of `array_zyx`
        On ``irregular.geometry``.

    Raises
    ------
    InputError
        Where there is not one slice per station.
    """
    shape = (len(irregular.stations), *irregular.geometry.shape[1:])
    if array_zyx.shape != shape:
        raise InputError(f"the slices have shape {array_zyx.shape}", expected=str(shape), code="uneven-spacing")
    places = _between(np.arange(irregular.geometry.shape[0], dtype=np.float64), np.asarray(irregular.stations))
    is_copied = all(share == 0.0 for _, share in places)
    result: NDArray[Any] = np.empty(irregular.geometry.shape, array_zyx.dtype if is_copied else np.float32)
    for plane_yx, (lower, share) in zip(result, places, strict=True):
        if share == 0.0:
            plane_yx[...] = array_zyx[lower]
        else:
            np.multiply(array_zyx[lower], np.float32(1.0 - share), out=plane_yx, casting="unsafe")
            np.add(plane_yx, array_zyx[lower + 1] * np.float32(share), out=plane_yx, casting="unsafe")
    return result


def on_slices(segmentation: Segmentation, series: SourceSeries) -> NDArray[Any]:
    """Return a mask on the slices that were acquired.

    Where the series was interpolated onto a regular grid, each slice lies between two slices of the mask; the label
    with the larger linear weight wins, that is the one of the nearer, and ties go to the lower id: the rule of
    `medseg.resample` for masks. Elsewhere the mask is on the slices already and returned as it is.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of `series`.
    series : SourceSeries
        What the mask was made from.

    Returns
    -------
    (n, Y, X) unsigned integer
        One plane per slice of the series, in the mask's type.

    Raises
    ------
    GeometryError
        Where the mask is not on the grid of the series.
    """
    if series.geometry is None or not series.geometry.same_grid(segmentation.geometry):
        raise GeometryError("the mask is not on the grid of the series", expected=str(series.geometry), where=series.id)
    mask = segmentation.array
    if series.irregular is None:
        return mask
    places = _between(np.asarray(series.irregular.stations), np.arange(mask.shape[0], dtype=np.float64))
    result = np.empty((len(places), *mask.shape[1:]), mask.dtype)
    for plane_yx, (lower, share) in zip(result, places, strict=True):
        if abs(share - _HALF) <= _TIE:
            np.minimum(mask[lower], mask[lower + 1], out=plane_yx)
        else:
            plane_yx[...] = mask[lower + (share > _HALF)]
    return result


def slice_positions(series: SourceSeries) -> NDArray[np.float64]:
    """Return where each slice that was acquired lies: the centre of its first pixel, (n, 3) in LPS mm.

    Raises
    ------
    GeometryError
        Where the series spans no grid.
    """
    if series.geometry is None:
        raise GeometryError("the series spans no grid", where=series.id)
    if series.irregular is not None:
        stations = np.asarray(series.irregular.stations)
    else:
        stations = np.arange(series.geometry.shape[0], dtype=np.float64)
    return series.geometry.to_lps(np.stack([stations, 0 * stations, 0 * stations], axis=1))


def _along(points: NDArray[np.float64], usual_mm: float) -> NDArray[np.float64] | None:
    """Return how far along their common line the slices lie, from 0; ``None`` where there is no such line."""
    if len(points) < 2 or not np.isfinite(points).all() or not (np.isfinite(usual_mm) and usual_mm > 0):
        return None
    span = points[-1] - points[0]
    length = float(np.linalg.norm(span))
    if length <= _SAME_PLACE_MM:
        return None
    offsets = points - points[0]
    along: NDArray[np.float64] = offsets @ (span / length)
    aside = np.linalg.norm(offsets - np.outer(along, span / length), axis=1).max()
    if aside > max(_SAME_PLACE_MM, _EVEN * usual_mm) or np.diff(along).min() <= _SAME_PLACE_MM:
        return None
    along[-1] = length
    return along


def _steps(gaps_mm: NDArray[np.float64], usual_mm: float) -> int:
    """Return how many steps of about the usual spacing lead from the first slice to the last."""
    spacings = gaps_mm / usual_mm
    if np.abs(spacings - np.rint(spacings)).max() <= _WHOLE:
        return max(1, int(np.rint(spacings).sum()))
    if gaps_mm.max() <= _NONE_MISSING * gaps_mm.min():
        return len(gaps_mm)  # rounded positions, or a table that stutters: as many slices as there are
    return max(1, int(np.rint(spacings.sum())))


def _stations(along: NDArray[np.float64], steps: int) -> tuple[float, ...]:
    """Return the places of the slices in voxels; whole numbers where all slices are on the grid."""
    stations = along * (steps / along[-1])
    stations[-1] = steps
    whole = np.rint(stations)
    off_mm = np.abs(stations - whole).max() * along[-1] / steps
    if off_mm <= max(_SAME_PLACE_MM, _EVEN * along[-1] / steps) and np.diff(whole).min() >= 1:
        stations = whole
    return tuple(float(s) for s in stations)


def _between(wanted: NDArray[np.float64], given: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return for each wanted place the given one at or below it, and the share of the next one (0: none of it)."""
    if len(given) == 1:
        return [(0, 0.0)] * len(wanted)
    lower = np.clip(np.searchsorted(given, wanted, side="right") - 1, 0, len(given) - 2)
    share = np.clip((wanted - given[lower]) / (given[lower + 1] - given[lower]), 0.0, 1.0)
    at_next = share >= 1.0 - _TIE
    lower, share = lower + at_next, np.where(at_next | (share <= _TIE), 0.0, share)
    return [(int(i), float(s)) for i, s in zip(lower, share, strict=True)]
