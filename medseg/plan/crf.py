"""How a fully connected CRF refines what a network says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.plan.part import Auto, Count, NonNegative, Part, Positive

if TYPE_CHECKING:
    from collections.abc import Iterable

IN_STANDARD_DEVIATIONS = 0.2
IN_SHARES_OF_THE_RANGE = 0.04  # a picture's values lie between 0 and 1, where 0.2 is most of what tells things apart


class _Kernels(Part):
    """What plan and recipe have in common."""

    iterations: Count = 5
    smoothness_weight: NonNegative = 1.0
    smoothness_sigma_mm: Positive = 1.5
    appearance_weight: NonNegative = 2.0
    appearance_sigma_mm: Positive = 5.0


class CrfPlan(_Kernels):
    """The fully connected CRF of Krähenbühl and Koltun 2011: two Gaussian kernels with their weights, and how often.

    Both kernels are normalised: a weight is about the most its kernel adds to a class's logit where all voxels around
    are of that class, and 0 switches the kernel off. `smoothness_sigma_mm` and `appearance_sigma_mm` are standard
    deviations in millimetres; `appearance_sigma_intensity` is one in the units of the normalised image, which for
    ``zscore`` are its standard deviations and for ``rescale`` its range.
    """

    appearance_sigma_intensity: Positive = IN_STANDARD_DEVIATIONS


class CrfRecipe(_Kernels):
    """`CrfPlan` with ``auto``: how alike is alike follows from the normalisation."""

    appearance_sigma_intensity: Positive | Auto = "auto"

    def resolved(self, normalisation: Iterable[str]) -> CrfPlan:
        """Return the plan for images whose channels are normalised by these kinds.

        Examples
        --------
        >>> CrfRecipe().resolved(["rescale"]).appearance_sigma_intensity
        0.04
        """
        sigma = self.appearance_sigma_intensity
        if sigma == "auto":
            sigma = IN_SHARES_OF_THE_RANGE if "rescale" in normalisation else IN_STANDARD_DEVIATIONS
        return CrfPlan.model_validate(self.model_dump() | {"appearance_sigma_intensity": sigma})
