"""Weights brought to another shape: fewer or more channels, a third axis, rows by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from torch import int64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Places(NamedTuple):
    """Which places along one axis are taken from where: `into` of the new tensor, `out_of` the old one."""

    axis: int
    into: tuple[int, ...]
    out_of: tuple[int, ...]


def inflated(weight: Tensor, length: int, *, stride: int | None = None) -> Tensor:
    """Return a 2-D kernel (a, b, Y, X) as a 3-D one (a, b, Z, Y, X), repeated along Z and divided by its length.

    An image repeated along Z then gives, far from the volume's ends, what the 2-D kernel gives (I3D; Carreira and
    Zisserman 2017, arXiv:1705.07750, section 2.4). Of a transposed kernel only ``length / stride`` places meet in a
    voxel, which is what it is divided by.

    Parameters
    ----------
    weight : Tensor
        Shape (a, b, Y, X).
    length : int
        Of the new axis.
    stride : int, optional
        Of a transposed convolution, along Z.

    Examples
    --------
    >>> import torch
    >>> kernel = inflated(torch.ones(1, 1, 3, 3), 5)
    >>> tuple(kernel.shape), round(kernel.sum().item(), 4)
    ((1, 1, 5, 3, 3), 9.0)
    """
    meeting = length if stride is None else length / stride
    return weight.unsqueeze(2).expand(-1, -1, length, -1, -1) / meeting


def for_channels(weight: Tensor, channels: int, *, axis: int = 1) -> Tensor:
    """Return a kernel that reads `channels` in place of those it reads: the same kernel itself where they are as many.

    Otherwise its mean over channels is repeated (cross-modality pre-training; Wang 2016, arXiv:1608.00859, section 3.2)
    and scaled by old over new number, so that one image in every channel gives what it gave.

    Examples
    --------
    >>> import torch
    >>> rgb = torch.tensor([0.25, 0.5, 0.75]).reshape(1, 3, 1, 1)
    >>> for_channels(rgb, 1).flatten().tolist(), for_channels(rgb, 2).flatten().tolist()
    ([1.5], [0.75, 0.75])
    """
    before = weight.shape[axis]
    if before == channels:
        return weight
    return weight.mean(axis, keepdim=True).repeat_interleave(channels, axis) * (before / channels)


def as_convolution(weight: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Return a fully connected layer's weight (out, in) as the kernel of a convolution; None where it cannot be one.

    A layer over a map (C, Y, X) is the convolution as large as the map (Long 2015, arXiv:1411.4038, section 3.1).

    Parameters
    ----------
    weight : Tensor
        Shape (out, C * Y * X), as flattening the map orders it.
    shape : sequence of int
        Of the kernel wanted: (out, C, Y, X), or (out, C, Z, Y, X), whose plane (out, C, Y, X) is returned.

    Examples
    --------
    >>> import torch
    >>> tuple(as_convolution(torch.zeros(5, 2 * 7 * 7), (5, 2, 7, 7)).shape)
    (5, 2, 7, 7)
    """
    plane = (*shape[:2], *shape[-2:])
    if weight.shape[0] != plane[0] or weight.shape[1] != math.prod(plane[1:]):
        return None
    return weight.reshape(plane)


def placed(onto: Tensor, taken: Tensor, places: Sequence[Places]) -> Tensor:
    """Return `onto` with the named places overwritten by those of `taken`; along all other axes both are alike.

    Examples
    --------
    >>> import torch
    >>> old, new = torch.tensor([1.0, 2.0, 3.0]), torch.zeros(4)
    >>> placed(new, old, [Places(0, into=(0, 3), out_of=(0, 1))]).tolist()
    [1.0, 0.0, 0.0, 2.0]
    """
    if not places:
        return taken
    first, *rest = places
    into, out_of = (onto.new_tensor(numbers, dtype=int64) for numbers in (first.into, first.out_of))
    inner = placed(onto.index_select(first.axis, into), taken.index_select(first.axis, out_of), rest)
    return onto.index_copy(first.axis, into, inner)
