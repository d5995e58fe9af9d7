"""What of an encoder must have matched for a start to be one: all but a stem that was built otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.plan import ResNetSpec
from medseg.training.initial.names import ENCODER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from medseg.plan import EncoderSpec, NetworkSpec
    from medseg.training.initial.matching import Taken

_STEM = (f"{ENCODER}conv1.", f"{ENCODER}bn1.")
_BEHIND_DEEP_STEM = (f"{ENCODER}layer1.0.conv1.", f"{ENCODER}layer1.0.downsample.")  # read twice as many features
_FIRST_ROW = {"resnet": f"{ENCODER}layer1.0.conv1.weight", "vgg": f"{ENCODER}features.0.weight"}
_FRESH = "Train without --init, or start from weights of the plan's network"


def require_encoder(
    spec: NetworkSpec, fresh: Mapping[str, Tensor], found: Mapping[str, Tensor], taken: Mapping[str, Taken]
) -> tuple[str, ...]:
    """Refuse weights that leave the network's encoder fresh, or a part of it; return what to remark.

    Parameters
    ----------
    spec : NetworkSpec
        The network.
    fresh, found : mapping
        Its state, and the weights there are, by the same names.
    taken : mapping
        What was taken of them.

    Raises
    ------
    InputError
        Where no convolution of the encoder matched; where a VGG or ResNet matched in part.
    """
    encoder: EncoderSpec | None = getattr(spec, "encoder", None)
    if encoder is None:
        part = next((p for p in (ENCODER, "down.") if any(name.startswith(p) for name in fresh)), "")
        if not _convolutions({name: one.tensor for name, one in taken.items()}, part):
            raise _nothing(spec)
        return ()
    wanted, given = _convolutions(fresh, ENCODER), _convolutions(found, ENCODER)
    if not wanted & given:
        raise _nothing(spec)
    _require_width(encoder, found)
    excused = _excused(encoder)
    wrong = [name for name in sorted(wanted - taken.keys() | given - wanted) if not name.startswith(excused)]
    if wrong:
        raise InputError(
            f"the encoder is another one: {wrong[0]!r} is {_sides(found, wrong[0])}",
            expected=f"{_sides(fresh, wrong[0])}, as the plan's {encoder.name} has",
            remedy="Plan with the encoder of the weights (--set network.encoder=resnet50 and such)",
        )
    is_partly_fresh = any(name not in taken for name in wanted)
    return ("The stem is left fresh: that of the plan's network is built otherwise.",) if is_partly_fresh else ()


def _require_width(encoder: EncoderSpec, found: Mapping[str, Tensor]) -> None:
    first = found.get(_FIRST_ROW[encoder.kind])
    if first is not None and first.shape[0] != encoder.width:
        raise InputError(
            f"the encoder has {first.shape[0]} features in its first row",
            expected=f"{encoder.width}, as the plan's {encoder.name} has",
            remedy=f"Plan with --set network.width={first.shape[0]}",
        )


def _excused(encoder: EncoderSpec) -> tuple[str, ...]:
    """Return how names begin of what may stay fresh: the stem, where it is not the published one."""
    if not isinstance(encoder, ResNetSpec) or encoder.stem == "published":
        return ()
    return (*_STEM, *_BEHIND_DEEP_STEM) if encoder.stem == "deep" else _STEM


def _convolutions(tensors: Mapping[str, Tensor], part: str) -> set[str]:
    return {name for name, tensor in tensors.items() if name.startswith(part) and tensor.ndim >= 4}


def _nothing(spec: NetworkSpec) -> InputError:
    return InputError(
        "nothing of the network's encoder is in the weights", expected=f"those of a {spec.in_words}", remedy=_FRESH
    )


def _sides(tensors: Mapping[str, Tensor], name: str) -> str:
    return " x ".join(map(str, tensors[name].shape)) if name in tensors else "missing"
