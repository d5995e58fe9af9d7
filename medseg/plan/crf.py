"""How a fully connected CRF refines what a network says."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.plan.part import Count, Part, Positive

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CrfPlan(Part):
    """The fully connected CRF of Krähenbühl and Koltun 2011: two Gaussian kernels with their weights, and how often.

    Both kernels are normalised: a weight is about the most its kernel adds to a class's logit where all voxels around
    are of that class, and 0 switches the kernel off. `smoothness_sigma_mm` and `appearance_sigma_mm` are standard
    deviations in millimetres; `appearance_sigma_intensity` is one in the units of the normalised image, which for
    ``zscore`` are its standard deviations and for ``rescale`` its range.
    """

    iterations: Count = 5
    smoothness_weight: Weight = 1.0
    smoothness_sigma_mm: Positive = 1.5
    appearance_weight: Weight = 2.0
    appearance_sigma_mm: Positive = 5.0
    appearance_sigma_intensity: Positive = 0.2
