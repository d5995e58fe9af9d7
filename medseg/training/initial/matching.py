"""Weights of one network laid into another: by name and shape, class scores by label, the stem by channel."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from medseg import networks
from medseg.errors import InputError
from medseg.training.initial.adapt import Places, as_convolution, for_channels, inflated, placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from medseg.plan import NetworkSpec, Plan

BACKGROUND = ""  # what stands before all labels; no label is called so


class Taken(NamedTuple):
    """A weight for the network, and what was done to it in words; nothing where it is as it was."""

    tensor: Tensor
    ways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Where a network's weights depend on its classes and its channels.

    Attributes
    ----------
    classes, channels : mapping of str to tuple of int
        The axes that are as long as there are classes, or channels.
    strides : mapping of str to int
        First stride of every transposed convolution, by its weight's name.
    """

    classes: Mapping[str, tuple[int, ...]]
    channels: Mapping[str, tuple[int, ...]]
    strides: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: NetworkSpec, in_channels: int, out_channels: int) -> Blueprint:
        """Find the axes by building the network with one class and with one channel more; takes no memory.

        Examples
        --------
        >>> from medseg.plan import FCNSpec, VGGSpec, published_strides
        >>> vgg = VGGSpec(width=2, strides=published_strides(2))
        >>> axes = Blueprint.of(FCNSpec(dimensions=2, encoder=vgg, classifier_features=4), 1, 3)
        >>> axes.classes["ups.0.weight"], axes.channels
        ((0, 1), {'encoder.features.0.weight': (1,)})
        """
        network = networks.blueprint(spec, in_channels, out_channels)
        strides = {
            f"{name}.weight": int(module.stride[0])
            for name, module in network.named_modules()
            if isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d))
        }
        shapes = network.state_dict()
        one_class_more = networks.blueprint(spec, in_channels, out_channels + 1).state_dict()
        one_channel_more = networks.blueprint(spec, in_channels + 1, out_channels).state_dict()
        return cls(_changed(shapes, one_class_more), _changed(shapes, one_channel_more), strides)


def _changed(shapes: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the axes along which weights differ, of those that do."""
    found: dict[str, tuple[int, ...]] = {}
    for name in shapes.keys() & other.keys():
        pairs = enumerate(zip(shapes[name].shape, other[name].shape, strict=True))
        axes = tuple(axis for axis, (a, b) in pairs if a != b)
        if axes:
            found[name] = axes
    return found


class Shared(NamedTuple):
    """The names along one kind of axis, now and before: how many there are, and where the shared ones stand."""

    sizes: tuple[int, int]
    into: tuple[int, ...]
    out_of: tuple[int, ...]
    way: str

    @classmethod
    def of(cls, wanted: Sequence[str], found: Sequence[str], what: str) -> Shared:
        """Pair names, equal ones in their order; `way` says what that does, and is empty where nothing changes.

        Examples
        --------
        >>> Shared.of(("", "liver", "spleen"), ("", "spleen"), "classes")
        Shared(sizes=(3, 2), into=(0, 2), out_of=(0, 1), way='2 of 3 classes by name')
        """
        places: dict[str, list[int]] = defaultdict(list)
        for place, name in enumerate(found):
            places[name].append(place)
        both = [(place, places[name].pop(0)) for place, name in enumerate(wanted) if places[name]]
        way = f"{len(both)} of {len(wanted)} {what} by name"
        if not both:
            way = f"{_mean_of(len(found), len(wanted))}, as none has the same name"
        is_same = len(both) == len(wanted) == len(found) and all(into == out_of for into, out_of in both)
        into, out_of = tuple(into for into, _ in both), tuple(out_of for _, out_of in both)
        return cls((len(wanted), len(found)), into, out_of, "" if is_same else way)


class Fitter:
    """Brings single weights to the shape a plan's network has for them.

    Parameters
    ----------
    plan : Plan
        What the network is of.
    origin : Plan or None
        What the weights are of, where its labels and channels are known by name.
    blueprint : Blueprint
        Of the plan's network.
    inflate : bool
        Whether 2-D kernels may become 3-D ones.
    """

    def __init__(self, plan: Plan, origin: Plan | None, blueprint: Blueprint, *, inflate: bool) -> None:
        self._blueprint, self._inflate = blueprint, inflate
        self._shared: tuple[tuple[Mapping[str, tuple[int, ...]], Shared], ...] = ()
        if origin is not None:
            classes = (BACKGROUND, *plan.labels.names), (BACKGROUND, *origin.labels.names)
            self._shared = (
                (blueprint.classes, Shared.of(*classes, "classes")),
                (blueprint.channels, Shared.of(plan.channels, origin.channels, "channels")),
            )

    def fit(self, name: str, fresh: Tensor, found: Tensor) -> Taken | None:
        """Return `found` for the place of `fresh`, or None where it does not fit.

        Raises
        ------
        InputError
            Where it is a 2-D kernel for a 3-D network, and inflating was not asked for.
        """
        ways: list[str] = []
        weight = found
        if weight.ndim == 2 and fresh.ndim >= 4:
            flat = as_convolution(weight, fresh.shape)
            if flat is None:
                return None
            weight = flat
            ways.append("a fully connected layer as a convolution")
        if weight.ndim == 5 and fresh.ndim == 4:
            raise InputError(
                f"the weights are of a 3-D network: {name!r} is {_sides(weight)}",
                expected=f"{_sides(fresh)}, as the plan's 2-D network has",
                remedy="Plan with --set network.dimensions=3",
            )
        if weight.ndim == 4 and fresh.ndim == 5:
            weight = self._inflated(name, fresh, weight)
            ways.append("inflated along the new axis, divided by its length")
        if weight.ndim != fresh.ndim:
            return None
        weight = weight.to(fresh.dtype)
        fitted = self._by_name(name, fresh, weight, ways) if self._shared else self._by_size(name, fresh, weight, ways)
        if fitted is None or fitted.shape != fresh.shape:
            return None
        return Taken(fitted.contiguous(), tuple(ways))

    def _inflated(self, name: str, fresh: Tensor, weight: Tensor) -> Tensor:
        if not self._inflate:
            raise InputError(
                f"the weights are of a 2-D network: {name!r} is {_sides(weight)}",
                expected=f"{_sides(fresh)}, as the plan's 3-D network has",
                remedy="Pass --inflate to repeat 2-D kernels along the third axis, or plan with "
                "--set network.dimensions=2",
            )
        return inflated(weight, fresh.shape[2], stride=self._blueprint.strides.get(name))

    def _by_size(self, name: str, fresh: Tensor, weight: Tensor, ways: list[str]) -> Tensor:
        """Adapt the stem of a file that does not say what its channels are."""
        for axis in self._blueprint.channels.get(name, ()):
            before, now = weight.shape[axis], fresh.shape[axis]
            if before != now:
                ways.append(_mean_of(before, now))
                weight = for_channels(weight, now, axis=axis)
        return weight

    def _by_name(self, name: str, fresh: Tensor, weight: Tensor, ways: list[str]) -> Tensor | None:
        """Take rows of labels and slices of channels that both plans name; others stay fresh."""
        places: list[Places] = []
        for axes, shared in self._shared:
            for axis in axes.get(name, ()):
                if (fresh.shape[axis], weight.shape[axis]) != shared.sizes:
                    return None
                if shared.into:
                    places.append(Places(axis, shared.into, shared.out_of))
                else:
                    weight = for_channels(weight.sum(axis, keepdim=True), fresh.shape[axis], axis=axis)
                if shared.way and shared.way not in ways:
                    ways.append(shared.way)
        named = {place.axis for place in places}
        is_alike = all(a == b for n, (a, b) in enumerate(zip(fresh.shape, weight.shape, strict=True)) if n not in named)
        return placed(fresh, weight, places) if is_alike else None


def _mean_of(before: int, now: int) -> str:
    if before == now == 1:
        return "the one channel for the other"
    return f"the mean over {before} channels for {now}, times {before}/{now}"


def _sides(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
