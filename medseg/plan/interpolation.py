"""Interpolation as nnU-Net has it: on the scan's own faces, and along an axis of thick slices apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from medseg.plan.part import Part, Positive

if TYPE_CHECKING:
    from collections.abc import Sequence

_EQUAL = 1e-6  # of a spacing: headers hold float32


class Interpolation(Part):
    """How values are taken to a grid of other voxels between the same faces (Isensee 2021, Nature Methods 18:203).

    Attributes
    ----------
    order : 1 or 3
        Linear, or cubic B-splines kept within the values that were there.
    apart : str
        ``anisotropic``: where one axis of either grid has voxels over `anisotropy` times as long as the shortest, it is
        treated apart: each slice in its plane by `order`, then across slices by `across`. ``always``: the longest axis
        of the grid that is left is. ``never``: none.
    across : 0, 1 or 3
        0 takes the nearest slice.
    anisotropy : float
        Longest spacing over shortest.
    """

    order: Literal[1, 3] = 3
    apart: Literal["never", "anisotropic", "always"] = "never"
    across: Literal[0, 1, 3] = 0
    anisotropy: Positive = 3.0

    def axis_apart(self, from_mm: Sequence[float], to_mm: Sequence[float]) -> int | None:
        """Return the axis to treat apart between two grids of these spacings; None where there is none.

        Two axes that are equally long are not treated apart.

        Examples
        --------
        >>> Interpolation(apart="anisotropic").axis_apart((5.0, 1.0, 1.0), (1.0, 1.0, 1.0))
        0
        """
        if self.apart == "never":
            return None
        if self.apart == "always" or self._is_anisotropic(from_mm):
            return _longest(from_mm)
        return _longest(to_mm) if self._is_anisotropic(to_mm) else None

    def _is_anisotropic(self, spacing_mm: Sequence[float]) -> bool:
        return max(spacing_mm) / min(spacing_mm) > self.anisotropy * (1 + _EQUAL)


class ScanFirst(Part):
    """What is done on the scan's own voxels before interpolation: nnU-Net's order of things.

    Attributes
    ----------
    crop : str
        ``nonzero``: the scan is cut to the box of voxels where any channel is not 0; outside is background.
    image, scores : Interpolation
        Of the normalised scan onto the working grid, and of the classes' scores back.
    """

    crop: Literal["none", "nonzero"] = "none"
    image: Interpolation = Field(default_factory=Interpolation)
    scores: Interpolation = Field(default_factory=lambda: Interpolation(order=1))


def _longest(spacing_mm: Sequence[float]) -> int | None:
    """Return the axis of the largest spacing, None where several have it."""
    longest = [axis for axis, spacing in enumerate(spacing_mm) if spacing >= max(spacing_mm) * (1 - _EQUAL)]
    return longest[0] if len(longest) == 1 else None
