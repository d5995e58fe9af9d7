"""Simple phantoms whose volume a formula gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.labels import Label, LabelSet
from medseg.phantom.scene import Phantom
from medseg.phantom.shapes import rotation
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.geometry import Geometry

ELLIPSOID_LABELS = LabelSet((Label(1, "ellipsoid", (206, 62, 78)),))


def ellipsoid(
    geometry: Geometry,
    centre_lps: Sequence[float],
    radii_mm: Sequence[float],
    *,
    degrees: Sequence[float] = (0.0, 0.0, 0.0),
    inside: int = 100,
    outside: int = 0,
) -> Phantom:
    """Return an ellipsoid on any grid: oblique, anisotropic, flipped or sheared.

    A voxel belongs to it when its centre does. `ellipsoid_ml` gives the true volume.

    Parameters
    ----------
    geometry : Geometry
        The grid.
    centre_lps, radii_mm : (x, y, z)
        Centre and half axes in LPS mm.
    degrees : (x, y, z)
        Turn of the half axes about x, then y, then z.
    inside, outside : int
        Voxel values, -32768 to 32767.

    Returns
    -------
    Phantom
        ``volume`` is int16 with one channel ``"CT"``; ``segmentation`` is uint8, label 1.

    Raises
    ------
    GeometryError
        Where a radius is not positive.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> grid = Geometry((40, 40, 40), np.diag([1.0, 1, 1, 1]))
    >>> ball = ellipsoid(grid, (20, 20, 20), (15, 12, 10))
    >>> round(ball.segmentation.volumes_ml()[1], 1), round(ellipsoid_ml((15, 12, 10)), 1)
    (7.5, 7.5)
    """
    radii = np.asarray(radii_mm, np.float64)
    if radii.shape != (3,) or not (radii > 0).all():
        raise GeometryError(f"the radii are {radii_mm}", expected="three positive lengths in mm")
    turn = rotation(degrees)
    into = (turn / radii).T @ geometry.affine[:3, :3]
    start = (turn / radii).T @ (geometry.origin_lps - np.asarray(centre_lps, np.float64))
    k, j, i = np.ogrid[tuple(slice(0, n) for n in geometry.shape)]
    squared = sum((row[0] * k + row[1] * j + row[2] * i + at) ** 2 for row, at in zip(into, start, strict=True))
    mask = (squared <= 1.0).astype(np.uint8)
    image = np.where(mask == 1, inside, outside).astype(np.int16)
    return Phantom(Volume(image[None], geometry, ("CT",)), Segmentation(mask, geometry, ELLIPSOID_LABELS))


def ellipsoid_ml(radii_mm: Sequence[float]) -> float:
    """Return the volume of an ellipsoid in millilitres: 4/3 pi abc."""
    a, b, c = radii_mm
    return float(4 / 3 * np.pi * a * b * c / 1000)
