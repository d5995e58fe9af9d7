"""The example an export is compared on: one window of the plan's patch, drawn, and prepared as the plan says.

Bodies within each other, at the grey values the plan's normalisation knows, with texture and noise: a trained network
finds borders and several labels in it, as it does in a scan, and nothing in it is a patient's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from medseg.plan import ClipZScore
from medseg.transforms.intensity import normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.plan import Normalisation, Plan

IN_WORDS = "bodies within each other, with texture and noise, at the grey values of the plan's normalisation"
_LEVELS = (0.05, 0.5, 0.75, 0.35, 0.95)  # outside, then each body inwards, as shares of the range
_SIZES = (0.85, 0.6, 0.4, 0.2)  # of the bodies, as shares of the window


def example_window(plan: Plan, *, seed: int = 0) -> Tensor:
    """Return one window as the networks see it.

    Parameters
    ----------
    plan : Plan
        Says patch, channels and normalisation.
    seed : int
        Another one draws other bodies.

    Returns
    -------
    Tensor
        (1, C, *spatial) float32, normalised.
    """
    generator = np.random.default_rng(seed)
    channels = [_drawn(plan.train.patch_size, how, generator) for how in plan.preprocess.normalisation]
    image_czyx = normalise(torch.from_numpy(np.stack(channels)), plan.preprocess.normalisation)
    return (image_czyx if plan.slice_axis is None else image_czyx.squeeze(plan.slice_axis + 1))[None]


def _drawn(shape: tuple[int, int, int], how: Normalisation, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return one channel (Z, Y, X), in the units of a scan."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    image = np.full(shape, _LEVELS[0])
    for size, level in zip(_SIZES, _LEVELS[1:], strict=True):
        centre, radii = generator.uniform(-0.15, 0.15, 3), size * generator.uniform(0.8, 1.1, 3)
        image[sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)) <= 1] = level
    texture = gaussian_filter(generator.normal(size=shape), [min(3.0, n / 8) for n in shape])
    image += 0.05 * texture / max(float(texture.std()), 1e-9) + generator.normal(0, 0.02, shape)
    low, high = (how.low, how.high) if isinstance(how, ClipZScore) else (0.0, 1000.0)
    return (low + (high - low) * image).astype(np.float32)
