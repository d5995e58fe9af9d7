"""The shape of a U-Net from the shape of its patch: where it strides, with which kernels, how wide it grows.

The rules are nnU-Net's (Isensee 2021, Nature Methods 18:203, supplementary note 4): an axis is halved while its feature
map stays at 4 voxels or more and its spacing is within a factor of two of the finest; a kernel is 1 wide along an axis
as long as that axis is at least twice as coarse as the finest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.plan import total_stride

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_SIDE = 4  # voxels of the coarsest feature map
ALIKE = 2.0  # spacings within this factor count as equal


@dataclass(frozen=True, slots=True)
class Topology:
    """Strides and kernels per stage, full resolution first, and the patch rounded up to fit them."""

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """Product of the strides along each axis."""
        return total_stride(self.strides)


def topology(
    patch: Sequence[int], spacing_mm: Sequence[float], *, max_stages: int | None = None, min_side: int = MIN_SIDE
) -> Topology:
    """Return the stages for a patch of voxels of `spacing_mm`; there are two at least.

    `min_side` is how many voxels a side of the coarsest map keeps at least: nnU-Net's 4.

    Examples
    --------
    >>> topology((35, 50, 35), (1, 1, 1)).patch
    (40, 56, 40)
    >>> topology((16, 256, 256), (5, 1, 1)).strides[:3]
    ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    """
    sides, spacing = [float(side) for side in patch], [float(s) for s in spacing_mm]
    axes = range(len(sides))
    strides, kernels = [(1,) * len(sides)], []
    kernel = [1] * len(sides)
    while max_stages is None or len(strides) < max_stages:
        halved = _halved(sides, spacing, min_side)
        if not halved:
            break
        kernel = [3 if k == 3 or spacing[a] / min(spacing) < ALIKE else 1 for a, k in zip(axes, kernel, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if a in halved else 1 for a in axes))
        sides = [-(-sides[a] // 2) if a in halved else sides[a] for a in axes]
        spacing = [spacing[a] * 2 if a in halved else spacing[a] for a in axes]
    if len(strides) == 1:  # an image too small to stride: two stages on one grid
        strides.append(strides[0])
        kernels.append((3,) * len(sides))
    kernels.append((3,) * len(sides))
    divisor = total_stride(strides)
    fitted = tuple(-(-int(side) // d) * d for side, d in zip(patch, divisor, strict=True))
    return Topology(tuple(strides), tuple(kernels), fitted)


def features(width: int, stages: int, *, at_most: int) -> tuple[int, ...]:
    """Return the number of features of every stage: doubled from one to the next, up to `at_most`.

    Examples
    --------
    >>> features(32, 6, at_most=320)
    (32, 64, 128, 256, 320, 320)
    """
    return tuple(min(width * 2**stage, max(at_most, width)) for stage in range(stages))


def _halved(sides: Sequence[float], spacing: Sequence[float], min_side: int) -> set[int]:
    """Return the axes to stride along next."""
    large = [axis for axis, side in enumerate(sides) if side >= 2 * min_side]
    if not large:
        return set()
    finest = min(spacing[axis] for axis in large)
    alike = {axis for axis in large if spacing[axis] / finest < ALIKE}
    if len(alike) == 1 and sides[next(iter(alike))] < 3 * min_side:
        return set()
    return alike
