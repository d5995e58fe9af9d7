"""Batches for the loop: drawn and augmented, by worker processes, by threads, or in line; the same batches by each."""

from __future__ import annotations

import copy
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from medseg.training.workers import Task, Workers, WorkersNotStarted
from medseg.transforms.augment import Augmentation

if TYPE_CHECKING:
    from types import TracebackType

    from torch import Tensor

    from medseg.plan import Plan
    from medseg.training.patches import Cut, Cutter


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


@runtime_checkable
class Choosing(Protocol):
    """A sampler that says which patches come next without reading them, so that others may read them."""

    cutter: Cutter

    def choose(self, n: int, /) -> tuple[Cut, ...]:
        """Return where the next `n` patches lie."""
        ...


class Batch(NamedTuple):
    """What the network sees next.

    Attributes
    ----------
    image, label : Tensor
        (N, C, *spatial) and (N, *spatial). Made by workers, they lie in memory that is filled anew after the next
        `Feed.take`.
    cases : tuple of str
        The case each patch is of; empty where the sampler does not tell.
    """

    image: Tensor
    label: Tensor
    cases: tuple[str, ...] = ()


class _Order(NamedTuple):
    """What a batch will be, before a voxel is read: seeds, patches where they are known, and the feed's state after."""

    seeds: tuple[int, ...]
    cuts: tuple[Cut, ...]
    state: dict[str, Any]


class Feed:
    """An endless row of augmented batches; a context manager that ends its threads and processes.

    The sampler is asked in order, and every patch is augmented by a seed of its own, of the run's seed, the rank and
    the patch's place in the row, always by one thread (PyTorch's sums depend on how many there are). So neither threads
    nor worker processes change a number.

    Workers take seconds to start. Until they have, batches are made in line.

    Parameters
    ----------
    sampler : Sampler
        Gives patches of `Augmentation.extract_size`. Workers need one that is `Choosing`, too.
    plan : Plan
        Says the batch size, the seed and the augmentation.
    rank : int
        Number of this process among several.
    ahead : int
        Batches made ahead by threads, where there are no workers; 0 makes each when it is asked for, in the caller's
        thread.
    workers : int
        Processes that make batches ahead.

    Attributes
    ----------
    remark : str
        A sentence where workers were asked for and could not be had.
    """

    def __init__(self, sampler: Sampler, plan: Plan, *, rank: int = 0, ahead: int = 0, workers: int = 0) -> None:
        self._sampler, self._plan = sampler, plan
        self._variations = [Augmentation(plan) for _ in range(plan.train.batch_size)]
        self._entropy = (plan.train.seed, rank)
        self._made = 0
        self._state: dict[str, Any] = {"batches": 0, "sampler": copy.deepcopy(sampler.state_dict())}
        self._threads = torch.get_num_threads()
        self._ahead = ahead
        self._waiting: deque[Future[tuple[Batch, dict[str, Any]]]] = deque()
        self._maker = ThreadPoolExecutor(1) if ahead else None
        self._hands = ThreadPoolExecutor(len(self._variations)) if ahead else None
        self._asked: deque[tuple[_Order, int]] = deque()
        self._free = list(range(2 + -(-2 * workers // len(self._variations))))
        self._held: list[int] = []
        self.remark = ""
        self._workers = self._started(workers)

    def take(self) -> Batch:
        """Return the next batch.

        Raises
        ------
        MedsegError
            Where a patch cannot be made, naming the case, or a worker died.
        """
        if self._workers is not None and self._are_ready(self._workers):
            return self._take_from(self._workers)
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

    def wait_for_workers(self, *, timeout_s: float = 60.0) -> bool:
        """Wait until the workers have started; False where there are none."""
        return self._workers is not None and self._are_ready(self._workers, timeout_s=timeout_s)

    # -- by workers ---------------------------------------------------------------------------------------------------
    def _started(self, count: int) -> Workers | None:
        if not count or not isinstance(self._sampler, Choosing):
            return None
        try:
            return Workers(count, self._sampler.cutter, self._plan, slots=len(self._free))
        except WorkersNotStarted as error:
            self.remark = str(error)
            return None

    def _are_ready(self, workers: Workers, *, timeout_s: float = 0.0) -> bool:
        try:
            return workers.are_ready(timeout_s=timeout_s)
        except WorkersNotStarted as error:
            workers.end()
            self._workers, self.remark = None, str(error)
            return False

    def _take_from(self, workers: Workers) -> Batch:
        self._free += self._held
        while self._free:
            order, slot = self._next(), self._free.pop()
            workers.ask([Task(cut, seed, slot, row) for row, (cut, seed) in enumerate(zip(order.cuts, order.seeds))])  # noqa: B905 - as many seeds as cuts
            self._asked.append((order, slot))
        order, slot = self._asked.popleft()
        image, label = workers.collect(slot)
        self._held, self._state = [slot], order.state
        return Batch(image, label, self._names(order.cuts))

    # -- in this process ----------------------------------------------------------------------------------------------
    def _make(self) -> tuple[Batch, dict[str, Any]]:
        if isinstance(self._sampler, Choosing):
            order = self._next()
            rows = [self._sampler.cutter(cut) for cut in order.cuts]
        else:
            rows = list(zip(*self._sampler.draw(len(self._variations)), strict=True))
            order = self._next()
        work = list(zip(self._variations, rows, order.seeds, strict=True))
        varied = list(self._hands.map(self._vary, work) if self._hands else map(self._vary, work))
        images, labels = zip(*varied, strict=True)
        return Batch(torch.stack(images), torch.stack(labels), self._names(order.cuts)), order.state

    def _vary(self, work: tuple[Augmentation, tuple[Tensor, Tensor], int]) -> tuple[Tensor, Tensor]:
        variation, (image, label), seed = work
        torch.set_num_threads(1)
        try:
            return variation(image, label, seed=seed)
        finally:
            torch.set_num_threads(self._threads)

    def _next(self) -> _Order:
        """Settle what the next batch is."""
        count = len(self._variations)
        places = range(self._made * count, (self._made + 1) * count)
        cuts = self._sampler.choose(count) if isinstance(self._sampler, Choosing) else ()
        self._made += 1
        state = {"batches": self._made, "sampler": copy.deepcopy(self._sampler.state_dict())}
        seeds = (np.random.SeedSequence((*self._entropy, place)).generate_state(1)[0] for place in places)
        return _Order(tuple(map(int, seeds)), cuts, state)

    def _names(self, cuts: tuple[Cut, ...]) -> tuple[str, ...]:
        return tuple(self._sampler.cutter.cases[cut.case].id for cut in cuts) if cuts else ()  # type: ignore[attr-defined]  # cuts come from a sampler that is Choosing

    def __enter__(self) -> Feed:
        """Return the feed itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End threads and processes; what was made ahead is dropped."""
        if self._workers is not None:
            self._workers.end()
        for pool in (self._maker, self._hands):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
