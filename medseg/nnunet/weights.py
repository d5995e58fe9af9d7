"""nnU-Net's names of weights, and ours.

Its modules register what they hold several times: the layers of a block once more in ``all_modules``, the encoder once
more in the decoder. Deep supervision leaves heads that inference does not use. Both are passed over; anything else that
has no place in our network is refused, as it would be part of another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from medseg.plan import UNetSpec

_LAYERS = 3  # convolution, norm, rectifier: what one step of ours has
_AGAIN = (".all_modules.", "decoder.encoder.")


def has_batch_norm(weights: Mapping[str, Tensor]) -> bool:
    """Tell whether the weights hold the running statistics of batch norms."""
    return any(name.endswith(".running_mean") for name in weights)


def to_state(weights: Mapping[str, Tensor], spec: UNetSpec, *, where: str = "") -> dict[str, Tensor]:
    """Return the weights under the names of our network.

    A bias before an instance norm is left out: the norm subtracts the mean, and the bias with it. Before a batch norm
    it goes into the mean that the norm subtracts.

    Parameters
    ----------
    weights : mapping of str to Tensor
        By nnU-Net's names.
    spec : UNetSpec
        The network they belong to.
    where : str
        The checkpoint, for errors.

    Raises
    ------
    ModelError
        Where a weight is missing, or there is one that the network has no place for.
    """
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    for theirs, ours, after in _pairs(spec):
        conv = _taken(weights, f"{theirs}.weight", used, where)
        bias = weights.get(f"{theirs}.bias")
        used.add(f"{theirs}.bias")
        state[f"{ours}.weight"] = conv
        if after is None:
            width = conv.shape[1] if ".transpconvs." in theirs else conv.shape[0]
            state[f"{ours}.bias"] = bias if bias is not None else torch.zeros(width)
        else:
            state |= _norm(weights, after, bias, used=used, width=conv.shape[0])
    unused = (".seg_layers.", ".num_batches_tracked")
    left = [n for n in weights if n not in used and not any(part in n for part in (*_AGAIN, *unused))]
    if left:
        raise ModelError(
            f"the checkpoint holds {left[0]!r}, which the network of the plans does not have",
            expected="the network that plans.json describes",
            where=where,
            remedy="Its trainer built another network: segment with nnU-Net itself",
        )
    return state


def _norm(
    weights: Mapping[str, Tensor], names: tuple[str, str], bias: Tensor | None, *, used: set[str], width: int
) -> dict[str, Tensor]:
    """Return the weights of a norm; one without scale and shift has ones and zeros."""
    theirs, ours = names
    ends = ("weight", "bias", "running_mean", "running_var")
    used.update(f"{theirs}.{end}" for end in ends)
    given = {end: weights[f"{theirs}.{end}"] for end in ends if f"{theirs}.{end}" in weights}
    found = {"weight": torch.ones(width), "bias": torch.zeros(width)} | given
    if "running_mean" in found:
        found["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        if bias is not None:
            found["running_mean"] = found["running_mean"] - bias
    return {f"{ours}.{end}": tensor for end, tensor in found.items()}


def _taken(weights: Mapping[str, Tensor], name: str, used: set[str], where: str) -> Tensor:
    if name not in weights:
        raise ModelError(
            f"the checkpoint holds no {name!r}",
            expected="the network that plans.json describes",
            where=where,
            remedy="Plans and checkpoint belong to different networks: get both from one training",
        )
    used.add(name)
    return weights[name]


Pair = tuple[str, str, tuple[str, str] | None]
"""A convolution by its name there and here, and the norm behind it, where there is one."""


def _pairs(spec: UNetSpec) -> Iterator[Pair]:
    stages = len(spec.features)
    if spec.residual_blocks:
        yield from _residual_pairs(spec)
    else:
        for stage, depth in enumerate(spec.convs_down):
            yield from _row(f"encoder.stages.{stage}.0.convs", f"encoder.{stage}", depth)
    for stage, depth in enumerate(spec.convs_up):
        yield f"decoder.transpconvs.{stage}", f"decoder.{stage}.up", None
        yield from _row(f"decoder.stages.{stage}.convs", f"decoder.{stage}.convs", depth)
    yield f"decoder.seg_layers.{stages - 2}", "heads.0", None


def _row(theirs: str, ours: str, depth: int) -> Iterator[Pair]:
    for i in range(depth):
        yield _step(f"{theirs}.{i}", ours, _LAYERS * i)


def _step(theirs: str, ours: str, position: int) -> Pair:
    return f"{theirs}.conv", f"{ours}.{position}", (f"{theirs}.norm", f"{ours}.{position + 1}")


def _residual_pairs(spec: UNetSpec) -> Iterator[Pair]:
    """Name those of a residual encoder: its stem is first in our first stage, where blocks come one place later."""
    yield from _row("encoder.stem.convs", "encoder.0.0", 1)
    before = spec.features[0]
    for stage, (features, stride, blocks) in enumerate(
        zip(spec.features, spec.strides, spec.residual_blocks, strict=True)
    ):
        for block in range(blocks):
            theirs, ours = f"encoder.stages.{stage}.blocks.{block}", f"encoder.{stage}.{block + (stage == 0)}"
            yield _step(f"{theirs}.conv1", f"{ours}.convs", 0)
            yield _step(f"{theirs}.conv2", f"{ours}.convs", _LAYERS)
            if block == 0 and before != features:
                pooled = int(max(stride) > 1)
                yield _step(f"{theirs}.skip.{pooled}", f"{ours}.shortcut", 0)
        before = features
