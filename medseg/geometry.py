"""Where voxels lie in the patient: grids in LPS millimetres, and boxes of voxels in them.

A `Geometry` maps an array index (z, y, x) to a point in the patient, in millimetres along Left, Posterior and
Superior (the DICOM patient system, PS3.3 section C.7.6.2.1.1). Cropping, padding, flipping, re-spacing are all
the choice of another `Geometry`; `medseg.resample.resample` takes voxels from one to the other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from medseg.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))  # (towards minus, towards plus) for each of x, y, z in LPS
_WORLD_AXIS = {
    letter: (axis, sign) for axis, pair in enumerate(_LETTERS) for letter, sign in zip(pair, (-1, 1), strict=True)
}
_SHEAR_TOLERANCE = 5e-3  # cosine between two axes: 0.29 degrees; scanners stack slices up to 0.1 off their normal
_OBLIQUE_TOLERANCE = 1e-3
_FLAT = 1e-6  # determinant of unit axes below which they do not span space

Orientation = Literal["axial", "coronal", "sagittal", "oblique"]


@dataclass(frozen=True, slots=True)
class Box:
    """A block of voxels: `start` included, `stop` excluded, both as index (z, y, x).

    Examples
    --------
    >>> Box((0, 2, 2), (4, 6, 8)).shape
    (4, 4, 6)
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Refuse a box that holds no voxel."""
        if any(b <= a for a, b in zip(self.start, self.stop, strict=True)):
            raise GeometryError(f"the box from {self.start} to {self.stop} holds no voxel", expected="stop > start")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels along (z, y, x)."""
        z, y, x = (int(b - a) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index for a (Z, Y, X) array."""
        z, y, x = (slice(int(a), int(b)) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


@dataclass(frozen=True, eq=False, repr=False)
class Geometry:
    """A grid of voxels placed in the patient.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along (Z, Y, X).
    affine : (4, 4) float64
        Maps homogeneous index (z, y, x, 1) to LPS millimetres (x, y, z, 1). Columns are the steps along the
        array's axes, the last one is the centre of voxel (0, 0, 0).
    frame_of_reference_uid : str or None
        DICOM frame of reference; ``None`` where the file has none.

    Raises
    ------
    GeometryError
        Where shape or affine do not describe a grid.

    Examples
    --------
    >>> g = Geometry((10, 20, 30), np.array([[0, 0, 1, 5], [0, 1, 0, 6], [2, 0, 0, 7], [0, 0, 0, 1.0]]))
    >>> g.spacing_mm, g.axis_codes
    ((2.0, 1.0, 1.0), 'SPL')
    >>> g.to_lps([9, 0, 0])
    array([ 5.,  6., 25.])
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frame_of_reference_uid: str | None = None

    def __post_init__(self) -> None:
        """Check the invariants once, so that nobody has to later."""
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        object.__setattr__(self, "affine", _checked_affine(self.affine))

    # -- derived, never stored ------------------------------------------------------------------------------
    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along (Z, Y, X)."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def origin_lps(self) -> NDArray[np.float64]:
        """Centre of voxel (0, 0, 0), as a copy."""
        return self.affine[:3, 3].copy()

    @property
    def directions_lps(self) -> NDArray[np.float64]:
        """Unit vectors of the array's axes, one a column, in the order (Z, Y, X)."""
        directions: NDArray[np.float64] = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return directions

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres; right for sheared grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def axis_codes(self) -> str:
        """Three letters: where the patient's anatomy lies in the direction of rising index along (Z, Y, X).

        ``"SPL"``: slices go up, rows go to the back, columns go to the patient's left. For oblique grids, the
        closest axis-parallel grid.
        """
        return "".join(_LETTERS[axis][int(sign > 0)] for axis, sign in self._closest_axes())

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not at right angles (a tilted gantry)."""
        directions = self.directions_lps
        cosines = (directions.T @ directions)[np.triu_indices(3, k=1)]
        return bool(np.abs(cosines).max() > _SHEAR_TOLERANCE)

    @property
    def is_oblique(self) -> bool:
        """Whether any axis is off the patient's axes."""
        largest = np.abs(self.directions_lps).max(axis=0)
        return bool((largest < 1.0 - _OBLIQUE_TOLERANCE).any())

    @property
    def orientation(self) -> Orientation:
        """The plane of the slices (Y, X); oblique where the slice normal is over 20 degrees off every axis."""
        directions = self.directions_lps
        normal = np.abs(np.cross(directions[:, 2], directions[:, 1]))
        normal = normal / np.linalg.norm(normal)
        axis = int(normal.argmax())
        planes: tuple[Orientation, ...] = ("sagittal", "coronal", "axial")
        return planes[axis] if normal[axis] >= np.cos(np.deg2rad(20.0)) else "oblique"

    @property
    def corners_lps(self) -> NDArray[np.float64]:
        """The centres of the eight corner voxels, (8, 3)."""
        corners = list(itertools.product(*((0, n - 1) for n in self.shape)))
        return self.to_lps(corners)

    # -- points ---------------------------------------------------------------------------------------------
    def to_lps(self, points_index: ArrayLike) -> NDArray[np.float64]:
        """Map indices (z, y, x), shape (..., 3), to LPS millimetres (x, y, z), shape (..., 3)."""
        points = np.asarray(points_index, dtype=np.float64)
        points_lps: NDArray[np.float64] = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points_lps

    def to_index(self, points_lps: ArrayLike) -> NDArray[np.float64]:
        """Map LPS millimetres (x, y, z), shape (..., 3), to fractional indices (z, y, x), shape (..., 3)."""
        points = np.asarray(points_lps, dtype=np.float64)
        inverse = np.linalg.inv(self.affine)
        points_index: NDArray[np.float64] = points @ inverse[:3, :3].T + inverse[:3, 3]
        return points_index

    def same_grid(self, other: Geometry, tol_mm: float = 1e-2) -> bool:
        """Tell whether both grids have the same shape and their eight corners agree within `tol_mm`.

        Different frames of reference, where both are known, are different grids.
        """
        frames = {self.frame_of_reference_uid, other.frame_of_reference_uid} - {None}
        if self.shape != other.shape or len(frames) > 1:
            return False
        return bool(np.abs(self.corners_lps - other.corners_lps).max() <= tol_mm)

    # -- other grids ----------------------------------------------------------------------------------------
    def crop(self, box: Box) -> Self:
        """Return the grid of the voxels in `box`, which must lie inside this grid."""
        if min(box.start) < 0 or any(b > n for b, n in zip(box.stop, self.shape, strict=True)):
            raise GeometryError(f"the box from {box.start} to {box.stop} leaves the grid {self.shape}")
        return self._moved(box.start, box.shape)

    def pad(self, before: Sequence[int], after: Sequence[int]) -> Self:
        """Return the grid with `before` and `after` voxels more on each side of (Z, Y, X)."""
        z, y, x = (int(n + a + b) for n, a, b in zip(self.shape, before, after, strict=True))
        return self._moved([-int(a) for a in before], (z, y, x))

    def reoriented(self, codes: str) -> Self:
        """Return the same voxels with the array's axes permuted and flipped to run along `codes`.

        Parameters
        ----------
        codes : str
            Three letters, one of each pair L/R, A/P, S/I, in the order (Z, Y, X): ``"SPL"``.

        Examples
        --------
        >>> g = Geometry((4, 5, 6), np.diag([3.0, 2.0, 1.0, 1.0]))
        >>> g.axis_codes, g.reoriented("SPL").shape
        ('LPS', (6, 5, 4))
        """
        wanted = [_WORLD_AXIS.get(letter) for letter in codes]
        if len(wanted) != 3 or None in wanted or {pair[0] for pair in wanted if pair} != {0, 1, 2}:
            raise GeometryError(
                f"{codes!r} is no orientation", expected="three letters such as 'SPL', one of each L/R, A/P, S/I"
            )
        own = self._closest_axes()
        shape, columns, corner = [], [], np.zeros(3)
        for world_axis, sign in (pair for pair in wanted if pair):
            source = next(i for i, (axis, _) in enumerate(own) if axis == world_axis)
            flip = own[source][1] != sign
            shape.append(self.shape[source])
            columns.append(-self.affine[:3, source] if flip else self.affine[:3, source])
            corner[source] = self.shape[source] - 1 if flip else 0
        affine = _assembled(np.stack(columns, axis=1), self.to_lps(corner))
        return type(self)((shape[0], shape[1], shape[2]), affine, self.frame_of_reference_uid)

    def with_spacing(self, spacing_mm: Sequence[float]) -> Self:
        """Return the grid between the same outer faces with voxels of about `spacing_mm` along (Z, Y, X).

        The number of voxels is rounded, at least one; the spacing of the result is what fills the same extent exactly.
        """
        wanted = np.asarray(spacing_mm, dtype=np.float64)
        if wanted.shape != (3,) or not np.isfinite(wanted).all() or (wanted <= 0).any():
            raise GeometryError(f"{spacing_mm} is no spacing", expected="three positive lengths in mm")
        old = np.array(self.shape)
        new = np.maximum(1, np.rint(old * np.array(self.spacing_mm) / wanted)).astype(int)
        steps = self.affine[:3, :3] * (old / new)
        first_face = self.to_lps([-0.5, -0.5, -0.5])
        affine = _assembled(steps, first_face + steps @ np.full(3, 0.5))
        return type(self)((int(new[0]), int(new[1]), int(new[2])), affine, self.frame_of_reference_uid)

    def without_shear(self) -> Self:
        """Return a right-angled grid that covers this one, with the same slice plane and in-plane spacing.

        Rows and columns keep their directions; slices follow the normal of that plane. The result is the smallest such
        grid whose voxel centres enclose the eight corners.
        """
        row, column = self.directions_lps[:, 2], self.directions_lps[:, 1]
        column = column - row * (row @ column)
        column /= np.linalg.norm(column)
        normal = np.cross(row, column)
        normal *= np.sign(normal @ self.affine[:3, 0])
        spacing = np.array(self.spacing_mm)
        spacing[0] = abs(normal @ self.affine[:3, 0])
        steps = np.stack([normal, column, row], axis=1) * spacing
        corners = np.linalg.solve(steps, self.corners_lps.T).T
        low = corners.min(axis=0)
        count = np.ceil(corners.max(axis=0) - low - 1e-6).astype(int) + 1
        return type(self)(
            (int(count[0]), int(count[1]), int(count[2])), _assembled(steps, steps @ low), self.frame_of_reference_uid
        )

    def __repr__(self) -> str:
        """Return shape, spacing, origin and orientation on one line."""
        spacing = " x ".join(f"{s:g}" for s in np.round(self.spacing_mm, 4))
        origin = ", ".join(f"{o:g}" for o in np.round(self.affine[:3, 3], 3))
        shear = ", sheared" if self.is_sheared else ""
        return f"Geometry({self.shape}, {spacing} mm, origin ({origin}) LPS, {self.axis_codes}{shear})"

    def _moved(self, first_index: Sequence[int], shape: tuple[int, int, int]) -> Self:
        affine = _assembled(self.affine[:3, :3], self.to_lps(first_index))
        return type(self)(shape, affine, self.frame_of_reference_uid)

    def _closest_axes(self) -> list[tuple[int, int]]:
        """Return for each array axis the world axis (0 x, 1 y, 2 z) and sign of the best one-to-one matching."""
        directions = self.directions_lps
        best = max(itertools.permutations(range(3)), key=lambda p: sum(abs(directions[w, a]) for a, w in enumerate(p)))
        return [(world, 1 if directions[world, axis] > 0 else -1) for axis, world in enumerate(best)]


def _assembled(steps: NDArray[np.float64], origin_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = origin_lps
    return affine


def _checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape):
        raise GeometryError(f"the shape is {tuple(shape)}", expected="three positive whole numbers (Z, Y, X)")
    z, y, x = (int(n) for n in shape)
    return z, y, x


def _checked_affine(affine: ArrayLike) -> NDArray[np.float64]:
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise GeometryError(f"the affine has shape {matrix.shape}", expected="(4, 4)")
    if not np.isfinite(matrix).all():
        raise GeometryError("the affine holds numbers that are not finite")
    if not np.array_equal(matrix[3], [0.0, 0.0, 0.0, 1.0]):
        raise GeometryError(f"the affine's last row is {matrix[3].tolist()}", expected="[0, 0, 0, 1]")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(matrix[:3, :3] / np.where(lengths > 0, lengths, 1))) < _FLAT:
        raise GeometryError("the affine does not span space: an axis has no length or two axes are parallel")
    matrix.flags.writeable = False
    return matrix
