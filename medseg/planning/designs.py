"""From a network's recipe and a patch to the network: where it strides, how wide it is, how far it sees.

In 2-D, published widths, kernels and rates are kept for patches as large as the papers' images. In 3-D the width
follows the device. Where patches are smaller, a network strides only while its coarsest map keeps enough voxels, and
its rates keep their share of the map. `docs/networks.md` names every departure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from medseg.plan import (
    ClassicUNetRecipe,
    ClassicUNetSpec,
    DeepLabRecipe,
    DeepLabSpec,
    FCNRecipe,
    FCNSpec,
    MedNeXtRecipe,
    MedNeXtSpec,
    PSPNetRecipe,
    PSPNetSpec,
    ResNetSpec,
    SegResNetRecipe,
    SegResNetSpec,
    SwinUNETRRecipe,
    SwinUNETRSpec,
    UNetRecipe,
    UNetSpec,
    VGGSpec,
    dilations_for,
    total_stride,
)
from medseg.plan.encoder import PUBLISHED_WIDTH, SLOTS
from medseg.planning.topology import MIN_SIDE, features, topology

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.plan import EncoderSpec, NetworkRecipe, NetworkSpec

WIDTH = {"cpu": 16, "cuda": 32}  # CPU kernels of bf16 work on 16 channels at a time
MAX_WIDTH = {2: 512, 3: 320}
RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)  # of a stage each (Isensee 2024, section 2)
MIN_MAP_SIDE = 8  # voxels a side of an encoder's coarsest map, which scores come from: 4 are too few to draw with
PUBLISHED_STRIDE = {"v1": 8, "v2": 8, "v3": 16, "v3+": 16, "pspnet": 8, "fcn": 8}
PUBLISHED_RATES = {"v1": (12,), "v2": (6, 12, 18, 24), "v3": (6, 12, 18), "v3+": (6, 12, 18)}
PUBLISHED_MAP = {"v1": 41, "v2": 41, "v3": 33, "v3+": 33}  # voxels a side the rates were made for: 321/8, 513/16
CLASSIC_LEVELS = {2: 5, 3: 4}  # of the U-Nets of 2015 and 2016
MULTI_GRID = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Design:
    """A network, and the patch rounded up to what its strides divide."""

    network: NetworkSpec
    patch: tuple[int, ...]


def designed(recipe: NetworkRecipe, sides: Sequence[int], spacing_mm: Sequence[float], *, device: str) -> Design:
    """Return the network of a recipe for patches of `sides` voxels of `spacing_mm`.

    Parameters
    ----------
    recipe : NetworkRecipe
        What was asked for; what it states is kept.
    sides, spacing_mm : sequence
        As many as the network has dimensions.
    device : {"cpu", "cuda"}
        What the width follows where the recipe does not say it.

    Examples
    --------
    >>> from medseg.plan import FCNRecipe
    >>> design = designed(FCNRecipe(dimensions=2), (500, 375), (1, 1), device="cpu")
    >>> design.patch, design.network.encoder.map_strides[-1]
    ((512, 384), (32, 32))
    """
    match recipe:
        case UNetRecipe():
            return _unet(recipe, sides, spacing_mm, device=device)
        case ClassicUNetRecipe():
            return _fitted(_classic_unet(recipe, sides, spacing_mm, device=device), sides)
        case FCNRecipe() | DeepLabRecipe() | PSPNetRecipe():
            return _fitted(_on_encoder(recipe, sides, spacing_mm, device=device), sides)
        case SegResNetRecipe():
            return _fitted(_of_monai(recipe, device=device), sides)
        case SwinUNETRRecipe() | MedNeXtRecipe():
            return _with_more_than_one(_fitted(_of_monai(recipe, device=device), sides))


def _fitted(network: NetworkSpec, sides: Sequence[int]) -> Design:
    return Design(network, tuple(-(-int(side) // d) * d for side, d in zip(sides, network.divisor, strict=True)))


def _with_more_than_one(design: Design) -> Design:
    """Return the design with a patch whose coarsest map has two voxels at least, which its norms need."""
    if design.patch != design.network.divisor:
        return design
    return Design(design.network, (*design.patch[:-1], 2 * design.patch[-1]))


def _unet(recipe: UNetRecipe, sides: Sequence[int], spacing_mm: Sequence[float], *, device: str) -> Design:
    dims = recipe.dimensions
    shape = topology(sides, spacing_mm, max_stages=None if recipe.depth == "auto" else max(2, recipe.depth))
    width = WIDTH[device] if recipe.width == "auto" else recipe.width
    most = MAX_WIDTH[dims] if recipe.max_width == "auto" else recipe.max_width
    stages = len(shape.strides)
    convs = (1 if recipe.residual else 2) if recipe.convs_per_stage == "auto" else recipe.convs_per_stage
    blocks = tuple(RESIDUAL_BLOCKS[min(i, len(RESIDUAL_BLOCKS) - 1)] for i in range(stages))
    network = UNetSpec(
        dimensions=dims,
        features=features(width, stages, at_most=most),
        strides=shape.strides,
        kernels=shape.kernels,
        convs_per_stage=convs,
        residual_blocks=blocks if recipe.residual else (),
        deep_supervision=True if recipe.deep_supervision == "auto" else recipe.deep_supervision,  # hardly any time
    )
    return Design(network, shape.patch)


def _classic_unet(
    recipe: ClassicUNetRecipe, sides: Sequence[int], spacing_mm: Sequence[float], *, device: str
) -> ClassicUNetSpec:
    dims = recipe.dimensions
    levels = CLASSIC_LEVELS[dims] if recipe.depth == "auto" else max(2, recipe.depth)
    steps = _steps(sides, spacing_mm, at_most=levels - 1) or [(2,) * dims]
    width = _width(recipe, device)
    return ClassicUNetSpec(
        dimensions=dims,
        features=features(width, len(steps) + 1, at_most=width * 2**levels),
        strides=tuple(steps),
        padding=recipe.padding,
        norm="instance" if recipe.norm == "auto" else recipe.norm,
        widens_early=dims == 3,
        dropout=recipe.dropout,
    )


def _on_encoder(
    recipe: FCNRecipe | DeepLabRecipe | PSPNetRecipe,
    sides: Sequence[int],
    spacing_mm: Sequence[float],
    *,
    device: str,
) -> NetworkSpec:
    encoder = _encoder(recipe, sides, spacing_mm, device=device)
    dims, times = recipe.dimensions, encoder.width / PUBLISHED_WIDTH
    match recipe:
        case FCNRecipe():
            wide = recipe.classifier_features
            return FCNSpec(
                dimensions=dims,
                encoder=encoder,
                variant=recipe.variant,
                classifier_features=_scaled(4096, times) if wide == "auto" else wide,
                classifier_kernel=7 if dims == 2 else 3,
                dropout=recipe.dropout,
                auxiliary_weight=recipe.auxiliary_weight,
            )
        case DeepLabRecipe():
            coarsest = _map_side(sides, encoder.divisor)
            published = 1024 if recipe.version in {"v1", "v2"} else 256
            return DeepLabSpec(
                dimensions=dims,
                encoder=encoder,
                version=recipe.version,
                rates=_rates(recipe, coarsest),
                head_features=_scaled(published, times) if recipe.head_features == "auto" else recipe.head_features,
                low_level_features=_scaled(48, times),
                dropout=0.5 if recipe.dropout == "auto" else recipe.dropout,  # VGG's and torchvision's
                auxiliary_weight=recipe.auxiliary_weight,
            )
        case PSPNetRecipe():
            return PSPNetSpec(
                dimensions=dims,
                encoder=cast("ResNetSpec", encoder),
                bins=recipe.bins,
                head_features=_scaled(512, times) if recipe.head_features == "auto" else recipe.head_features,
                dropout=recipe.dropout,
                auxiliary_weight=recipe.auxiliary_weight,
            )


def _encoder(
    recipe: FCNRecipe | DeepLabRecipe | PSPNetRecipe,
    sides: Sequence[int],
    spacing_mm: Sequence[float],
    *,
    device: str,
) -> EncoderSpec:
    kind: Literal["vgg", "resnet"] = "vgg" if recipe.encoder.startswith("vgg") else "resnet"
    is_dilated = not (isinstance(recipe, FCNRecipe) and kind == "vgg")
    key = recipe.version if isinstance(recipe, DeepLabRecipe) else recipe.kind
    published = PUBLISHED_STRIDE[key] if is_dilated else 2**SLOTS
    wanted = published if recipe.output_stride == "auto" else recipe.output_stride
    smallest = MIN_MAP_SIDE if recipe.output_stride == "auto" else MIN_SIDE
    steps = _steps(sides, spacing_mm, at_most=round(math.log2(wanted)), smallest=smallest)
    strides = _slots(steps, recipe.dimensions)
    coarsest = _map_side(sides, total_stride(strides))
    dilations = dilations_for(strides, kind=kind, at_most=max(1, coarsest // 4)) if is_dilated else None
    width, norm = _width(recipe, device), "instance" if recipe.norm == "auto" else recipe.norm
    layers = int(recipe.encoder.removeprefix(kind))
    if kind == "vgg":
        return VGGSpec.model_validate(
            {"layers": layers, "width": width, "norm": norm, "strides": strides, "dilations": dilations or (1,) * SLOTS}
        )
    has_grid = isinstance(recipe, DeepLabRecipe) and recipe.multi_grid
    return ResNetSpec.model_validate(
        {
            "layers": layers,
            "width": width,
            "norm": norm,
            "stem": _stem(recipe, strides),
            "strides": strides,
            "dilations": dilations or (1,) * 4,
            "multi_grid": MULTI_GRID if has_grid else (),
        }
    )


def _map_side(sides: Sequence[int], strides: Sequence[int]) -> int:
    """Return the least side of the coarsest map, along the axes that stride most: those of the slice, in thick ones."""
    return min(math.ceil(n / s) for n, s in zip(sides, strides, strict=True) if s == max(strides))


def _stem(recipe: FCNRecipe | DeepLabRecipe | PSPNetRecipe, strides: Sequence[tuple[int, ...]]) -> str:
    """Return PSPNet's own stem, a plain one where it does not stride, else the published one."""
    if max(strides[0]) == 1:
        return "plain"
    return "deep" if isinstance(recipe, PSPNetRecipe) else "published"


def _steps(
    sides: Sequence[int], spacing_mm: Sequence[float], *, at_most: int, smallest: int = MIN_SIDE
) -> list[tuple[int, ...]]:
    """Return the strides the patch leaves room for, finest first, by the U-Net's rules."""
    if at_most == 0:
        return []
    shape = topology(sides, spacing_mm, max_stages=at_most + 1, min_side=smallest)
    return [stride for stride in shape.strides[1:] if max(stride) > 1]


def _slots(steps: Sequence[tuple[int, ...]], dimensions: int) -> list[tuple[int, ...]]:
    """Return a stride for each place of an encoder; the last ones do not stride where there are fewer."""
    return [*steps, *[(1,) * dimensions] * (SLOTS - len(steps))]


def _rates(recipe: DeepLabRecipe, coarsest: int) -> tuple[int, ...]:
    """Return the published rates, or their share of a map with fewer voxels."""
    if recipe.rates != "auto":
        return recipe.rates
    share = min(1.0, coarsest / PUBLISHED_MAP[recipe.version])
    return tuple(max(1, round(rate * share)) for rate in PUBLISHED_RATES[recipe.version])


def _width(recipe: NetworkRecipe, device: str) -> int:
    if recipe.width != "auto":
        return recipe.width
    return PUBLISHED_WIDTH if recipe.dimensions == 2 else WIDTH[device]


def _scaled(published: int, times: float) -> int:
    """Return a number of features in proportion to the encoder's width, a multiple of 8."""
    return max(8, round(published * times / 8) * 8)


def _of_monai(recipe: SegResNetRecipe | SwinUNETRRecipe | MedNeXtRecipe, *, device: str) -> NetworkSpec:
    width = recipe.width
    match recipe:
        case SegResNetRecipe():
            narrow = WIDTH[device] if width == "auto" else width
            return SegResNetSpec(dimensions=recipe.dimensions, width=narrow, dropout=recipe.dropout)
        case SwinUNETRRecipe():
            few = {"cpu": 24, "cuda": 48}[device] if width == "auto" else width
            return SwinUNETRSpec(dimensions=recipe.dimensions, features=few, dropout=recipe.dropout)
        case MedNeXtRecipe():
            deep = True if recipe.deep_supervision == "auto" else recipe.deep_supervision
            return MedNeXtSpec(
                dimensions=recipe.dimensions,
                size=recipe.size,
                width=WIDTH[device] if width == "auto" else width,
                kernel=recipe.kernel,
                deep_supervision=deep,
            )
