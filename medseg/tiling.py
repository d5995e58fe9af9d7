"""Windows over an image larger than a network's patch: where they lie, how they blend, and the streamed sliding window.

Tensors only. The image is covered by overlapping windows of the patch's size; every window's logits are weighted by a
Gaussian and added up. Two choices keep this exact and small:

* Placement is even along each axis, as nnU-Net has it (Isensee 2021, Nature Methods 18:203).
* The weights of an axis are divided by their sum at each voxel, once, before any window is seen. They sum to one
  everywhere (a partition of unity), and so do their products over the axes: no count map, no division afterwards.

Both can be another tool's (`Tiling.style`), for models that were judged by it. nnU-Net's weights are largest half a
voxel further on where a side is even. MONAI's ``sliding_window_inference`` has windows from the first voxel on, the
last one moved back, and weights that are cut off below, which sum to no round number and are counted.

Windows go along Z in rising order. When the next window starts at slice z, the slices before z are final: they are
handed on, and their memory takes later slices. So only as many slices of logits are held as the patch is deep, and
the image, too, is asked for by the patch's depth.

Windows predicted on a GPU may be added up there, so that only finished slices cross to main memory, each once. Products
and sums are then rounded one by one, which is the same numbers wherever they are added up.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.errors import ModelError, PlanError
from medseg.plan.part import AXES
from medseg.progress import Step, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from medseg.plan.part import AxisName
    from medseg.progress import Progress

Style = Literal["even", "nnunet", "monai"]
Zeros: TypeAlias = "Callable[[tuple[int, ...]], Tensor]"

SIGMA = 1 / 8  # of the window's side, as in nnU-Net and MONAI
_MONAI_LEAST = 1e-3  # the smallest weight MONAI gives a voxel of a window
_SLICES_AT_ONCE = 16
SLAB_BYTES = 64_000_000
"""Logits that are handed on together take at most this, but for a single slice that takes more."""


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
    style : {"even", "nnunet", "monai"}
        How windows are placed and weighted: evenly, with weights that sum to one; the same, but largest at the voxel
        behind the middle where a side is even, as nnU-Net has it; or as MONAI does.
    """

    patch_size: tuple[int, int, int]
    classes: int
    overlap: float = 0.5
    batch: int = 1
    mirror_axes: tuple[AxisName, ...] = ()
    slice_axis: int | None = None
    style: Style = "even"

    def __post_init__(self) -> None:
        """Refuse numbers no window could have."""
        if min(*self.patch_size, self.classes, self.batch) < 1 or not 0 <= self.overlap < 1:
            raise PlanError(f"{self} describes no windows", expected="sizes of at least 1 and an overlap below 1")
        if self.slice_axis is not None and self.patch_size[self.slice_axis] != 1:
            raise PlanError(f"the patch {self.patch_size} is not flat along axis {self.slice_axis}", expected="1 there")


class Window(NamedTuple):
    """One window along one axis: its first voxel, and its weight at each of its voxels (float64).

    Weights of all windows sum to one at every voxel; as MONAI has them, they are a Gaussian of height one.
    """

    start: int
    weights: Tensor


class Slab(NamedTuple):
    """Finished slices: the first one's index, and their logits (classes, slices, Y, X), float32."""

    start: int
    logits_kzyx: Tensor


class SlicedImage(Protocol):
    """An image that is made slices at a time, such as `medseg.preprocess.WorkingImage`."""

    shape: tuple[int, ...]
    """(C, Z, Y, X)."""

    def slices(self, start: int, stop: int) -> Tensor:
        """Return slices (C, n, Y, X), float32; asked for in rising order."""


def window_starts(size: int, patch: int, *, overlap: float, style: Style = "even") -> list[int]:
    """Return the first voxel of every window along one axis, from one end to the other.

    Examples
    --------
    >>> window_starts(10, 4, overlap=0.5), window_starts(9, 4, overlap=0.25)
    ([0, 2, 4, 6], [0, 2, 5])
    >>> window_starts(9, 4, overlap=0.25, style="monai")
    [0, 3, 5]
    >>> window_starts(3, 4, overlap=0.5)
    [0]
    """
    room = size - patch
    if room <= 0:
        return [0]
    if style == "monai":
        step = max(1, int(patch * (1.0 - overlap)))
        return [min(i * step, room) for i in range(math.ceil(room / step) + 1)]
    gaps = math.ceil(room / max(1.0, patch * (1.0 - overlap)))
    return [round(room / gaps * i) for i in range(gaps + 1)]


def window_count(shape_zyx: Sequence[int], tiling: Tiling) -> int:
    """Return how many windows cover an image.

    Examples
    --------
    >>> window_count((10, 9, 3), Tiling((4, 4, 4), classes=2, overlap=0.5))
    16
    """
    axes = zip(shape_zyx, tiling.patch_size, strict=True)
    return math.prod(len(window_starts(n, patch, overlap=tiling.overlap, style=tiling.style)) for n, patch in axes)


def place_windows(size: int, patch: int, *, overlap: float, style: Style = "even") -> list[Window]:
    """Return the windows along one axis, with Gaussian weights.

    Parameters
    ----------
    size, patch : int
        Voxels of the image and of a window; the image is at least as large.
    overlap : float
        See `Tiling`.
    style : {"even", "nnunet", "monai"}
        See `Tiling`.

    Examples
    --------
    >>> first, second = place_windows(6, 4, overlap=0.5)
    >>> bool(torch.allclose(first.weights[2:] + second.weights[:2], torch.ones(2, dtype=torch.float64)))
    True
    """
    starts = window_starts(size, patch, overlap=overlap, style=style)
    middle = patch // 2 if style == "nnunet" else (patch - 1) / 2
    offset = torch.arange(patch, dtype=torch.float64) - middle
    gaussian = torch.exp(-0.5 * (offset / (patch * SIGMA)) ** 2)
    if style == "monai":
        return [Window(start, gaussian) for start in starts]
    total = torch.zeros(size, dtype=torch.float64)
    for start in starts:
        total[start : start + patch] += gaussian
    return [Window(start, gaussian / total[start : start + patch]) for start in starts]


def stream_logits(
    predict: Callable[[Tensor], Tensor],
    image_czyx: Tensor | SlicedImage,
    *,
    tiling: Tiling,
    progress: Progress = ignore,
    zeros: Zeros | None = None,
) -> Iterator[Slab]:
    """Yield an image's blended logits slab by slab, in rising Z, while holding only a patch's depth of them.

    Parameters
    ----------
    predict : callable
        Maps windows (N, C, z, y, x), or (N, C, *plane) where there is a slice axis, to logits of the same size with
        `tiling.classes` channels. On any device, of any floating type.
    image_czyx : (C, Z, Y, X) float32
        The image, or what makes its slices. Where it is smaller than a window it is padded with zeros, and the padding
        cut off again.
    tiling : Tiling
        How to cut.
    progress : Progress
        Told before each batch of windows as stage ``network``; raises to stop.
    zeros : callable, optional
        Makes the tensor, float32 of a given shape, that logits are added up in, on the device where that is to be done.
        The numbers do not depend on which device it is, but in the last bits on whether there is a `zeros`: without,
        they are added up on the CPU in the way that is quickest there.

    Yields
    ------
    Slab
        Slices in order, each exactly once. The tensor is the caller's own, on the CPU.

    Raises
    ------
    ModelError
        Where the network returns another shape than it should.
    """
    padding = _Padding.around(image_czyx.shape[1:], tiling.patch_size)
    depth = tiling.patch_size[0]
    along_z, along_y, along_x = (
        place_windows(n, p, overlap=tiling.overlap, style=tiling.style)
        for n, p in zip(padding.shape, tiling.patch_size, strict=True)
    )
    plane = list(itertools.product(along_y, along_x))
    done, total = 0, len(along_z) * len(plane)
    ring = _Ring(depth, padding, tiling, zeros)
    ends = [window.start for window in along_z[1:]] + [padding.shape[0]]
    for window_z, end in zip(along_z, ends, strict=True):
        seen = padding.slices(image_czyx, window_z.start, depth)
        for first in range(0, len(plane), tiling.batch):
            progress(Step("network", done, total))
            batch = plane[first : first + tiling.batch]
            windows = torch.stack([_cut(seen, y, x) for y, x in batch])
            for (y, x), logits in zip(batch, _predicted(predict, windows, tiling, ring.device), strict=True):
                ring.add(logits, (window_z, y, x))
            done += len(batch)
        del seen
        yield from ring.taken(range(window_z.start, end))
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


class _Padding(NamedTuple):
    """The image's size with zeros around it to the patch's size, those before it on each axis, and its own size."""

    shape: tuple[int, int, int]
    before: tuple[int, int, int]
    inner: tuple[int, int, int]

    @classmethod
    def around(cls, shape_zyx: Sequence[int], patch_size: Sequence[int]) -> _Padding:
        z, y, x = (max(n, p) for n, p in zip(shape_zyx, patch_size, strict=True))
        own_z, own_y, own_x = shape_zyx
        return cls((z, y, x), ((z - own_z) // 2, (y - own_y) // 2, (x - own_x) // 2), (own_z, own_y, own_x))

    def slices(self, image_czyx: Tensor | SlicedImage, start: int, count: int) -> Tensor:
        """Return slices of the padded image."""
        first, stop = max(start - self.before[0], 0), min(start + count - self.before[0], self.inner[0])
        found = image_czyx[:, first:stop] if isinstance(image_czyx, Tensor) else image_czyx.slices(first, stop)
        z = self.before[0] + first - start
        room = [(z, count - z - (stop - first))]
        room += [(b, n - own - b) for b, n, own in zip(self.before[1:], self.shape[1:], self.inner[1:], strict=True)]
        if any(side for pair in room for side in pair):
            found = F.pad(found, [side for pair in reversed(room) for side in pair])
        return found


def _cut(slices_czyx: Tensor, window_y: Window, window_x: Window) -> Tensor:
    y, x = (slice(w.start, w.start + len(w.weights)) for w in (window_y, window_x))
    return slices_czyx[:, :, y, x]


def _predicted(predict: Callable[[Tensor], Tensor], windows: Tensor, tiling: Tiling, device: torch.device) -> Tensor:
    """Return logits (N, classes, z, y, x) as float32 on `device`, averaged over mirrored views."""
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
        logits = logits.to(device, torch.float32)
        total = total + (logits.flip(axes) if axes else logits) if len(views) > 1 else logits
    return total / len(views) if len(views) > 1 else total


class _Ring:
    """Slices of logits that windows are still added to: slice z lies in row z % depth."""

    def __init__(self, depth: int, padding: _Padding, tiling: Tiling, zeros: Zeros | None) -> None:
        self._padding, self._depth, self._classes = padding, depth, tiling.classes
        self._is_rounded = zeros is not None  # product and sum one by one, as every device does it
        shape = (depth, *padding.shape[1:], tiling.classes)
        self._sums_zyxk = torch.zeros(0) if zeros is None else zeros(shape)  # on the CPU made with the first window
        self.device = self._sums_zyxk.device
        self._least = 0.0
        self._count_zyx: Tensor | None = None  # what weights sum to, where that is not one
        if tiling.style == "monai":
            self._least = max(math.prod(_gaussian_end(side) for side in tiling.patch_size), _MONAI_LEAST)
            self._count_zyx = torch.zeros(shape[:3], device=self.device)

    def _make(self, logits_kzyx: Tensor) -> None:
        """Make the rows: in memory, a voxel's classes lie side by side where the network's do, else before y and x."""
        _, y, x = self._padding.shape
        if logits_kzyx.stride(0) == 1:
            self._sums_zyxk = torch.zeros(self._depth, y, x, self._classes)
        else:
            self._sums_zyxk = torch.zeros(self._depth, self._classes, y, x).permute(0, 2, 3, 1)

    def add(self, logits_kzyx: Tensor, windows: tuple[Window, Window, Window]) -> None:
        """Add one window's weighted logits, a few slices at a time to stay in the cache."""
        window_z, window_y, window_x = windows
        y, x = (slice(w.start, w.start + len(w.weights)) for w in (window_y, window_x))
        weights_yx = torch.outer(window_y.weights, window_x.weights).to(self.device, torch.float32)
        weights_z = window_z.weights.to(self.device, torch.float32)
        if not self._sums_zyxk.numel():
            self._make(logits_kzyx)
        logits_zyxk = logits_kzyx.permute(1, 2, 3, 0)
        row = 0
        while row < len(weights_z):
            first = (window_z.start + row) % self._depth
            last = min(first + _SLICES_AT_ONCE, self._depth, first + len(weights_z) - row)
            part = slice(row, row + last - first)
            weights_zyx = weights_z[part, None, None] * weights_yx
            if self._count_zyx is not None:
                weights_zyx.clamp_(min=self._least)
                self._count_zyx[first:last, y, x] += weights_zyx
            into_zyxk = self._sums_zyxk[first:last, y, x]
            if self._is_rounded:
                into_zyxk += logits_zyxk[part] * weights_zyx[..., None]
            else:  # on a CPU the product may go into the sum unrounded
                into_zyxk.addcmul_(logits_zyxk[part], weights_zyx[..., None])
            row = part.stop

    def taken(self, slices: range) -> Iterator[Slab]:
        """Yield finished slices in parts that take little memory, without padding, and leave zeros behind."""
        _, y, x = self._padding.shape
        most = max(1, SLAB_BYTES // (4 * self._classes * y * x))
        for start in range(slices.start, slices.stop, most):
            yield from self._part(range(start, min(start + most, slices.stop)))

    def _part(self, slices: range) -> Iterator[Slab]:
        (top, *_), (own_z, own_y, own_x) = self._padding.before, self._padding.inner
        first, last = max(slices.start, top), min(slices.stop, top + own_z)
        if first < last:
            block = torch.empty(last - first, own_y, own_x, self._classes)
            for z in range(first, last):
                self._copy(z, block[z - first])
            yield Slab(first - top, block.permute(3, 0, 1, 2))
        rows = torch.tensor([z % self._depth for z in slices], device=self.device)
        self._sums_zyxk[rows] = 0
        if self._count_zyx is not None:
            self._count_zyx[rows] = 0

    def _copy(self, z: int, out_yxk: Tensor) -> None:
        """Copy a finished slice without its padding."""
        row = z % self._depth
        (_, *low), (_, *own) = self._padding.before, self._padding.inner
        y, x = (slice(b, b + n) for b, n in zip(low, own, strict=True))
        finished = self._sums_zyxk[row, y, x]
        if self._count_zyx is not None:
            finished = finished / self._count_zyx[row, y, x, None]
        out_yxk.copy_(finished)


def _gaussian_end(patch: int) -> float:
    """Return the smallest weight of a window along one axis."""
    return math.exp(-0.5 * ((patch - 1) / 2 / (patch * SIGMA)) ** 2)
