"""One network that learns: its weights, their average, its optimiser and its data, moved on step by step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from medseg import networks
from medseg.errors import InputError
from medseg.model import as_stored
from medseg.training.checkpoint import Checkpoint
from medseg.training.engine import gather, random_state, restore_random_state
from medseg.training.loss import SegmentationLoss
from medseg.training.optim import MovingAverage, make_optimizer, set_learning_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from medseg.plan import Plan
    from medseg.training.feed import Feed

CLIP_NORM = 12.0
"""Gradients longer than this are shortened, as nnU-Net does: one bad patch cannot throw the weights far."""


class Learner:
    """A network in training.

    Parameters
    ----------
    plan : Plan
        Network, loss and optimiser.
    feed : Feed
        Where batches come from.
    engine : Fabric
        Device, precision and processes.
    initial : mapping, optional
        Weights to begin with; fresh ones otherwise.

    Attributes
    ----------
    steps : int
        Steps taken.
    waited_s : float
        Time they waited for batches.
    cases : tuple of str
        Those of the last batch, where the sampler tells.

    Raises
    ------
    InputError
        Where the initial weights do not fit the plan's network.
    """

    def __init__(self, plan: Plan, feed: Feed, *, engine: Fabric, initial: Mapping[str, Tensor] | None = None) -> None:
        self._plan, self._feed, self._engine = plan, feed, engine
        self._layout = networks.memory_format(plan.network.dimensions)
        self._module = networks.build(plan.network, len(plan.channels), len(plan.labels) + 1)
        if initial is not None:
            _load(self._module, initial, where="the initial weights")
        self._module.to(engine.device).to(memory_format=self._layout)  # type: ignore[call-overload]  # missing in torch's stubs
        self._optimizer = make_optimizer(
            plan.train.optimizer, self._module.parameters(), fused=engine.strategy.precision.precision != "16-mixed"
        )
        self._network, self._stepper = engine.setup(self._module, self._optimizer)
        self._loss = SegmentationLoss(
            plan.train.loss, networks.output_weights(plan.network), spacing_mm=plan.spatial_spacing_mm
        )
        self.average = MovingAverage(self._module, plan.train.ema_decay)
        self.steps = 0
        self.waited_s = 0.0
        self.cases: tuple[str, ...] = ()

    def step(self, rate: float) -> float:
        """Take one step at a learning `rate` and return the loss before it; not a number, it moves nothing."""
        set_learning_rate(self._optimizer, rate)
        self._network.train()
        asked = time.perf_counter()
        batch = self._feed.take()
        self.waited_s += time.perf_counter() - asked
        self.cases = batch.cases
        image, label = self._engine.to_device((batch.image.contiguous(memory_format=self._layout), batch.label))
        loss = self._loss(self._network(image), label)
        value = float(loss.detach())
        if value - value != 0.0:  # infinite, or not a number
            return value
        self._engine.backward(loss)
        self._engine.clip_gradients(self._network, self._stepper, max_norm=CLIP_NORM, error_if_nonfinite=False)
        self._stepper.step()
        self._stepper.zero_grad()
        self.average.update(self._module)
        self.steps += 1
        return value

    def weights(self) -> dict[str, Tensor]:
        """Return the averaged weights: what a finished run is kept for."""
        return {name: as_stored(tensor) for name, tensor in self.average.network.state_dict().items()}

    def checkpoint(self, **more: Any) -> Checkpoint:
        """Return everything a later try needs, with `more` plain values beside it."""
        state = {
            "steps": self.steps,
            "average_steps": self.average.steps,
            "network": self._plan.network.model_dump(mode="json"),
            "optimizer_kind": self._plan.train.optimizer.kind,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._engine.strategy.precision.state_dict(),
            "random": random_state(),
            "feeds": gather(self._engine, self._feed.state_dict()),
        }
        return Checkpoint(self._module.state_dict(), self.average.network.state_dict(), state | more)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where `checkpoint` was taken.

        Raises
        ------
        InputError
            Where it is of another network or optimiser.
        """
        state = checkpoint.state
        expected = (self._plan.network.model_dump(mode="json"), self._plan.train.optimizer.kind)
        if (state.get("network"), state.get("optimizer_kind")) != expected:
            raise InputError(
                "the checkpoint is of another network or optimiser",
                expected="those of the plan",
                remedy="Resume with the plan the run was started with, or start again with --overwrite",
            )
        _load(self._module, checkpoint.weights, where="last")
        _load(self.average.network, checkpoint.average, where="last")
        self._optimizer.load_state_dict(state["optimizer"])
        self._engine.strategy.precision.load_state_dict(state["scaler"])
        restore_random_state(state["random"])
        if self._engine.global_rank < len(state["feeds"]):  # a process more than last time draws from its own start
            self._feed.load_state_dict(state["feeds"][self._engine.global_rank])
        self.average.steps = int(state["average_steps"])
        self.steps = int(state["steps"])


def _load(module: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights into a network, refusing what does not fit."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        raise InputError(
            f"the weights do not fit the network: {wrong[0]} is {given.get(wrong[0], 'missing')}",
            expected=str(wanted.get(wrong[0], "no such weight")),
            where=where,
            remedy="Use weights of a network of the same plan",
        )
    module.load_state_dict(dict(weights))
