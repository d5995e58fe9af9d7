"""What happens before and after the network, in words and numbers, for those who run it without medseg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from medseg.plan import ClipZScore, Divide, Rescale, Unchanged, ZScore
from medseg.preprocess import IMAGE_ORDER
from medseg.tiling import SIGMA

if TYPE_CHECKING:
    from medseg.plan import Normalisation, Plan


def described(plan: Plan) -> dict[str, Any]:
    """Return pre- and post-processing as plain values, each step with what it does in words.

    Examples
    --------
    >>> from medseg.plan import Rescale
    >>> in_words(Rescale())
    "(value - minimum) / (maximum - minimum) of the channel's whole scan; 0 where all values are equal"
    """
    return {
        "schema": 1,
        "input": {
            "name": "windows",
            "shape": ["any number", len(plan.channels), *plan.spatial_patch],
            "type": "float32",
            "channels": list(plan.channels),
        },
        "output": {
            "name": "logits",
            "shape": ["any number", len(plan.labels) + 1, *plan.spatial_patch],
            "type": "float32",
            "classes": ["background", *plan.labels.names],
            "label_ids": [0, *plan.labels.ids],
        },
        "before": _before(plan),
        "windows": _windows(plan),
        "after": _after(plan),
    }


def in_words(how: Normalisation) -> str:
    """Return what a normalisation does to a channel."""
    match how:
        case ZScore(within="nonzero"):
            return "(value - mean) / standard deviation of where any channel is not 0, holes filled; the rest stays"
        case ZScore():
            return "(value - mean) / standard deviation of the channel's whole scan, on the working grid"
        case ClipZScore():
            return f"clip to {how.low:g} .. {how.high:g}, then (value - {how.mean:g}) / {how.std:g}"
        case Rescale():
            return "(value - minimum) / (maximum - minimum) of the channel's whole scan; 0 where all values are equal"
        case Divide():
            return f"value / {how.by:g}"
        case Unchanged():
            return "as it is"
        case _:
            assert_never(how)


def _before(plan: Plan) -> dict[str, Any]:
    stored = plan.preprocess.orientation == "stored"
    first = plan.preprocess.scan_first
    spacing: list[float | str] = list(plan.preprocess.spacing_mm)
    if plan.slice_axis is not None:
        spacing[plan.slice_axis] = "as the scan has it"
    return {
        "orientation": plan.preprocess.orientation,
        "orientation_in_words": "as the file stores its axes"
        if stored
        else "array axes (Z, Y, X) run towards these ends of the patient, in this order",
        "spacing_mm_zyx": spacing,
        "grid_in_words": "The outer faces of the volume are kept, the number of voxels is rounded, and the spacing"
        " follows from both.",
        "interpolation_order": IMAGE_ORDER,
        "interpolation_in_words": "Cubic B-splines, as SciPy has them with mode nearest; none on equal grids.",
        "axis_order": list(plan.preprocess.axis_order),
        "scan_first": None if first is None else first.model_dump(mode="json"),
        "order_in_words": "The scan is interpolated, then normalised."
        if first is None
        else "The scan is cropped and normalised on its own voxels, then interpolated as `scan_first` says; its scores"
        " go back by `scan_first.scores`, and outside of the crop is background.",
        "normalisation": [
            {"channel": name, **how.model_dump(mode="json"), "in_words": in_words(how)}
            for name, how in zip(plan.channels, plan.preprocess.normalisation, strict=True)
        ],
    }


_PLACEMENT = {
    "even": "Along each axis evenly from one end to the other, neighbours covering at least the overlap; first voxels"
    " are rounded.",
    "monai": "As MONAI's sliding_window_inference with mode='gaussian' places and weights them.",
}
_WEIGHTS = {
    "even": "A Gaussian over the patch, centred; along each axis it is divided by its sum over all windows at each"
    " voxel, so that weights add up to one.",
    "nnunet": "A Gaussian over the patch, largest at voxel side // 2; along each axis it is divided by its sum over all"
    " windows at each voxel, so that weights add up to one.",
    "monai": "A Gaussian over the patch, centred, at least 0.001; the sum of logits is divided by that of weights.",
}


def _windows(plan: Plan) -> dict[str, Any]:
    style = plan.infer.windows
    return {
        "style": style,
        "patch_zyx": list(plan.train.patch_size),
        "slice_axis": None if plan.slice_axis is None else "ZYX"[plan.slice_axis],
        "padding": "A scan smaller than the patch is padded with zeros on both sides, after normalisation.",
        "overlap": plan.infer.overlap,
        "placement": _PLACEMENT["monai" if style == "monai" else "even"],
        "weights": _WEIGHTS[style],
        "gaussian_sigma_of_side": SIGMA,
        "members": "Logits of the ensemble's members are averaged in each window.",
        "mirror_axes_of_tta": list(plan.infer.mirror_axes),
    }


def _after(plan: Plan) -> dict[str, Any]:
    crf = plan.infer.crf
    return {
        "crf": None if crf is None else crf.model_dump(mode="json"),
        "restore": "Logits of all classes are interpolated linearly at every voxel of the scan, and the largest wins;"
        " outside the working grid is background.",
        "labels": "The k-th class becomes the k-th entry of label_ids.",
        "largest_component": list(plan.infer.largest_component),
        "largest_component_in_words": "Of these label ids only the largest connected component is kept.",
        "minimum_ml": {str(label_id): ml for label_id, ml in plan.infer.minimum_ml.items()},
        "minimum_ml_in_words": "Then connected components of these label ids with less than so many ml are removed.",
        "fill_holes": list(plan.infer.fill_holes),
        "fill_holes_in_words": "Then background that a label of these ids encloses on all sides is filled with it.",
    }
