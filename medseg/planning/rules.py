"""Choices that follow from the data alone: spacing, normalisation, slice axis, mirroring.

nnU-Net's published rules (Isensee 2021, Nature Methods 18:203, table 1 and supplementary note 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import PlanError
from medseg.plan import ClipZScore, Rescale, ZScore
from medseg.plan.part import AXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.plan import ChannelFingerprint, Fingerprint, Normalisation, Recipe
    from medseg.plan.part import AxisName

ANISOTROPIC = 3.0  # an axis this many times as coarse, and its shape that many times as small, as the others
COARSE_PERCENTILE = 10
PICTURE_CHANNELS = {"red", "green", "blue", "r", "g", "b", "rgb_to_0_1"}
SMALLEST_STD = 1e-6


def channel_names(recipe: Recipe, fingerprint: Fingerprint) -> tuple[str, ...]:
    """Return the channels' names: the recipe's, else the data set's.

    Raises
    ------
    PlanError
        Where neither says what the images are: CT values have a meaning that MR values lack, so this is not guessed.
    """
    found = tuple(channel.name for channel in fingerprint.channels)
    if recipe.channels:
        if len(recipe.channels) != len(found):
            raise PlanError(
                f"the recipe names {len(recipe.channels)} channels", expected=f"{len(found)}, as the images have"
            )
        return recipe.channels
    if any(name == "image" or name.startswith("image_") for name in found):
        example = ", ".join(["CT", "MR", "MR", "MR"][: max(1, min(4, len(found)))])
        raise PlanError(
            f"the data set {fingerprint.dataset!r} does not say what its images are",
            expected=f"{len(found)} channel name(s)",
            remedy=f"Name them: 'channels: [{example}]' in the recipe, or --set 'channels=[{example}]'",
        )
    return found


def target_spacing(fingerprint: Fingerprint) -> tuple[float, float, float]:
    """Return the median spacing; along one very coarse axis the 10th percentile, so that thin slices keep detail."""
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])
    target = np.median(spacings, axis=0)
    shape = np.median([case.shape for case in fingerprint.cases], axis=0)
    worst = int(target.argmax())
    others = [axis for axis in range(3) if axis != worst]
    is_coarse = target[worst] > ANISOTROPIC * target[others].max()
    if is_coarse and shape[worst] * ANISOTROPIC < shape[others].min():
        finer = float(np.percentile(spacings[:, worst], COARSE_PERCENTILE))
        target[worst] = max(finer, float(target[others].max()))
    z, y, x = (float(round(value, 6)) for value in target)
    return z, y, x


def median_shape(fingerprint: Fingerprint, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the median number of voxels along each axis once all cases have `spacing_mm`."""
    shapes = [np.array(case.shape) * np.array(case.spacing_mm) / spacing_mm for case in fingerprint.cases]
    median: NDArray[np.float64] = np.maximum(1, np.rint(np.median(shapes, axis=0)))
    return median


def normalisation(
    recipe: Recipe, names: tuple[str, ...], channels: tuple[ChannelFingerprint, ...]
) -> tuple[Normalisation, ...]:
    """Return how each channel is normalised: CT by all foreground, pictures to 0..1, all else by itself."""
    wanted = recipe.preprocess.normalisation
    kinds = tuple(_kind_of(name) for name in names) if wanted == "auto" else wanted
    if len(kinds) == 1:
        kinds = kinds * len(names)
    if len(kinds) != len(names):
        raise PlanError(
            f"the recipe has {len(kinds)} normalisations", expected=f"one, or {len(names)}: one per channel"
        )
    return tuple(_normalisation(kind, channel) for kind, channel in zip(kinds, channels, strict=True))


def slice_axis(fingerprint: Fingerprint, spacing_mm: tuple[float, float, float]) -> int:
    """Return the axis a 2-D network sees slices along: that of one-slice images, else the coarsest, else Z."""
    shapes = np.array([case.shape for case in fingerprint.cases])
    flat = np.flatnonzero((shapes == 1).all(axis=0))
    if flat.size:
        return int(flat[0])
    coarsest = int(np.argmax(spacing_mm))
    others = [s for axis, s in enumerate(spacing_mm) if axis != coarsest]
    return coarsest if spacing_mm[coarsest] >= 2 * max(others) else 0


def mirror_axes(recipe: Recipe, fingerprint: Fingerprint, *, without: int | None) -> tuple[AxisName, ...]:
    """Return the axes a mirrored image is as good as the image along.

    Not X where a label has a side: X runs from right to left on the working grid. On grids as stored nobody knows which
    axis that is, so none. Never the slice axis of a 2-D network.
    """
    if fingerprint.labels.has_sides:
        allowed: tuple[AxisName, ...] = () if recipe.preprocess.orientation == "stored" else _not_lateral(recipe)
    else:
        allowed = AXES
    return tuple(axis for axis in allowed if without is None or axis != AXES[without])


def _not_lateral(recipe: Recipe) -> tuple[AxisName, ...]:
    codes = recipe.preprocess.orientation
    return tuple(axis for axis, code in zip(AXES, codes, strict=True) if code not in "LR")


def _kind_of(name: str) -> str:
    if name.strip().upper() == "CT":
        return "clip_zscore"
    return "rescale" if name.strip().lower() in PICTURE_CHANNELS else "zscore"


def _normalisation(kind: str, channel: ChannelFingerprint) -> Normalisation:
    if kind == "clip_zscore":
        return ClipZScore(
            low=channel.percentile_00_5,
            high=channel.percentile_99_5,
            mean=channel.mean,
            std=max(channel.std, SMALLEST_STD),
        )
    return Rescale() if kind == "rescale" else ZScore()
