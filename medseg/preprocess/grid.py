"""The working grid: where a network sees a scan."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.plan.part import AXES

if TYPE_CHECKING:
    from medseg.geometry import Geometry
    from medseg.plan import Plan

MAX_WORKING_VOXELS = 4_000_000_000  # a scan beyond this has a header in other units


def working_grid(geometry: Geometry, plan: Plan) -> Geometry:
    """Return the grid the network sees a scan on.

    Right-angled; in the plan's orientation, unless that is ``stored``; in the plan's spacing, but along the slice axis
    of a 2-D network in the scan's own. Where rounding leaves the number of voxels as it is, so does the grid, and
    nothing is interpolated. A plan that crops the scan first (`ScanFirst`) has a part of it, which depends on the scan.

    Parameters
    ----------
    geometry : Geometry
        The scan's.
    plan : Plan
        Says orientation and spacing.

    Raises
    ------
    InputError
        Where that grid would be absurdly large.
    """
    return spaced(turned(geometry, plan), plan)


def turned(geometry: Geometry, plan: Plan) -> Geometry:
    """Return a scan's grid, right-angled and with its axes as the plan has them."""
    grid = geometry.without_shear() if geometry.is_sheared else geometry
    codes = plan.preprocess.orientation
    if codes == "stored":
        codes = "".join(grid.axis_codes[AXES.index(axis)] for axis in plan.preprocess.axis_order)
    return grid.reoriented(codes)


def spaced(grid: Geometry, plan: Plan) -> Geometry:
    """Return a turned grid between the same faces in the plan's spacing."""
    spacing = target_mm(grid, plan)
    voxels = math.prod(
        max(1.0, n * own / new) for n, own, new in zip(grid.shape, grid.spacing_mm, spacing, strict=True)
    )
    if voxels > MAX_WORKING_VOXELS:
        raise InputError(
            f"the scan would have {voxels:.2g} voxels at the model's spacing of {plan.preprocess.spacing_mm} mm",
            expected=f"at most {MAX_WORKING_VOXELS:.2g}",
            remedy="Check the spacing in its header",
        )
    if plan.preprocess.scan_first is None:
        return grid.with_spacing(spacing)
    counts = [max(1, round(own / new * n)) for n, own, new in zip(grid.shape, grid.spacing_mm, spacing, strict=True)]
    return grid.with_spacing([n * own / m for n, own, m in zip(grid.shape, grid.spacing_mm, counts, strict=True)])


def target_mm(grid: Geometry, plan: Plan) -> list[float]:
    """Return the spacing a turned grid is to have; along the slice axis of a 2-D network it is the grid's own."""
    spacing = list(plan.preprocess.spacing_mm)
    if plan.slice_axis is not None:
        spacing[plan.slice_axis] = grid.spacing_mm[plan.slice_axis]
    return spacing
