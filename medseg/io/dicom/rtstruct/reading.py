"""RTSTRUCT in: its structures with their contours, and masks of them on a grid.

What a contour encloses is decided at voxel centres, edges included (`medseg.io.dicom.rtstruct.contours.filled`): the
rule by which contours of clinical systems give the masks they were made from. Contours of one slice are combined by the
even-odd rule, which serves keyholes, CLOSEDPLANAR_XOR and contours nested in another alike (PS3.3 section C.8.8.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, MedsegError
from medseg.io.dicom.rtstruct.contours import filled
from medseg.io.dicom.rtstruct.rois import CLOSED, Contour, Roi, rois_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Geometry

__all__ = ["Contour", "Roi", "rasterised", "read_rtstruct", "rois_of"]

_HALF_VOXEL = 0.5 + 1e-6
_BETWEEN = 0.45  # voxels off the nearest slice; beyond, rounding decides which of two slices is the nearest
_ONE_PLANE = 0.1  # voxels along z; contours closer than this lie in one plane
_REMEDY = "Use the series they were drawn on"


def read_rtstruct(
    path: Path, *, onto: Geometry, stations: Sequence[float] | None = None, same_frame: bool = False
) -> Iterator[tuple[Roi, NDArray[np.bool_]]]:
    """Yield each structure of an RTSTRUCT with its mask, one at a time, as all together may not fit into memory.

    Parameters
    ----------
    path : Path
        The file.
    onto : Geometry
        The grid of the masks, normally that of the series they were drawn on.
    stations : sequence of float, optional
        Where the slices lie along z of `onto`; see `rasterised`.
    same_frame : bool
        Do not compare frames of reference; see `rasterised`.

    Yields
    ------
    Roi
        The structure.
    (Z, Y, X) bool
        Its mask; empty where it has no closed contour.

    Raises
    ------
    InputError
        Where the file cannot be used.
    GeometryError
        Where contours do not lie on slices of the grid.
    """
    for roi in rois_of(path):
        try:
            mask = rasterised(roi, onto, stations=stations, same_frame=same_frame)
        except MedsegError as error:
            raise error.at(path.name) from error
        yield roi, mask


def rasterised(
    roi: Roi, onto: Geometry, *, stations: Sequence[float] | None = None, same_frame: bool = False
) -> NDArray[np.bool_]:
    """Return the mask of a structure: the voxels whose centres its closed contours enclose, or that lie on them.

    Each contour goes to the nearest slice, less than half a voxel away; it must be parallel to the slices, which may be
    oblique or sheared. Where it reaches beyond the image it is cut off.

    Parameters
    ----------
    roi : Roi
        The structure.
    onto : Geometry
        The grid, in the same frame of reference.
    stations : sequence of float, optional
        Where the slices of the mask lie along z of `onto`, in voxels, rising: for contours on slices at uneven
        positions. By default one slice for each of `onto`.
    same_frame : bool
        Take the frames of reference for one although their UIDs differ. That is right where the file names the image's
        own series (`Roi.series_uids`): some writers invent a frame of reference.

    Returns
    -------
    (Z, Y, X) bool
        The mask; with `stations`, one slice for each of these.

    Raises
    ------
    GeometryError
        Where the frames of reference differ, contours lie outside of the grid or between its slices, are not parallel
        to them, or where several planes of contours fall on one slice.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> square = np.array([(0.5, 0.5, 2.0), (2.5, 0.5, 2.0), (2.5, 1.5, 2.0), (0.5, 1.5, 2.0)])
    >>> roi = Roi(1, "box", None, None, (Contour("CLOSED_PLANAR", square),), None, ())
    >>> grid = Geometry((2, 3, 4), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]]))
    >>> rasterised(roi, grid)[1].astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    frames = {roi.frame_of_reference_uid, onto.frame_of_reference_uid} - {None}
    if len(frames) > 1 and not same_frame:
        raise GeometryError(f"the structure {roi.name!r} is in another frame of reference than the image")
    places = np.arange(onto.shape[0], dtype=np.float64) if stations is None else np.asarray(stations, np.float64)
    mask = np.zeros((len(places), *onto.shape[1:]), bool)
    loops = _loops(roi)
    if not loops:
        return mask
    starts = np.cumsum([0, *(len(loop) for loop in loops)])[:-1]
    index = onto.to_index(np.concatenate(loops))
    slices = _slices(roi.name, index, starts, places)
    _refuse_outside(roi.name, index[:, 1:], starts, onto.shape[1:])
    polygons = np.split(index[:, 1:], starts[1:])
    for z in np.unique(slices):
        mask[z] = filled([polygons[i] for i in np.flatnonzero(slices == z)], onto.shape[1:])
    return mask


def _loops(roi: Roi) -> list[NDArray[np.float64]]:
    """Return the closed contours, each once: one that was exported twice would cancel itself out."""
    closed = [contour.points_lps for contour in roi.contours if contour.kind in CLOSED and len(contour.points_lps)]
    return list({points_lps.tobytes(): points_lps for points_lps in closed}.values())


# -- where contours lie -------------------------------------------------------------------------------------------


def _slices(
    name: str, index: NDArray[np.float64], starts: NDArray[np.int64], places: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the slice of each contour."""
    lengths = np.diff([*starts, len(index)])
    middle = np.add.reduceat(index[:, 0], starts) / lengths
    spread = np.maximum.reduceat(index[:, 0], starts) - np.minimum.reduceat(index[:, 0], starts)
    if spread.max() > _HALF_VOXEL:
        raise GeometryError(
            f"{np.count_nonzero(spread > _HALF_VOXEL)} of {len(starts)} contours of {name!r} cross the slices",
            expected="contours parallel to the slices",
            remedy=_REMEDY,
        )
    order = np.argsort(places)
    nearest: NDArray[np.int64] = order[np.abs(middle[:, None] - places[order]).argmin(axis=1)]
    off = np.abs(middle - places[nearest])
    if off.max() > _BETWEEN:
        beyond = (middle < places.min() - _BETWEEN) | (middle > places.max() + _BETWEEN)
        where = "above or below the image" if beyond.any() else "between its slices"
        raise GeometryError(
            f"{np.count_nonzero(off > _BETWEEN)} of {len(starts)} contours of {name!r} lie {where}, "
            f"up to {off.max():.3g} slice spacings off",
            expected="contours on slices of the image",
            remedy=_REMEDY,
        )
    by_slice = np.lexsort((middle, nearest))
    same = np.diff(nearest[by_slice]) == 0
    if (same & (np.diff(middle[by_slice]) > _ONE_PLANE)).any():
        raise GeometryError(
            f"contours of {name!r} in several planes fall on one slice",
            expected="slices as far apart as the planes the structure was drawn in",
            remedy=_REMEDY,
        )
    return nearest


def _refuse_outside(
    name: str, index_yx: NDArray[np.float64], starts: NDArray[np.int64], shape: tuple[int, ...]
) -> None:
    low, high = np.minimum.reduceat(index_yx, starts), np.maximum.reduceat(index_yx, starts)
    outside = ((high < -_HALF_VOXEL) | (low > np.array(shape) - 1 + _HALF_VOXEL)).any(axis=1)
    if outside.any():
        raise GeometryError(
            f"{np.count_nonzero(outside)} of {len(starts)} contours of {name!r} lie beside the image",
            expected="contours on the image",
            remedy=_REMEDY,
        )
