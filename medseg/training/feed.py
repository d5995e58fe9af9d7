"""Batches for the loop: drawn, augmented, and on a GPU made ahead by threads."""

from __future__ import annotations

import copy
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from medseg.transforms.augment import Augmentation

if TYPE_CHECKING:
    from types import TracebackType

    from torch import Tensor

    from medseg.plan import Plan


class Sampler(Protocol):
    """What draws patches: `medseg.training.patches.PatchSampler`, or a stand-in."""

    def draw(self, n: int, /) -> tuple[Tensor, Tensor]:
        """Return `n` patches: images (N, C, Z, Y, X) and labels (N, Z, Y, X)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands, as plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go where `state` stood."""
        ...


class Batch(NamedTuple):
    """Images (N, C, *spatial) and labels (N, *spatial), as the network sees them."""

    image: Tensor
    label: Tensor


class Feed:
    """An endless row of augmented batches; a context manager that ends its threads.

    The sampler is asked in order whatever the number of threads, and every patch is augmented by a seed of its own, of
    the run's seed, the rank and the patch's place in the row. So threads change no number.

    Parameters
    ----------
    sampler : Sampler
        Gives patches of `Augmentation.extract_size`.
    plan : Plan
        Says the batch size, the seed and the augmentation.
    rank : int
        Number of this process among several.
    ahead : int
        Batches made ahead by threads; 0 makes each when it is asked for, in the caller's thread.
    """

    def __init__(self, sampler: Sampler, plan: Plan, *, rank: int = 0, ahead: int = 0) -> None:
        self._sampler = sampler
        self._variations = [Augmentation(plan) for _ in range(plan.train.batch_size)]
        self._entropy = (plan.train.seed, rank)
        self._made = 0
        self._state: dict[str, Any] = {"batches": 0, "sampler": copy.deepcopy(sampler.state_dict())}
        self._ahead = ahead
        self._waiting: deque[Future[tuple[Batch, dict[str, Any]]]] = deque()
        self._maker = ThreadPoolExecutor(1) if ahead else None
        self._hands = ThreadPoolExecutor(len(self._variations)) if ahead else None

    def take(self) -> Batch:
        """Return the next batch."""
        if self._maker is None:
            batch, self._state = self._make()
            return batch
        while len(self._waiting) <= self._ahead:
            self._waiting.append(self._maker.submit(self._make))
        batch, self._state = self._waiting.popleft().result()
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where the feed stands after the last batch taken, whatever was made ahead."""
        return copy.deepcopy(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch taken when `state` was; call it before the first `take`."""
        self._made = int(state["batches"])
        self._sampler.load_state_dict(state["sampler"])
        self._state = copy.deepcopy(state)

    def _make(self) -> tuple[Batch, dict[str, Any]]:
        images, labels = self._sampler.draw(len(self._variations))
        places = range(self._made * len(images), (self._made + 1) * len(images))
        self._made += 1
        rows = list(zip(self._variations, images, labels, places, strict=True))
        varied = list(self._hands.map(self._vary, rows) if self._hands else map(self._vary, rows))
        batch = Batch(torch.stack([image for image, _ in varied]), torch.stack([label for _, label in varied]))
        return batch, {"batches": self._made, "sampler": copy.deepcopy(self._sampler.state_dict())}

    def _vary(self, row: tuple[Augmentation, Tensor, Tensor, int]) -> tuple[Tensor, Tensor]:
        variation, image, label, place = row
        seed = int(np.random.SeedSequence((*self._entropy, place)).generate_state(1)[0])
        return variation(image, label, seed=seed)

    def __enter__(self) -> Feed:
        """Return the feed itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads; what was made ahead is dropped."""
        for pool in (self._maker, self._hands):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
