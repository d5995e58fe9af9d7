"""Encoders wholly described by data: the part of a network that was made to tell pictures apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from medseg.plan.part import Count, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Norm = Literal["batch", "instance", "group", "none"]
"""Batch (Ioffe 2015), instance (Ulyanov 2016), group (Wu and He 2018) normalisation, or none."""

Activation = Literal["relu", "leaky_relu"]
Stride = tuple[Count, ...]

SLOTS = 5  # places where a published encoder halves the image
PUBLISHED_WIDTH = 64


class _EncoderSpec(Part):
    """What encoders have in common: their width, their norm, and a stride for each place that may halve the image."""

    width: Count = PUBLISHED_WIDTH
    norm: Norm
    activation: Activation = "relu"
    strides: tuple[Stride, Stride, Stride, Stride, Stride]

    @model_validator(mode="after")
    def _strides_agree(self) -> Self:
        if len({len(stride) for stride in self.strides}) != 1 or len(self.strides[0]) not in (2, 3):
            raise ValueError("every stride must have two numbers, or every one three")
        return self

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def map_strides(self) -> tuple[Stride, ...]:
        """How many voxels of the image lie between two of each map, per axis."""
        return tuple(total_stride(self.strides[: i + 1]) for i in range(SLOTS))

    @property
    def divisor(self) -> Stride:
        """What a patch side is a multiple of: the stride of the coarsest map."""
        return self.map_strides[-1]


class VGGSpec(_EncoderSpec):
    """VGG-16 or VGG-19 (Simonyan 2015, arXiv:1409.1556): five rows of 3-wide convolutions, a max pooling after each.

    Attributes
    ----------
    layers : 16 or 19
        Counted as the paper does, with the three fully connected ones that no segmentation network keeps as they are.
    width : int
        Features of the first row; the rows have 1, 2, 4, 8 and 8 times as many. Published: 64.
    norm : str
        ``none`` is the paper, ``batch`` torchvision's ``vgg16_bn``.
    strides : five strides
        One per pooling. Where all are 1 there is none, but before a dilated row a 3-wide one with stride 1 stays.
    dilations : five int
        Of the convolutions of each row (Chen 2015, arXiv:1412.7062).
    """

    kind: Literal["vgg"] = "vgg"
    layers: Literal[16, 19] = 16
    norm: Norm = "none"
    dilations: tuple[Count, Count, Count, Count, Count] = (1, 1, 1, 1, 1)

    @property
    def name(self) -> str:
        """As people call it."""
        return f"VGG-{self.layers}"

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Features of the five maps, after each pooling."""
        return tuple(self.width * times for times in (1, 2, 4, 8, 8))


class ResNetSpec(_EncoderSpec):
    """ResNet-18, 34, 50 or 101 (He 2016, arXiv:1512.03385): a stem, then four rows of residual blocks.

    Blocks have two 3-wide convolutions (18, 34) or are bottlenecks with the stride in the middle one (50, 101), as
    torchvision has it.

    Attributes
    ----------
    width : int
        Features of the first row's inner convolutions; the rows have 1, 2, 4 and 8 times as many, bottlenecks put out
        four times that. Published: 64.
    stem : str
        ``published``: one 7-wide convolution; ``deep``: three 3-wide ones, as PSPNet has it (Zhao 2017); ``plain``: one
        3-wide one, for images that are small in voxels.
    strides : five strides
        Of stem, the 3-wide max pooling behind it, and rows 2, 3 and 4. A pooling with stride 1 is left out.
    dilations : four int
        Of the 3-wide convolutions of each row. The first block of a row keeps the dilation of the row before it, whose
        features it reads, as torchvision has it.
    multi_grid : int per block of row 4, or none
        Multiplies the dilation there (Chen 2017, arXiv:1706.05587, section 3.2.1).
    """

    kind: Literal["resnet"] = "resnet"
    layers: Literal[18, 34, 50, 101] = 50
    norm: Norm = "batch"
    stem: Literal["published", "deep", "plain"] = "published"
    dilations: tuple[Count, Count, Count, Count] = (1, 1, 1, 1)
    multi_grid: tuple[Count, ...] = ()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.multi_grid and len(self.multi_grid) != self.blocks[-1]:
            raise ValueError(f"multi_grid must have {self.blocks[-1]} numbers, one per block of the last row")
        return self

    @property
    def name(self) -> str:
        """As people call it."""
        return f"ResNet-{self.layers}"

    @property
    def blocks(self) -> tuple[int, int, int, int]:
        """Residual blocks of each row."""
        if self.layers == 18:
            return (2, 2, 2, 2)
        return (3, 4, 23, 3) if self.layers == 101 else (3, 4, 6, 3)

    @property
    def expansion(self) -> int:
        """Features a block puts out, beside its inner ones."""
        return 4 if self.layers > 34 else 1

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Features of the five maps: stem, and rows 1 to 4."""
        stem = 2 * self.width if self.stem == "deep" else self.width
        return (stem, *(self.width * times * self.expansion for times in (1, 2, 4, 8)))


EncoderSpec = Annotated[VGGSpec | ResNetSpec, Field(discriminator="kind")]


def published_strides(dimensions: int, output_stride: int = 32) -> tuple[Stride, Stride, Stride, Stride, Stride]:
    """Return the strides of a published encoder, held to an output stride: later slots do not stride.

    Examples
    --------
    >>> published_strides(2, 8)
    ((2, 2), (2, 2), (2, 2), (1, 1), (1, 1))
    """
    steps = round(math.log2(output_stride))
    a, b, c, d, e = ((2 if slot < steps else 1,) * dimensions for slot in range(SLOTS))
    return a, b, c, d, e


def dilations_for(strides: Sequence[Stride], *, kind: Literal["vgg", "resnet"], at_most: int = 32) -> tuple[int, ...]:
    """Return the dilations of an encoder's rows that make up for the last slots not striding: doubled by each.

    Slots that do not stride ahead of one that does only keep detail, and ask for no dilation.

    Examples
    --------
    >>> dilations_for(published_strides(2, 8), kind="resnet")
    (1, 1, 2, 4)
    >>> dilations_for(published_strides(2, 8), kind="vgg")
    (1, 1, 1, 1, 2)
    """
    last = max((slot for slot, stride in enumerate(strides) if max(stride) > 1), default=-1)
    missing = [slot > last for slot in range(SLOTS)]
    if kind == "vgg":  # a row reads what was pooled before it
        doubled = [sum(missing[:row]) for row in range(SLOTS)]
    else:  # rows 2 to 4 stride themselves
        doubled = [sum(missing[2 : 2 + row]) for row in range(SLOTS - 1)]
    return tuple(min(2**times, max(1, at_most)) for times in doubled)


def total_stride(strides: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return what strides one after the other come to, per axis.

    Examples
    --------
    >>> total_stride([(1, 2, 2), (2, 2, 2)])
    (2, 4, 4)
    """
    return tuple(math.prod(steps) for steps in zip(*strides, strict=True))
