"""Grids for phantoms: scanner-like ones over a box of the patient, and awkward ones for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.phantom.shapes import Vector

_MAX_VOXELS = 1 << 30


def grid_over(
    low_lps: Vector,
    high_lps: Vector,
    *,
    shape: Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    tilt_deg: float = 0.0,
) -> Geometry:
    """Return an axial grid, index order S-P-L, centred on a box of the patient.

    With `spacing_mm` alone the grid covers the box; with `shape` alone its voxels are square within slices and as small
    as covers the box; with both it has just these. `tilt_deg` tilts the slices about the left-right axis while they
    still follow each other straight upwards, as under a tilted gantry.

    Examples
    --------
    >>> grid_over((-10, -20, 0), (10, 20, 60), spacing_mm=(5, 2, 2)).shape
    (12, 20, 10)
    >>> grid_over((-10, -20, 0), (10, 20, 60), shape=(12, 10, 10)).spacing_mm
    (5.0, 4.0, 4.0)
    """
    low, high = np.asarray(low_lps, np.float64), np.asarray(high_lps, np.float64)
    extent = (high - low)[::-1]
    if spacing_mm is not None:
        spacing = _positive(spacing_mm, "spacing_mm")
        counts = np.maximum(1, np.rint(extent / spacing)) if shape is None else _positive(shape, "shape")
    elif shape is not None:
        counts = _positive(shape, "shape")
        spacing = extent / counts
        spacing[1:] = spacing[1:].max()
    else:
        raise GeometryError("neither shape nor spacing is given", expected="at least one of them")
    if np.prod(counts) > _MAX_VOXELS:
        raise GeometryError(f"the grid would have {np.prod(counts):.3g} voxels", expected=f"at most {_MAX_VOXELS}")
    if not abs(tilt_deg) <= 45:  # refuses NaN too
        raise GeometryError(f"the gantry tilt is {tilt_deg} degrees", expected="-45 to 45")
    angle = np.deg2rad(tilt_deg)
    affine = np.eye(4)
    affine[:3, 0] = (0, 0, spacing[0])
    affine[:3, 1] = np.array([0, np.cos(angle), np.sin(angle)]) * spacing[1]
    affine[:3, 2] = (spacing[2], 0, 0)
    affine[:3, 3] = 0.5 * (low + high) - affine[:3, :3] @ ((counts - 1) / 2)
    z, y, x = (int(n) for n in counts)
    return Geometry((z, y, x), affine)


def _positive(values: Sequence[float], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, np.float64)
    if array.shape != (3,) or not np.isfinite(array).all() or (array <= 0).any():
        raise GeometryError(f"{name} is {values}", expected="three positive numbers along (Z, Y, X)")
    return array
