"""Names of weights: wrappers taken off, torchvision's names made ours, layers of other number aligned."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

ENCODER = "encoder."
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_PARTS = (("backbone.", ENCODER), ("aux_classifier.", "auxiliary."))
_TOP = ("features.", "conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")  # of torchvision's VGG and ResNet
_FEATURE = re.compile(r"encoder\.features\.(\d+)\.(.+)")


def as_ours(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, by the name our network has for it, the name each tensor has in its file.

    Parameters
    ----------
    tensors : mapping
        As a file names them: ours, or torchvision's, with or without a wrapper's prefix.
    wanted : mapping
        The state of our network.

    Examples
    --------
    >>> import torch
    >>> weight = torch.zeros(4, 3, 7, 7)
    >>> as_ours({"module.backbone.conv1.weight": weight}, {"encoder.conv1.weight": weight})
    {'encoder.conv1.weight': 'module.backbone.conv1.weight'}
    """
    names = list(tensors)
    while prefix := _wrapper(names, wanted):
        names = [name.removeprefix(prefix) for name in names]
    if any(name.startswith((f"{ENCODER}conv1.", f"{ENCODER}features.")) for name in wanted):
        names = [_torchvision(name) for name in names]
    names = _vgg_in_order(dict(zip(names, tensors.values(), strict=True)), wanted, names)
    for part in ("heads.", "decoder."):  # of our U-Net, the last at full resolution
        names = _from_the_end(names, wanted, part)
    return dict(zip(names, tensors, strict=True))


def _wrapper(names: Sequence[str], wanted: Iterable[str]) -> str:
    """Return the wrapper all names carry and ours do not."""
    shared = (p for p in _WRAPPERS if names and all(name.startswith(p) for name in names))
    return next((p for p in shared if not any(name.startswith(p) for name in wanted)), "")


def _torchvision(name: str) -> str:
    for theirs, ours in _PARTS:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return ENCODER + name if name.startswith(_TOP) else name


def _vgg_in_order(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Sequence[str]) -> list[str]:
    """Give VGG's convolutions, and norms behind them, the numbers they have with or without norms between them."""
    ours, theirs = _convolutions(wanted), _convolutions(tensors)
    if len(ours) != len(theirs):
        return list(names)
    number = dict(zip(theirs, ours, strict=True))
    number |= {before + 1: now + 1 for before, now in number.items()}
    matches = ((name, _FEATURE.fullmatch(name)) for name in names)
    return [
        f"{ENCODER}features.{number.get(int(match[1]), match[1])}.{match[2]}" if match else name
        for name, match in matches
    ]


def _convolutions(tensors: Mapping[str, Tensor]) -> list[int]:
    """Return the numbers of VGG's convolutions, rising."""
    matches = ((_FEATURE.fullmatch(name), tensor) for name, tensor in tensors.items())
    return sorted(int(match[1]) for match, tensor in matches if match and match[2] == "weight" and tensor.ndim >= 4)


def _from_the_end(names: Sequence[str], wanted: Iterable[str], part: str) -> list[str]:
    """Return names with a list of layers numbered as ours, whose last is the same."""
    ours, theirs = _count(wanted, part), _count(names, part)
    pattern = re.compile(re.escape(part) + r"(\d+)(\..+)")
    matches = ((name, pattern.fullmatch(name) if ours and theirs else None) for name in names)
    return [f"{part}{int(match[1]) + ours - theirs}{match[2]}" if match else name for name, match in matches]


def _count(names: Iterable[str], part: str) -> int:
    pattern = re.compile(re.escape(part) + r"(\d+)\.")
    return max((int(match[1]) + 1 for name in names if (match := pattern.match(name))), default=0)
