"""Training augmentation: a larger patch in, a varied patch out, the same for the same seed.

Image and label are rotated, scaled and bent in one interpolation each, from a patch large enough that no corner has to
be made up where the image goes on. Intensities are then varied by MONAI's transforms, in nnU-Net's order (Isensee 2021,
supplement, section 2). Values between augmentation and network are normalised: 0 is a typical value and fills what lies
outside the image. The label there is background, or, where the plan has an id to be ignored, -1: nobody looked there.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
)
from monai.transforms.spatial.array import AffineGrid, RandSimulateLowResolution, Resample
from monai.transforms.transform import Randomizable
from torch.nn import functional as F

from medseg.errors import PlanError
from medseg.labels import IGNORED
from medseg.plan.part import AXES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from medseg.plan import AugmentPlan, Plan

NOISE_STD = 0.1
BLUR_SIGMA = (0.5, 1.0)
BRIGHTNESS = CONTRAST = 0.25
LOW_RESOLUTION_ZOOM = (0.5, 1.0)
GAMMA = (0.7, 1.5)
INVERTED_GAMMA_SHARE = 1 / 3
BEND_GRID = 16
"""Voxels between the control points of elastic deformation."""
BEND_STD = 2.0
"""Their displacement's standard deviation, in voxels."""


class Augmentation:
    """The variations of a plan, applied to one patch at a time.

    Parameters
    ----------
    plan : Plan
        Its ``train.augment`` says how likely and how strong each variation is.

    Attributes
    ----------
    extract_size : tuple of int
        The (Z, Y, X) size patches must be given in.

    Raises
    ------
    PlanError
        Where the plan mirrors left and right though its labels have sides.
    """

    def __init__(self, plan: Plan) -> None:
        augment = plan.train.augment
        self.slice_axis = plan.slice_axis
        self.patch = plan.spatial_patch
        self.mirrors = _mirrors(plan)
        rotation = tuple(math.radians(angle) for angle in augment.rotation_deg)
        if self.slice_axis is not None:
            rotation = (rotation[self.slice_axis],)
        self.spatial = _Spatial(augment, rotation)
        self.outside = 0 if plan.ignore_label is None else IGNORED
        self.intensity = _intensity(augment, dimensions=len(self.patch))
        inner = self.spatial.reach(self.patch)
        self.extract_size = _with_slice(inner, self.slice_axis)

    def __call__(self, image: Tensor, label: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Return a varied patch.

        Parameters
        ----------
        image : Tensor
            float32 (C, Z, Y, X) of `extract_size`, normalised.
        label : Tensor
            Integer (Z, Y, X) of `extract_size`.
        seed : int
            Decides every variation: the same seed, patch and plan give the same result.

        Returns
        -------
        tuple of Tensor
            float32 (C, *patch) and the labels (*patch) in their own type; in 2-D without the slice axis.
        """
        image, label = image.float(), label[None]
        if self.slice_axis is not None:
            image, label = image.squeeze(1 + self.slice_axis), label.squeeze(1 + self.slice_axis)
        self.spatial.set_random_state(seed)
        self.intensity.set_random_state(seed)
        image, label = self.spatial(image, label - self.outside, self.patch)
        label = label + self.outside
        flips = [1 + axis for axis in self.mirrors if self.spatial.R.random() < 0.5]  # noqa: PLR2004 - a fair coin
        image = _plain(self.intensity(image))
        return image.flip(flips).contiguous(), label.flip(flips)[0].contiguous()


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Keep MONAI from wrapping tensors in its metadata class within this block; results are equal, only sooner there.

    The switch is MONAI's own and global, so the block belongs around a whole run, not around a call among threads.
    """
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class _Spatial(Randomizable):
    """Rotation, scaling and elastic deformation in one resampling."""

    def __init__(self, augment: AugmentPlan, rotation: tuple[float, ...]) -> None:
        self.augment = augment
        self.rotation = rotation if augment.rotation_probability > 0 else (0.0,) * len(rotation)
        self.scaling = augment.scaling if augment.scaling_probability > 0 else (1.0, 1.0)
        self.resample = Resample(padding_mode="zeros", dtype=torch.float32)  # type: ignore[arg-type]  # MONAI passes it on to torch

    def reach(self, patch: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size a patch needs around it: turned fully about any one axis, then enlarged fully."""
        sides = [float(side) for side in patch]
        for (first, second), angle in _planes(self.rotation):
            for own, other in ((first, second), (second, first)):
                worst = min(angle, math.atan2(patch[other], patch[own]))
                sides[own] = max(sides[own], patch[own] * math.cos(worst) + patch[other] * math.sin(worst))
        enlarged = max(1.0, *self.scaling)
        return tuple(p + 2 * math.ceil((s * enlarged - p) / 2 - 1e-6) for p, s in zip(patch, sides, strict=True))

    def __call__(self, image: Tensor, label: Tensor, patch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return image and label on the grid of the patch: the centre of what was given, varied."""
        chances = self.R.random(3)
        turned = chances[0] < self.augment.rotation_probability
        scaled = chances[1] < self.augment.scaling_probability
        bent = chances[2] < self.augment.elastic_probability
        angles = [float(self.R.uniform(-angle, angle)) if turned else 0.0 for angle in self.rotation]
        scale = float(self.R.uniform(*self.scaling)) if scaled else 1.0
        if not (turned or scaled or bent):
            centre = (slice(None), *(slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(image.shape[1:], patch)))  # noqa: B905 - the channel axis leads both
            return image[centre], label[centre]
        affine = AffineGrid(rotate_params=angles, scale_params=[scale] * len(patch))
        grid = _plain(affine(patch)[0])
        if bent:
            grid[: len(patch)] += self._bend(patch)
        varied = _plain(self.resample(image, grid, mode="bilinear"))
        moved = _plain(self.resample(label.float(), grid, mode="nearest"))
        return varied, moved.round().to(label.dtype)

    def _bend(self, patch: tuple[int, ...]) -> Tensor:
        """Return a smooth displacement (axes, *patch) in voxels."""
        knots = tuple(max(2, math.ceil(side / BEND_GRID) + 1) for side in patch)
        coarse = torch.from_numpy(self.R.normal(0.0, BEND_STD, (1, len(patch), *knots))).float()
        return F.interpolate(coarse, patch, mode=_linear(len(patch)), align_corners=True)[0]


def _intensity(augment: AugmentPlan, *, dimensions: int) -> Compose:
    """Return what varies grey values alone."""
    return Compose(
        [
            RandGaussianNoise(prob=augment.noise_probability, std=NOISE_STD),
            RandGaussianSmooth(BLUR_SIGMA, BLUR_SIGMA, BLUR_SIGMA, prob=augment.blur_probability),
            RandScaleIntensity(factors=BRIGHTNESS, prob=augment.brightness_probability),
            RandScaleIntensityFixedMean(
                factors=CONTRAST, prob=augment.contrast_probability, preserve_range=True, fixed_mean=True
            ),
            RandSimulateLowResolution(
                prob=augment.low_resolution_probability,
                upsample_mode=_linear(dimensions),
                zoom_range=LOW_RESOLUTION_ZOOM,
            ),
            RandAdjustContrast(
                prob=augment.gamma_probability * INVERTED_GAMMA_SHARE, gamma=GAMMA, invert_image=True, retain_stats=True
            ),
            RandAdjustContrast(prob=augment.gamma_probability, gamma=GAMMA, retain_stats=True),
        ]
    )


def _mirrors(plan: Plan) -> tuple[int, ...]:
    """Return the axes of the network's patch that may be mirrored, refusing left and right where labels have sides."""
    codes = plan.preprocess.orientation
    axes = [AXES.index(name) for name in plan.train.augment.mirror_axes]
    if plan.labels.has_sides and any(codes == "stored" or codes[axis] in "LR" for axis in axes):
        raise PlanError(
            "the plan mirrors left and right, but some labels are of one side",
            expected="train.augment.mirror_axes without the left-right axis",
            remedy="Set train.augment.mirror_axes=[]",
        )
    if plan.slice_axis is None:
        return tuple(axes)
    return tuple(axis - (axis > plan.slice_axis) for axis in axes if axis != plan.slice_axis)


def _planes(rotation: tuple[float, ...]) -> list[tuple[tuple[int, int], float]]:
    """Return the two axes each rotation moves, with its largest angle."""
    planes = [(0, 1)] if len(rotation) == 1 else [(1, 2), (0, 2), (0, 1)]
    return [(plane, abs(angle)) for plane, angle in zip(planes, rotation, strict=True)]


def _plain(tensor: object) -> Tensor:
    """Return a tensor without MONAI's metadata around it."""
    return torch.as_tensor(tensor).as_subclass(torch.Tensor)


def _with_slice(sides: tuple[int, ...], slice_axis: int | None) -> tuple[int, ...]:
    return sides if slice_axis is None else (*sides[:slice_axis], 1, *sides[slice_axis:])


def _linear(dimensions: int) -> str:
    return "trilinear" if dimensions == 3 else "bilinear"
