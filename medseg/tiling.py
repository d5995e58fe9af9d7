"""Windows over an image larger than a network's patch: where they lie, how they blend, and the streamed sliding window.

Tensors only. The image is covered by overlapping windows of the patch's size; every window's logits are weighted by a
Gaussian and added up. Two choices keep this exact and small:

* Placement is even along each axis, as nnU-Net has it (Isensee 2021, Nature Methods 18:203).
* The weights of an axis are divided by their sum at each voxel, once, before any window is seen. They sum to one
  everywhere (a partition of unity), and so do their products over the axes: no count map, no division afterwards.

Windows go along Z in rising order. When the next window starts at slice z, the slices before z are final: they are
handed on, and their memory takes later slices. So only as many slices of logits are held as the patch is deep.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch.nn import functional as F

from medseg.errors import ModelError, PlanError
from medseg.plan.part import AXES
from medseg.progress import Step, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from medseg.plan.part import AxisName
    from medseg.progress import Progress

SIGMA = 1 / 8  # of the window's side, as in nnU-Net
_SLICES_AT_ONCE = 16
Peak = Literal["middle", "voxel"]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an image is cut into windows.

    Parameters
    ----------
    patch_size : tuple of int
        Window along (Z, Y, X); 1 along the slice axis of a 2-D network.
    classes : int
        Channels the network returns, background included.
    overlap : float
        Share of a window that the next one covers too, at least: 0 up to but not including 1.
    batch : int
        Windows the network sees at once.
    mirror_axes : tuple of "Z", "Y", "X"
        Axes along which windows are also predicted mirrored; all combinations are averaged.
    slice_axis : int or None
        The axis a 2-D network sees slices along; None in 3-D.
    peak : "middle" or "voxel"
        Where a window's weight is largest: in its middle, or at the voxel behind it where a side is even, as nnU-Net
        has it. Where windows disagree, half a voxel tells.
    """

    patch_size: tuple[int, int, int]
    classes: int
    overlap: float = 0.5
    batch: int = 1
    mirror_axes: tuple[AxisName, ...] = ()
    slice_axis: int | None = None
    peak: Peak = "middle"

    def __post_init__(self) -> None:
        """Refuse numbers no window could have."""
        if min(*self.patch_size, self.classes, self.batch) < 1 or not 0 <= self.overlap < 1:
            raise PlanError(f"{self} describes no windows", expected="sizes of at least 1 and an overlap below 1")
        if self.slice_axis is not None and self.patch_size[self.slice_axis] != 1:
            raise PlanError(f"the patch {self.patch_size} is not flat along axis {self.slice_axis}", expected="1 there")


class Window(NamedTuple):
    """One window along one axis: its first voxel, and its weight at each of its voxels (float64)."""

    start: int
    weights: Tensor


class Slab(NamedTuple):
    """Finished slices: the first one's index, and their logits (classes, slices, Y, X), float32."""

    start: int
    logits_kzyx: Tensor


def window_starts(size: int, patch: int, *, overlap: float) -> list[int]:
    """Return the first voxel of every window along one axis, evenly spaced from one end to the other.

    Examples
    --------
    >>> window_starts(10, 4, overlap=0.5)
    [0, 2, 4, 6]
    >>> window_starts(3, 4, overlap=0.5)
    [0]
    """
    room = size - patch
    if room <= 0:
        return [0]
    step = max(1.0, patch * (1.0 - overlap))
    gaps = math.ceil(room / step)
    return [round(room / gaps * i) for i in range(gaps + 1)]


def place_windows(size: int, patch: int, *, overlap: float, peak: Peak = "middle") -> list[Window]:
    """Return the windows along one axis, with Gaussian weights that sum to one at every voxel.

    Parameters
    ----------
    size, patch : int
        Voxels of the image and of a window; the image is at least as large.
    overlap, peak : float, str
        See `Tiling`.

    Examples
    --------
    >>> first, second = place_windows(6, 4, overlap=0.5)
    >>> bool(torch.allclose(first.weights[2:] + second.weights[:2], torch.ones(2, dtype=torch.float64)))
    True
    """
    starts = window_starts(size, patch, overlap=overlap)
    offset = torch.arange(patch, dtype=torch.float64) - (patch // 2 if peak == "voxel" else (patch - 1) / 2)
    gaussian = torch.exp(-0.5 * (offset / (patch * SIGMA)) ** 2)
    total = torch.zeros(size, dtype=torch.float64)
    for start in starts:
        total[start : start + patch] += gaussian
    return [Window(start, gaussian / total[start : start + patch]) for start in starts]


def stream_logits(
    predict: Callable[[Tensor], Tensor], image_czyx: Tensor, *, tiling: Tiling, progress: Progress = ignore
) -> Iterator[Slab]:
    """Yield an image's blended logits slab by slab, in rising Z, while holding only a patch's depth of them.

    Parameters
    ----------
    predict : callable
        Maps windows (N, C, z, y, x), or (N, C, *plane) where there is a slice axis, to logits of the same size with
        `tiling.classes` channels. On any device, of any floating type.
    image_czyx : (C, Z, Y, X) float32
        The image. Where it is smaller than a window it is padded with zeros, and the padding cut off again.
    tiling : Tiling
        How to cut.
    progress : Progress
        Told before each batch of windows as stage ``network``; raises to stop.

    Yields
    ------
    Slab
        Slices in order, each exactly once. The tensor is the caller's own.

    Raises
    ------
    ModelError
        Where the network returns another shape than it should.
    """
    padded, before = _padded(image_czyx, tiling.patch_size)
    depth = tiling.patch_size[0]
    along_z, along_y, along_x = (
        place_windows(n, p, overlap=tiling.overlap, peak=tiling.peak)
        for n, p in zip(padded.shape[1:], tiling.patch_size, strict=True)
    )
    plane = list(itertools.product(along_y, along_x))
    done, total = 0, len(along_z) * len(plane)
    ring = torch.zeros(depth, *padded.shape[2:], tiling.classes)  # slice z lies in row z % depth
    ends = [window.start for window in along_z[1:]] + [padded.shape[1]]
    for window_z, end in zip(along_z, ends, strict=True):
        for first in range(0, len(plane), tiling.batch):
            progress(Step("network", done, total))
            batch = plane[first : first + tiling.batch]
            windows = torch.stack([_cut(padded, (window_z, y, x), tiling.patch_size) for y, x in batch])
            for (y, x), logits in zip(batch, _predicted(predict, windows, tiling), strict=True):
                _add(ring, logits, (window_z, y, x))
            done += len(batch)
        yield _taken(ring, range(window_z.start, end), image_czyx.shape, before)
    progress(Step("network", total, total))


def sliding_window(
    predict: Callable[[Tensor], Tensor], image_czyx: Tensor, *, tiling: Tiling, progress: Progress = ignore
) -> Tensor:
    """Return an image's blended logits (classes, Z, Y, X), float32, as one tensor; see `stream_logits`.

    Examples
    --------
    >>> image = torch.rand(1, 9, 7, 5)
    >>> two = lambda windows: torch.cat([windows, -windows], dim=1)
    >>> logits = sliding_window(two, image, tiling=Tiling((4, 4, 4), classes=2))
    >>> bool(torch.allclose(logits, two(image[None])[0], atol=1e-6))
    True
    """
    logits_kzyx = torch.empty(tiling.classes, *image_czyx.shape[1:])
    for start, slab in stream_logits(predict, image_czyx, tiling=tiling, progress=progress):
        logits_kzyx[:, start : start + slab.shape[1]] = slab
    return logits_kzyx


def _padded(image_czyx: Tensor, patch_size: Sequence[int]) -> tuple[Tensor, tuple[int, int, int]]:
    """Return the image at least as large as the patch, and how many voxels of zeros stand before it on each axis."""
    missing = [max(0, p - n) for n, p in zip(image_czyx.shape[1:], patch_size, strict=True)]
    z, y, x = (m // 2 for m in missing)
    if any(missing):
        image_czyx = F.pad(image_czyx, (x, missing[2] - x, y, missing[1] - y, z, missing[0] - z))
    return image_czyx, (z, y, x)


def _cut(image_czyx: Tensor, windows: tuple[Window, Window, Window], patch_size: Sequence[int]) -> Tensor:
    z, y, x = (slice(w.start, w.start + p) for w, p in zip(windows, patch_size, strict=True))
    return image_czyx[:, z, y, x]


def _predicted(predict: Callable[[Tensor], Tensor], windows: Tensor, tiling: Tiling) -> Tensor:
    """Return logits (N, classes, z, y, x) as float32 on the CPU, averaged over mirrored views."""
    mirrored = [AXES.index(name) + 2 for name in tiling.mirror_axes]
    views = [c for n in range(len(mirrored) + 1) for c in itertools.combinations(mirrored, n)]
    expected = (windows.shape[0], tiling.classes, *windows.shape[2:])
    total = torch.zeros(())
    for axes in views:
        view = windows.flip(axes) if axes else windows
        logits = predict(view if tiling.slice_axis is None else view.squeeze(tiling.slice_axis + 2)).detach()
        logits = logits if tiling.slice_axis is None else logits.unsqueeze(tiling.slice_axis + 2)
        if logits.shape != expected:
            raise ModelError(f"the network returned the shape {tuple(logits.shape)}", expected=str(expected))
        logits = logits.to("cpu", torch.float32)
        total = total + (logits.flip(axes) if axes else logits) if len(views) > 1 else logits
    return total / len(views) if len(views) > 1 else total


def _add(ring: Tensor, logits_kzyx: Tensor, windows: tuple[Window, Window, Window]) -> None:
    """Add one window's weighted logits to the ring, a few slices at a time to stay in the cache."""
    window_z, window_y, window_x = windows
    y, x = (slice(w.start, w.start + len(w.weights)) for w in (window_y, window_x))
    weights_yx = torch.outer(window_y.weights, window_x.weights).to(torch.float32)
    weights_z = window_z.weights.to(torch.float32)
    logits_zyxk = logits_kzyx.permute(1, 2, 3, 0)
    depth = ring.shape[0]
    row = 0
    while row < len(weights_z):
        first = (window_z.start + row) % depth
        last = min(first + _SLICES_AT_ONCE, depth, first + len(weights_z) - row)
        part = slice(row, row + last - first)
        weights_zyx = weights_z[part, None, None] * weights_yx
        ring[first:last, y, x].addcmul_(logits_zyxk[part], weights_zyx[..., None])
        row = part.stop


def _taken(ring: Tensor, slices: range, shape_czyx: Sequence[int], before: tuple[int, int, int]) -> Slab:
    """Take finished slices out of the ring, leave zeros behind, and cut the padding off."""
    rows = torch.tensor([z % ring.shape[0] for z in slices])
    block = ring[rows]
    ring[rows] = 0
    first = max(slices.start, before[0])
    last = min(slices.stop, before[0] + shape_czyx[1])
    z = slice(first - slices.start, last - slices.start)
    y, x = (slice(b, b + n) for b, n in zip(before[1:], shape_czyx[2:], strict=True))
    return Slab(first - before[0], block[z, y, x].permute(3, 0, 1, 2))
