"""Optimisers, their schedules as functions of progress, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, assert_never

import torch

from medseg.plan import AdamW, Sgd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from medseg.plan import Optimizer

FLOOR = 1e-3
"""The least share of the full learning rate: the last step of a schedule still moves."""


def make_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter], *, fused: bool = True) -> torch.optim.Optimizer:
    """Return the optimiser `spec` describes.

    Vectors (norms and biases) are spared weight decay by AdamW, as is usual for it; SGD decays all, as nnU-Net does.
    `fused` runs a step in one kernel; it does not go with float16, whose gradients are scaled.
    """
    match spec:
        case AdamW():
            learnt = list(parameters)
            groups = [
                {"params": [p for p in learnt if p.ndim > 1], "weight_decay": spec.weight_decay},
                {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
            ]
            return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=fused)
        case Sgd():
            return torch.optim.SGD(
                parameters,
                lr=spec.learning_rate,
                momentum=spec.momentum,
                nesterov=spec.momentum > 0,
                weight_decay=spec.weight_decay,
                fused=fused,
            )


def learning_rate(spec: Optimizer, progress: float) -> float:
    """Return the learning rate at `progress`, the share of the run that is done, in [0, 1].

    AdamW warms up in a straight line and falls by half a cosine (Loshchilov 2017, arXiv:1608.03983); SGD falls by a
    power (Chen 2018, arXiv:1606.00915), after a warm-up where it has one. Progress may be of steps or of time: a
    wall-clock budget has a whole schedule.

    Examples
    --------
    >>> spec = AdamW(learning_rate=1.0, warmup=0.1)
    >>> [round(learning_rate(spec, p), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.001]
    """
    progress = min(1.0, max(0.0, progress))
    match spec:
        case AdamW():
            share = _one_cycle(progress, spec.warmup)
        case Sgd():
            share = progress / spec.warmup if progress < spec.warmup else _left(progress, spec.warmup) ** spec.power
        case _:
            assert_never(spec)
    return spec.learning_rate * max(share, FLOOR)


def _one_cycle(progress: float, warmup: float) -> float:
    if progress < warmup:
        return progress / warmup
    fall = (progress - warmup) / max(1.0 - warmup, 1e-9)
    return 0.5 * (1.0 + math.cos(math.pi * fall))


def _left(progress: float, warmup: float) -> float:
    """Return the share of what follows the warm-up that is still to come."""
    return (1.0 - progress) / max(1.0 - warmup, 1e-9)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of `optimizer` the learning `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class MovingAverage:
    """The exponential moving average of a network's weights (Polyak 1992; Tarvainen 2017, arXiv:1703.01780).

    Early on the average reaches back over a tenth of the steps so far, so that short runs are not held back by their
    first weights; `decay` bounds how far it reaches later. Buffers are taken as they are.

    Parameters
    ----------
    network : nn.Module
        The network to follow.
    decay : float
        Share of the old average kept at each step, in [0, 1); 0 follows the weights themselves.

    Attributes
    ----------
    network : nn.Module
        A copy with the averaged weights, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights of `network` after a step."""
        self.steps += 1
        keep = min(self.decay, self.steps / (self.steps + 9.0))
        averages: list[torch.Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, [p.detach() for p in network.parameters()], 1.0 - keep)
        for old, new in zip(self.network.buffers(), network.buffers(), strict=True):
            old.copy_(new)
