"""Grey values of a scan become those a network was trained on.

Plain functions on plain tensors that give the values of MONAI's ``NormalizeIntensity``, ``ScaleIntensityRange`` and
``ScaleIntensity``: they run before every segmentation, and loading MONAI would cost more than most of them.

What a normalisation needs to know of an image is measured in a first pass over its slices, so that an image need not be
in memory as a whole. A large image is measured `SLICES` slices at a time either way: the numbers are the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from medseg.errors import InputError, PlanError
from medseg.plan import ClipZScore, Divide, Rescale, Unchanged, ZScore
from medseg.transforms.foreground import nonzero

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from medseg.plan import Normalisation

SLICES = 32  # looked at together
RELATIVE_NOISE = 1e-6  # a spread this small beside the mean is float32 rounding: the image is constant


class Scale(NamedTuple):
    """What one channel's grey values are clipped to, what is subtracted, and what they are divided by then."""

    low: float
    high: float
    centre: float
    spread: float

    def apply(self, image_zyx: Tensor) -> None:
        """Change a float32 tensor in place; a constant channel becomes zero."""
        if self.spread <= RELATIVE_NOISE * abs(self.centre):
            image_zyx.zero_()
            return
        if math.isfinite(self.high):
            image_zyx.clamp_(self.low, self.high)
        image_zyx.sub_(self.centre).div_(self.spread)


class Moments(NamedTuple):
    """Mean, sum of squared distances from it, extremes and number of the voxels seen so far, in float64."""

    mean: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    voxels: int = 0

    def joined(self, image_zyx: Tensor) -> Moments:
        """Return what is known after some more voxels (Chan, Golub and LeVeque 1983, The American Statistician 37:242).

        Raises
        ------
        InputError
            Where one is not a finite number (code ``non-finite``).
        """
        lowest, highest = (float(end) for end in image_zyx.aminmax())
        if not math.isfinite(lowest) or not math.isfinite(highest):  # others would show in the extremes
            raise InputError(
                "the image holds voxels that are not finite numbers (NaN or infinity)",
                expected="finite voxels",
                remedy="Replace them, or take the image out",
                code="non-finite",
            )
        variance, mean = (float(value) for value in torch.var_mean(image_zyx, correction=0))
        n, more = self.voxels, image_zyx.numel()
        step = mean - self.mean
        return Moments(
            self.mean + step * more / (n + more),
            self.squares + variance * more + step * step * n * more / (n + more),
            min(self.lowest, lowest),
            max(self.highest, highest),
            n + more,
        )


def is_fixed(how: Normalisation) -> bool:
    """Tell whether a normalisation is the same for every image, so that nothing need be measured."""
    return isinstance(how, (ClipZScore, Divide, Unchanged))


def is_by_slices(how: Normalisation) -> bool:
    """Tell whether a normalisation can be done slices at a time, once the image is measured."""
    return not _is_within(how)


def measured(slices: Iterable[Tensor]) -> Moments:
    """Return what is to be known of a channel, seen as parts (n, Y, X) of any real type, one after the other.

    Examples
    --------
    >>> measured([torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[5.0, 7.0]]])])
    Moments(mean=4.0, squares=20.0, lowest=1.0, highest=7.0, voxels=4)
    """
    moments = Moments()
    for part in slices:
        moments = moments.joined(part.to(torch.float32))
    return moments


def scale_for(how: Normalisation, moments: Moments) -> Scale:
    """Return what a normalisation does to a channel of which so much is known.

    Examples
    --------
    >>> from medseg.plan import ZScore
    >>> scale_for(ZScore(), Moments(mean=2.0, squares=8.0, lowest=0.0, highest=4.0, voxels=2))
    Scale(low=-inf, high=inf, centre=2.0, spread=2.0)
    """
    if isinstance(how, ClipZScore):
        return Scale(how.low, how.high, how.mean, how.std)
    centre, spread = 0.0, 1.0
    match how:
        case Rescale():
            centre, spread = moments.lowest, moments.highest - moments.lowest
        case ZScore():
            centre, spread = moments.mean, math.sqrt(moments.squares / max(1, moments.voxels))
        case Divide():
            spread = how.by
    return Scale(-math.inf, math.inf, centre, spread)


def normalise(image_czyx: Tensor, normalisation: Sequence[Normalisation]) -> Tensor:
    """Return the image with every channel normalised as the plan says.

    Parameters
    ----------
    image_czyx : Tensor
        (C, Z, Y, X) of any real type, in the units of the file.
    normalisation : sequence of Normalisation
        One for each channel.

    Returns
    -------
    Tensor
        A new float32 tensor of the same shape. A constant channel becomes zero.

    Raises
    ------
    InputError
        Where a voxel is not a finite number (code ``non-finite``).
    PlanError
        Where there is not one normalisation a channel.

    Examples
    --------
    >>> from medseg.plan import ZScore
    >>> normalise(torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2), [ZScore()]).flatten().tolist()
    [-1.0, 1.0]
    """
    require_one_each(normalisation, len(image_czyx))
    result = torch.empty(image_czyx.shape, dtype=torch.float32)
    inside = torch.from_numpy(nonzero(image_czyx.numpy())) if any(map(_is_within, normalisation)) else None
    for channel, target, how in zip(image_czyx, result, normalisation, strict=True):
        target.copy_(channel)
        if inside is None or not _is_within(how):
            scale_for(how, measured(target.split(SLICES))).apply(target)
        elif inside.any():
            values = target[inside][None]
            scale_for(how, measured([values])).apply(values)
            target[inside] = values[0]
    return result


def _is_within(how: Normalisation) -> bool:
    return isinstance(how, ZScore) and how.within == "nonzero"


def require_one_each(normalisation: Sequence[Normalisation], channels: int) -> None:
    """Refuse a number of normalisations that is not the image's number of channels."""
    if len(normalisation) != channels:
        raise PlanError(
            f"there are {len(normalisation)} normalisations", expected=f"{channels}, as the image has channels"
        )
