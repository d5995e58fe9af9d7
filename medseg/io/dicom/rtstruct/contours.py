"""A mask's outline as polygons, and a mask again from polygons: exact both ways, holes and islands included.

Outlines run midway between the centres of voxels inside and outside, so that rounding of coordinates moves no voxel.
Each island is one polygon; its holes are joined to it by channels of no width, walked there and back (the keyhole
technique of PS3.3 section C.8.8.6.3). Its winding number is then one inside and zero in holes, and its parity the same,
so that every way to fill a polygon, and to combine several, gives the mask back.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ON_EDGE = 5e-3
"""How far a voxel's centre may lie off an edge, in voxels, and still be on it: rounding of coordinates in files."""
_HALF = 0.5
_AT_ONCE = 4096  # edges; times the rows of an image, what is held in memory
_KEY = 1 << 32


def require_contours() -> None:
    """Make sure that outlines can be drawn.

    Raises
    ------
    MissingExtraError
        Where scikit-image is not installed.
    """
    _find_contours()


def outlined(mask_yx: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Return the outline of a mask: one closed polygon per island, its holes joined to it by keyholes.

    The outline is the line at level 0.5 through the voxel centres (marching squares, Lorensen and Cline 1987, by
    scikit-image). Voxels that touch at a corner only are islands of their own; polygons neither touch nor cross.

    Parameters
    ----------
    mask_yx : (Y, X) bool
        One slice.

    Returns
    -------
    list of (n, 2) float64
        Vertices (y, x) in voxels, without the first one repeated at the end. Islands wind one way, holes the other.

    Raises
    ------
    MissingExtraError
        Where scikit-image is not installed.

    Examples
    --------
    >>> ring = np.ones((3, 3), bool)
    >>> ring[1, 1] = False
    >>> (polygon,) = outlined(ring)
    >>> filled([polygon], (3, 3)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    find_contours = _find_contours()
    rows, columns = np.flatnonzero(mask_yx.any(axis=1)), np.flatnonzero(mask_yx.any(axis=0))
    if not len(rows):
        return []
    corner = np.array([rows[0], columns[0]])
    inside = mask_yx[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] != 0
    traced = find_contours(np.pad(inside, 1).astype(np.float64), _HALF, fully_connected="low")
    # In half voxels every vertex is a whole number; (0, 0) is the first voxel of the box.
    loops = [np.rint(2.0 * loop[:-1]).astype(np.int64) - 2 for loop in traced]
    areas = np.array([_area(loop) for loop in loops])
    is_hole = np.sign(areas) != np.sign(areas[np.abs(areas).argmax()])  # the largest loop is no hole of another
    polygons = _joined(loops, is_hole) if is_hole.any() else [loop[_turns(loop)] for loop in loops]
    return [polygon / 2.0 + corner for polygon in polygons]


def filled(polygons_yx: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of the region that polygons enclose.

    A voxel belongs to it where its centre is enclosed by an odd number of polygons (the even-odd rule over all of them:
    a polygon in another one is a hole, and keyholes work), or lies on an edge of any. Every vertex may be anywhere;
    what is outside of the image is cut off. Numbers of floating point precision throughout; nothing is rounded to
    voxels first.

    Parameters
    ----------
    polygons_yx : sequence of (n, 2) float
        Vertices (y, x) in voxels; the last one is joined to the first.
    shape : pair of int
        Rows and columns of the image.

    Returns
    -------
    (Y, X) bool
        The mask.

    Examples
    --------
    >>> square = np.array([[0.5, 0.5], [0.5, 3.0], [2.5, 3.0], [2.5, 0.5]])
    >>> filled([square], (4, 5)).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    crossings = np.zeros((shape[0], shape[1] + 1), np.uint8)
    on_edge = np.zeros(shape, bool)
    starts = [p for p in polygons_yx if len(p)]
    if not starts:
        return on_edge
    a = np.concatenate(starts)
    b = np.concatenate([np.roll(p, -1, axis=0) for p in starts])
    for first in range(0, len(a), _AT_ONCE):
        piece = slice(first, first + _AT_ONCE)
        _count_crossings(crossings, a[piece], b[piece])
        steep = np.abs(b[piece] - a[piece])
        is_steep = steep[:, 0] >= steep[:, 1]
        _mark_edges(on_edge, a[piece][is_steep], b[piece][is_steep])
        _mark_edges(on_edge.T, a[piece][~is_steep, ::-1], b[piece][~is_steep, ::-1])
    on_edge |= np.bitwise_xor.accumulate(crossings, axis=1)[:, :-1] != 0
    return on_edge


def _find_contours() -> Callable[..., list[NDArray[np.float64]]]:
    try:
        from skimage.measure import find_contours
    except ImportError as error:
        raise MissingExtraError(
            "outlines of structures (RTSTRUCT) need scikit-image, which is not installed",
            remedy="Run: pip install 'medseg[rtstruct]'",
            code="missing-extra",
        ) from error
    found: Callable[..., list[NDArray[np.float64]]] = find_contours
    return found


# -- from a mask to polygons --------------------------------------------------------------------------------------


def _area(loop: NDArray[np.int64]) -> int:
    """Return twice the area a loop encloses, its sign telling which way the loop winds."""
    following = np.roll(loop, -1, axis=0)
    return int(np.sum(loop[:, 1] * following[:, 0] - following[:, 1] * loop[:, 0]))


def _turns(loop: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which vertices are corners, and which lie in the middle of straight runs."""
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    turns: NDArray[np.bool_] = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return turns


def _joined(loops: list[NDArray[np.int64]], is_hole: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the islands with their holes joined to them.

    From the leftmost vertex of a hole, the topmost of these, a ray goes up the odd column it lies on, midway between
    voxel centres and within the island, to the outline it meets first: the island's own, or that of a hole whose
    leftmost vertex lies further left, or as far left and further up. Along the ray runs the channel.
    """
    loops = [_with_midpoints(loop) for loop in loops]
    loops = [_from_leftmost(loop) if hole else loop for loop, hole in zip(loops, is_hole, strict=True)]
    owner = np.repeat(np.arange(len(loops)), [len(loop) for loop in loops])
    place = np.concatenate([np.arange(len(loop)) for loop in loops])
    points = np.concatenate(loops)
    on_column = np.flatnonzero(points[:, 1] % 2)
    keys = points[on_column, 1] * _KEY + points[on_column, 0]
    order = np.argsort(keys)
    holes = np.flatnonzero(is_hole)
    starts = np.array([loops[hole][0] for hole in holes])
    met = on_column[order[np.searchsorted(keys[order], starts[:, 1] * _KEY + starts[:, 0]) - 1]]

    keep = np.zeros(len(points), bool)
    keep[met] = True
    keep[np.flatnonzero(place == 0)[holes]] = True
    channels: dict[int, list[tuple[int, NDArray[np.int64]]]] = defaultdict(list)
    for nth in np.lexsort((starts[:, 0], starts[:, 1]))[::-1]:  # a hole after all that are joined to it
        hole = int(holes[nth])
        path = _with_channels(loops[hole], channels[hole], keep[owner == hole])
        channels[int(owner[met[nth]])].append((int(place[met[nth]]), np.vstack([path, path[:1]])))
    return [
        _with_channels(loops[island], channels[island], keep[owner == island])
        for island in map(int, np.flatnonzero(~is_hole))
    ]


def _with_midpoints(loop: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a loop with a vertex wherever it crosses an odd column: also in the middle of runs along a row."""
    following = np.roll(loop, -1, axis=0)
    crossing = np.flatnonzero(np.abs(following[:, 1] - loop[:, 1]) == 2)
    return np.insert(loop, crossing + 1, (loop[crossing] + following[crossing]) // 2, axis=0)


def _from_leftmost(loop: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a loop that begins at its leftmost vertex, the topmost of these."""
    return np.roll(loop, -int(np.lexsort((loop[:, 0], loop[:, 1]))[0]), axis=0)


def _with_channels(
    loop: NDArray[np.int64], channels: list[tuple[int, NDArray[np.int64]]], keep: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return a loop that, at the places of the channels, goes out along each, around a hole, and back."""
    corners = np.flatnonzero(keep | _turns(loop))
    pieces, done = [], 0
    for place, around in sorted(channels, key=lambda channel: channel[0]):
        upto = int(np.searchsorted(corners, place, side="right"))
        pieces += [loop[corners[done:upto]], around, loop[place : place + 1]]
        done = upto
    return np.concatenate([*pieces, loop[corners[done:]]])


# -- from polygons to a mask --------------------------------------------------------------------------------------


def _count_crossings(crossings: NDArray[np.uint8], a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    """Toggle, for each edge and each row of centres it crosses, the first centre at or right of the crossing.

    A row through a vertex counts for the edge that leaves downwards only, so that it is crossed once (Foley, van Dam et
    al., Computer Graphics, 1990, section 3.6).
    """
    low, high = np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 0], b[:, 0])
    edge, row = _rows(np.ceil(low), np.ceil(high) - 1, crossings.shape[0])
    if len(edge):
        x = _x_at(a[edge], b[edge], row)
        column = np.clip(np.ceil(x), 0, crossings.shape[1] - 1).astype(np.int64)
        np.bitwise_xor.at(crossings, (row, column), np.uint8(1))


def _mark_edges(on_edge: NDArray[np.bool_], a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    """Mark the centres that lie on edges steeper than 45 degrees."""
    low, high = np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 0], b[:, 0])
    edge, row = _rows(np.ceil(low - ON_EDGE), np.floor(high + ON_EDGE), on_edge.shape[0])
    if len(edge):
        x = _x_at(a[edge], b[edge], row)
        column = np.rint(x)
        hit = (np.abs(x - column) <= ON_EDGE) & (column >= 0) & (column < on_edge.shape[1])
        on_edge[row[hit], column[hit].astype(np.int64)] = True


def _rows(
    first: NDArray[np.float64], last: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs of an edge and a row of the image from its first to its last."""
    start = np.clip(first, 0, count).astype(np.int64)
    lengths = np.clip(np.clip(last, -1, count - 1).astype(np.int64) - start + 1, 0, None)
    edge = np.repeat(np.arange(len(start)), lengths)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return edge, start[edge] + within


def _x_at(a: NDArray[np.float64], b: NDArray[np.float64], row: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return where edges meet rows; beyond an edge's end, its end."""
    height = b[:, 0] - a[:, 0]
    share = np.clip((row - a[:, 0]) / np.where(height == 0, 1.0, height), 0.0, 1.0)
    x: NDArray[np.float64] = a[:, 1] + share * (b[:, 1] - a[:, 1])
    return x
