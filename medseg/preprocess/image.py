"""A scan as the network sees it: on the working grid, normalised, slices at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from medseg.errors import InputError
from medseg.geometry import Box
from medseg.preprocess.grid import working_grid
from medseg.preprocess.scan_first import prepared_first, readable
from medseg.resample import SlicedImage, resample
from medseg.transforms.intensity import SLICES, Moments, is_by_slices, is_fixed, normalise, require_one_each, scale_for
from medseg.volume import Volume, let_go

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.geometry import Geometry
    from medseg.plan import Plan
    from medseg.transforms.intensity import Scale
    from medseg.volume import Segmentation

IMAGE_ORDER: Literal[3] = 3  # cubic, as nnU-Net; along the axes of a grid it costs little more than linear


class WorkingImage:
    """A scan on the working grid, made slices at a time.

    A normalisation that looks at the image first costs a pass over it; `held` keeps what that pass makes, and changes
    no number. One that is the same for all images (CT) costs none, and nothing is held.

    Parameters
    ----------
    volume : Volume
        One channel per channel of the plan, in the units of the file; its array may be a memory map.
    plan : Plan
        Says grid and normalisation.
    held : bool
        Whether the whole image may be kept in memory between the two passes.

    Attributes
    ----------
    geometry : Geometry
        The working grid, or the part of it that `cropped` left.
    shape : tuple of int
        (C, Z, Y, X).

    Raises
    ------
    InputError
        Where the channels are not as many as the plan's, or a voxel is not finite (code ``non-finite``).
    """

    def __init__(self, volume: Volume, plan: Plan, *, held: bool = True) -> None:
        if len(volume.array) != len(plan.channels):
            raise InputError(
                f"the scan has {len(volume.array)} channels",
                expected=f"{len(plan.channels)}: {', '.join(plan.channels)}",
            )
        _require_finite(volume)
        require_one_each(plan.preprocess.normalisation, len(volume.array))
        self._made: dict[int, Tensor] = {}  # by their number, blocks of slices that may be wanted again
        self._scales: list[Scale] = []
        self._source: SlicedImage | None = None
        if is_made_at_once(plan):
            self._is_held = True
            image = _at_once(volume, plan)
            self.geometry = image.geometry
            self._made = dict(enumerate(torch.split(torch.from_numpy(image.array), SLICES, dim=1)))
        else:
            self._is_held = held and is_looked_at_first(plan)
            self.geometry = working_grid(volume.geometry, plan)
            self._source = SlicedImage(volume, onto=self.geometry, order=IMAGE_ORDER)
            self._measure(plan, self._source)
        self.shape = (len(volume.array), *self.geometry.shape)
        self._box = Box((0, 0, 0), self.geometry.shape)

    def cropped(self, box: Box) -> WorkingImage:
        """Return the same image, normalised as a whole, on a part of the working grid; the two share their memory."""
        part = object.__new__(WorkingImage)
        part.__dict__.update(self.__dict__)
        part.geometry = self.geometry.crop(box)
        part.shape = (self.shape[0], *box.shape)
        low = tuple(a + b for a, b in zip(self._box.start, box.start, strict=True))
        part._box = Box((low[0], low[1], low[2]), (low[0] + box.shape[0], low[1] + box.shape[1], low[2] + box.shape[2]))
        return part

    def slices(self, start: int, stop: int) -> Tensor:
        """Return slices `start` to `stop`, (C, n, Y, X) float32, to be read only; cheapest in rising order."""
        (top, *low), (_, *high) = self._box.start, self._box.stop
        start, stop = start + top, stop + top
        first = start // SLICES
        blocks = [self._block(i) for i in range(first, (stop - 1) // SLICES + 1)]
        if not self._is_held:
            self._made = {i: made for i, made in self._made.items() if i >= first}
        joined = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
        rows = slice(start - first * SLICES, stop - first * SLICES)
        return joined[:, rows, low[0] : high[0], low[1] : high[1]]

    def whole(self) -> Tensor:
        """Return all slices, a tensor of its own."""
        out = torch.empty(self.shape)
        for start in range(0, self.shape[1], SLICES):
            stop = min(start + SLICES, self.shape[1])
            out[:, start:stop] = self.slices(start, stop)
        return out

    def _block(self, number: int) -> Tensor:
        """Return `SLICES` slices of the whole grid, normalised."""
        if number not in self._made and self._source is not None:
            self._made[number] = self._scaled(_raw(self._source, number))
        return self._made[number]

    def _scaled(self, block: Tensor) -> Tensor:
        for channel, scale in zip(block, self._scales, strict=True):
            scale.apply(channel)
        return block

    def _measure(self, plan: Plan, source: SlicedImage) -> None:
        """Learn each channel's scale: by a pass over all slices, where they must be looked at."""
        moments = [Moments() for _ in plan.channels]
        if is_looked_at_first(plan):
            for number in range(-(-source.shape[1] // SLICES)):
                block = _raw(source, number)
                moments = [known.joined(channel) for known, channel in zip(moments, block, strict=True)]
                if self._is_held:
                    self._made[number] = block
        self._scales = [scale_for(how, m) for how, m in zip(plan.preprocess.normalisation, moments, strict=True)]
        for block in self._made.values():
            self._scaled(block)


def is_looked_at_first(plan: Plan) -> bool:
    """Tell whether a plan's normalisation looks at the image before it changes a voxel."""
    return not all(map(is_fixed, plan.preprocess.normalisation))


def is_made_at_once(plan: Plan) -> bool:
    """Tell whether a plan's image needs the whole scan in memory: it is cropped first, or normalised by a mask."""
    return plan.preprocess.scan_first is not None or not all(map(is_by_slices, plan.preprocess.normalisation))


def prepare(volume: Volume, plan: Plan) -> Volume:
    """Return a scan as the network sees it, as a whole: on the working grid, normalised, float32.

    Raises
    ------
    InputError
        As `WorkingImage`.
    """
    image = WorkingImage(volume, plan)
    return Volume(image.whole().numpy(), image.geometry, plan.channels)


def prepare_mask(mask: Segmentation, plan: Plan, *, onto: Geometry | None = None) -> Segmentation:
    """Return a reference mask on the working grid, by the label rule of `resample`.

    `onto` is that grid where it depends on the scan, too: the geometry of what `prepare` made.
    """
    return resample(mask, onto=onto or working_grid(mask.geometry, plan))


def _require_finite(volume: Volume) -> None:
    if volume.array.dtype.kind != "f":
        return
    is_finite = all(np.isfinite(image_yx).all() for image_zyx in volume.array for image_yx in image_zyx)
    let_go(volume.array)
    if not is_finite:
        raise InputError(
            "the scan holds voxels that are not finite numbers (NaN or infinity)",
            remedy="Replace them by numbers, and segment the corrected file",
            code="non-finite",
        )


def _at_once(volume: Volume, plan: Plan) -> Volume:
    first = plan.preprocess.scan_first
    if first is not None:
        return prepared_first(volume, plan, first)
    placed = resample(volume, onto=working_grid(volume.geometry, plan), order=IMAGE_ORDER)
    image = normalise(torch.from_numpy(readable(placed.array)), plan.preprocess.normalisation)
    return Volume(image.numpy(), placed.geometry, plan.channels)


def _raw(source: SlicedImage, number: int) -> Tensor:
    """Return `SLICES` slices as they are before normalisation."""
    start = number * SLICES
    array = source.slices(start, min(start + SLICES, source.shape[1]))
    return torch.from_numpy(readable(array)).to(torch.float32)
