"""Grey values of a scan become those a network was trained on.

Plain functions on plain tensors that give the values of MONAI's ``NormalizeIntensity``, ``ScaleIntensityRange`` and
``ScaleIntensity``: they run before every segmentation, and loading MONAI would cost more than most of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.errors import InputError, PlanError
from medseg.plan import ClipZScore, Divide, Rescale, Unchanged, ZScore
from medseg.transforms.foreground import nonzero

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.plan import Normalisation

RELATIVE_NOISE = 1e-6  # a spread this small beside the mean is float32 rounding: the image is constant


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
    if len(normalisation) != len(image_czyx):
        raise PlanError(
            f"there are {len(normalisation)} normalisations", expected=f"{len(image_czyx)}, as the image has channels"
        )
    result = torch.empty(image_czyx.shape, dtype=torch.float32)
    is_masked = any(isinstance(how, ZScore) and how.within == "nonzero" for how in normalisation)
    inside = torch.from_numpy(nonzero(image_czyx.numpy())) if is_masked else None
    for channel, target, how in zip(image_czyx, result, normalisation, strict=True):
        target.copy_(channel)
        if not _is_finite(target):
            raise InputError(
                "the image holds voxels that are not finite numbers (NaN or infinity)",
                expected="finite voxels",
                remedy="Replace them, or take the image out",
                code="non-finite",
            )
        _normalise_channel(target, how, inside)
    return result


def _normalise_channel(x: Tensor, how: Normalisation, inside: Tensor | None) -> None:
    """Normalise one channel in place; `inside` is where the image is not zero, where any normalisation asks for it."""
    match how:
        case ClipZScore():
            x.clamp_(how.low, how.high).sub_(how.mean).div_(how.std)
        case Rescale():
            low, high = (float(end) for end in x.aminmax())
            _scale(x, low, high - low)
        case Divide():
            x.div_(how.by)
        case Unchanged():
            pass
        case ZScore(within="nonzero") if inside is not None:
            if inside.any():
                values = x[inside]
                _standardise(values)
                x[inside] = values
        case ZScore():
            _standardise(x)


def _standardise(x: Tensor) -> None:
    """Bring to mean 0 and standard deviation 1 in place."""
    variance, mean = (float(value) for value in torch.var_mean(x, correction=0))
    _scale(x, mean, variance**0.5)


def _scale(x: Tensor, centre: float, spread: float) -> None:
    """Subtract and divide in place; nothing but zeros where there is no spread."""
    if spread <= RELATIVE_NOISE * abs(centre):
        x.zero_()
    else:
        x.sub_(centre).div_(spread)


def _is_finite(x: Tensor) -> bool:
    """Tell whether all numbers are finite, without a mask of the image's size: others show in the extremes."""
    low, high = x.aminmax()
    return bool(torch.isfinite(low) and torch.isfinite(high))
