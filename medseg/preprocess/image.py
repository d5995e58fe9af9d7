"""A scan as the network sees it: on the working grid, normalised, slices at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from medseg.errors import InputError
from medseg.geometry import Box
from medseg.preprocess.grid import working_grid
from medseg.resample import SlicedImage, resample
from medseg.transforms.intensity import SLICES, Moments, is_fixed, measured, require_one_each, scale_for
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

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
        normalisation = plan.preprocess.normalisation
        require_one_each(normalisation, len(volume.array))
        self.geometry, self.channels = working_grid(volume.geometry, plan), plan.channels
        self.shape = (len(volume.array), *self.geometry.shape)
        self._source = SlicedImage(volume, onto=self.geometry, order=IMAGE_ORDER)
        self._box = Box((0, 0, 0), self.geometry.shape)
        self._depth = self.geometry.shape[0]
        self._made: dict[int, Tensor] = {}  # by their number, blocks of slices that may be wanted again
        self._is_held = held and not all(is_fixed(how) for how in normalisation)
        self._scales: list[Scale] = []
        if not all(is_fixed(how) for how in normalisation):
            self._scales = self._measured(plan)
        else:
            self._scales = [scale_for(how, measured([])) for how in normalisation]

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
        if number not in self._made:
            block = self._raw(number)
            for channel, scale in zip(block, self._scales, strict=True):
                scale.apply(channel)
            self._made[number] = block
        return self._made[number]

    def _raw(self, number: int) -> Tensor:
        start = number * SLICES
        array = self._source.slices(start, min(start + SLICES, self._depth))
        return torch.from_numpy(_readable(array)).to(torch.float32)

    def _measured(self, plan: Plan) -> list[Scale]:
        """Return each channel's scale, by a pass over all slices."""
        moments = [Moments() for _ in plan.channels]
        for number, block in self._passed():
            moments = [known.joined(channel) for known, channel in zip(moments, block, strict=True)]
            if self._is_held:
                self._made[number] = block
        scales = [scale_for(how, known) for how, known in zip(plan.preprocess.normalisation, moments, strict=True)]
        for block in self._made.values():
            for channel, scale in zip(block, scales, strict=True):
                scale.apply(channel)
        return scales

    def _passed(self) -> Iterator[tuple[int, Tensor]]:
        for number in range(-(-self._depth // SLICES)):
            yield number, self._raw(number)


def prepare(volume: Volume, plan: Plan) -> Volume:
    """Return a scan as the network sees it, as a whole: on the working grid, normalised, float32.

    Raises
    ------
    InputError
        As `WorkingImage`.
    """
    image = WorkingImage(volume, plan)
    return Volume(image.whole().numpy(), image.geometry, plan.channels)


def prepare_mask(mask: Segmentation, plan: Plan) -> Segmentation:
    """Return a reference mask on the working grid, by the label rule of `resample`."""
    return resample(mask, onto=working_grid(mask.geometry, plan))


def _require_finite(volume: Volume) -> None:
    if volume.array.dtype.kind != "f":
        return
    if not all(np.isfinite(image_yx).all() for image_zyx in volume.array for image_yx in image_zyx):
        raise InputError(
            "the scan holds voxels that are not finite numbers (NaN or infinity)",
            remedy="Replace them by numbers, and segment the corrected file",
            code="non-finite",
        )


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type and layout torch takes, without a copy where it can be."""
    if array.dtype == np.uint16:
        array = array.astype(np.int32)
    return np.require(array, requirements=["C", "W"])
