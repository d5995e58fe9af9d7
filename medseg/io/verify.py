"""Proof that a file holds what was to be written: grids within a micrometre, voxels bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import OutputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.volume import Volume

CORNER_TOLERANCE_MM = 1e-3
_PLANE = 2


def check_as_written(reread: Volume, *, array_czyx: NDArray[Any], geometry: Geometry) -> None:
    """Refuse a file that did not read back as written.

    Parameters
    ----------
    reread : Volume
        What was read from the file.
    array_czyx, geometry
        What was to be written. The frame of reference is not compared: only DICOM can hold it.

    Raises
    ------
    OutputError
        Where voxels, their type, or a corner by more than `CORNER_TOLERANCE_MM` differ.
    """
    off_mm = corner_distance_mm(reread.geometry, geometry)
    if off_mm > CORNER_TOLERANCE_MM:
        raise OutputError(
            f"the file's grid came back {off_mm:.3g} mm off",
            expected=f"{geometry}",
            remedy="This format cannot hold the grid: write NIfTI or NRRD",
        )
    if not same_bits(reread.array, array_czyx):
        raise OutputError(
            f"the voxels came back different (as {reread.array.dtype}{reread.array.shape})",
            expected=f"the {array_czyx.dtype}{array_czyx.shape} that was written",
            remedy="Check the disk, or write another format",
        )


def corner_distance_mm(a: Geometry, b: Geometry) -> float:
    """Return the largest distance between corresponding corners of two grids; infinite for different shapes."""
    if a.shape != b.shape:
        return float("inf")
    return float(np.linalg.norm(a.corners_lps - b.corners_lps, axis=1).max())


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Tell whether two arrays have the same type, shape and bits; unlike ``==``, this holds for NaN too."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.ndim > _PLANE:  # a plane at a time: nothing of the arrays' own size is made
        return all(same_bits(one, other) for one, other in zip(a, b, strict=True))
    bits = np.dtype(f"u{a.dtype.itemsize}")
    return bool(np.array_equal(np.ascontiguousarray(a).view(bits), np.ascontiguousarray(b).view(bits)))
