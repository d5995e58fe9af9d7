"""A torso CT with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.labels import Code, Label, LabelSet
from medseg.phantom import organs
from medseg.phantom.frame import Build, rib_parts, wall_parts
from medseg.phantom.grids import grid_over
from medseg.phantom.organs import Densities, Sketch, abdomen_parts, chest_parts
from medseg.phantom.scanner import blurred, ct_noise
from medseg.phantom.scene import Part, Phantom, Placement, render
from medseg.phantom.shapes import Points, Shape
from medseg.phantom.spine import Spine
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.phantom.shapes import Field


TORSO_LABELS = LabelSet(
    (
        Label(organs.LIVER, "liver", (178, 102, 76), Code("SCT", "10200004", "Liver")),
        Label(organs.SPLEEN, "spleen", (142, 84, 160), Code("SCT", "78961009", "Spleen")),
        Label(organs.KIDNEY_LEFT, "kidney_left", (230, 176, 60), Code("SCT", "18639004", "Left kidney")),
        Label(organs.KIDNEY_RIGHT, "kidney_right", (120, 186, 78), Code("SCT", "9846003", "Right kidney")),
        Label(organs.LUNG_LEFT, "lung_left", (96, 170, 214), Code("SCT", "44029006", "Left lung")),
        Label(organs.LUNG_RIGHT, "lung_right", (64, 112, 190), Code("SCT", "3341006", "Right lung")),
        Label(organs.HEART, "heart", (206, 62, 78), Code("SCT", "80891009", "Heart")),
        Label(organs.SPINE, "spine", (224, 214, 170), Code("SCT", "421060004", "Spine")),
    )
)
_FOOT_MM, _TOP_MM = -100.0, 170.0  # what a scan covers, in anatomical z: below the kidneys to above the heart
_TABLE_HALF_WIDTH_MM = 205.0
_TABLE_MM = 26.0  # how much of the table a scan shows
_LOWEST_HU, _HIGHEST_HU = -1024, 3071  # 12 bits


@dataclass(frozen=True, eq=False, slots=True)
class _Torso:
    """One patient on the table, before any grid."""

    parts: list[Part]
    placement: Placement
    low_lps: NDArray[np.float64]
    high_lps: NDArray[np.float64]


def torso_ct(
    seed: int,
    *,
    geometry: Geometry | None = None,
    shape: Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    tilt_deg: float = 0.0,
) -> Phantom:
    """Return a seeded torso CT, from below the kidneys to above the heart, with its truth.

    Build, pose, organs, contrast phase, noise and field of view differ between seeds. The anatomy is defined in the
    patient, not on voxels: sampled on two grids, one seed gives the same organs.

    Parameters
    ----------
    seed : int
        Whole number from 0; the same seed gives the same patient, on any grid, and on one grid the same voxels.
    geometry : Geometry, optional
        Grid to sample the patient on, in LPS mm. Without it an axial grid covers body and table.
    shape : (Z, Y, X), optional
        Number of voxels, instead of `geometry`.
    spacing_mm : (Z, Y, X), optional
        Voxel size in mm, instead of `geometry`. Without shape and spacing, one is drawn: slices every 3 to 6 mm, pixels
        of 2.8 to 4.5 mm.
    tilt_deg : float
        Gantry tilt in degrees, -45 to 45: slices lean while the grid goes straight up, so its axes are not at right
        angles. Not used with `geometry`.

    Returns
    -------
    Phantom
        ``volume`` is int16 HU, channel ``"CT"``; ``segmentation`` is uint8 with `TORSO_LABELS`.

    Raises
    ------
    GeometryError
        Where `shape`, `spacing_mm` or `tilt_deg` make no grid.

    Examples
    --------
    >>> torso = torso_ct(7, spacing_mm=(12, 9, 9))
    >>> torso.volume.array.dtype.name, torso.segmentation.labels.names[:2]
    ('int16', ('liver', 'spleen'))
    >>> bool((torso_ct(7, spacing_mm=(12, 9, 9)).volume.array == torso.volume.array).all())
    True
    """
    torso = _torso(seed)
    if geometry is None:
        geometry = _scan_grid(torso, seed, shape, spacing_mm, tilt_deg)
    image, mask = render(torso.parts, geometry, torso.placement, background=-1000.0)
    rng = np.random.default_rng([seed, 3])
    image = blurred(image, geometry, (0.3 * geometry.spacing_mm[0], 0.8, 0.8))
    image += ct_noise(image, geometry, float(rng.uniform(10, 18)), rng)
    stored = np.clip(np.rint(image), _LOWEST_HU, _HIGHEST_HU).astype(np.int16)
    return Phantom(Volume(stored[None], geometry, ("CT",)), Segmentation(mask, geometry, TORSO_LABELS))


def _torso(seed: int) -> _Torso:
    rng = np.random.default_rng([seed, 1])
    build = Build.draw(rng)
    sketch = Sketch(rng, build, Densities.draw(rng))
    placement = Placement.draw(
        rng,
        degrees=rng.normal(0, (1.5, 1.5, 2.5)),
        scale=np.clip(rng.normal(1.0, 0.035), 0.93, 1.07) * np.clip(rng.normal(1, 0.02, 3), 0.95, 1.05),
        shift_mm=rng.normal(0, (8, 8, 20)),
        warp_mm=3.5,
    )
    parts = [*wall_parts(build), *rib_parts(build), *chest_parts(sketch), *abdomen_parts(sketch)]
    parts += Spine(build).parts(organs.SPINE)
    low, high, under = _extent(build, placement)
    return _Torso([*_table_parts(under), *parts], placement, low, high)


def _extent(build: Build, placement: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the corners of what a scan covers, and the height of a table that just touches the body."""
    low_z, high_z = (float(placement.to_patient((0, 0, z))[2]) for z in (_FOOT_MM, _TOP_MM))
    steps = [np.arange(-270.0, 270.0, 5.0), np.arange(-210.0, 210.0, 3.0), np.arange(low_z - 60, high_z + 60, 12.0)]
    x, y, z = (c.astype(np.float32) for c in np.meshgrid(*steps, indexing="ij"))
    inside = build.body.distance_mm(Points(*placement.to_anatomy((x, y, z)))) < 0
    points = np.column_stack([c[inside] for c in (x, y, z)]).astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    low[2], high[2] = low_z, high_z
    return low, high, float((points[:, 1] + 0.0011 * points[:, 0] ** 2).max())


def _table_parts(under_mm: float) -> list[Part]:
    """Return mattress, shell, core and lower shell of the table, from just below `under_mm` downwards."""

    def layer(top: float, bottom: float, hu: float) -> Part:
        def distance(p: Points) -> Field:
            height = p.y + np.float32(0.0011) * p.x * p.x - np.float32(under_mm)  # its edges rise above its middle
            sheet = np.maximum(np.float32(top) - height, height - np.float32(bottom))
            out: Field = np.maximum(sheet, np.abs(p.x) - np.float32(_TABLE_HALF_WIDTH_MM))
            return out

        return Part(Shape(distance, (-1e3, under_mm - 80, -1e4), (1e3, under_mm + bottom + 1, 1e4)), hu, fixed=True)

    return [layer(5, 13, -930), layer(13, 15.5, 60), layer(15.5, 38, -970), layer(38, 40, 0)]


def _scan_grid(
    torso: _Torso, seed: int, shape: Sequence[int] | None, spacing_mm: Sequence[float] | None, tilt_deg: float
) -> Geometry:
    rng = np.random.default_rng([seed, 2])
    margin = rng.uniform((12, 12, -12), (30, 24, 12))
    low, high = torso.low_lps - margin, torso.high_lps + margin
    high[1] += _TABLE_MM
    in_plane = float(rng.uniform(2.8, 4.5))
    drawn = (float(rng.uniform(3.0, 6.0)), in_plane, in_plane)
    wanted = drawn if spacing_mm is None and shape is None else spacing_mm
    return grid_over(low, high, shape=shape, spacing_mm=wanted, tilt_deg=tilt_deg)
