"""Wall time by step, where steps make each other's work."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from medseg.preprocess import WorkingImage

T = TypeVar("T")


class Clock:
    """Adds up the time of steps; the time of a step within a step counts for the inner one alone.

    Examples
    --------
    >>> clock = Clock()
    >>> with clock("network"):
    ...     with clock("prepare"):
    ...         pass
    >>> sorted(clock.seconds)
    ['network', 'prepare']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Count what happens within for `step`."""
        started, before, self._inner = time.perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[step] = self.seconds.get(step, 0.0) + spent - self._inner
            self._inner = before + spent

    def each(self, step: str, things: Iterator[T]) -> Iterator[T]:
        """Yield things, and count the making of each for `step`."""
        while True:
            with self(step):
                try:
                    thing = next(things)
                except StopIteration:
                    return
            yield thing


class TimedImage:
    """An image whose making counts as preparing."""

    def __init__(self, image: WorkingImage, clock: Clock) -> None:
        self._image, self._clock = image, clock
        self.shape: tuple[int, ...] = image.shape

    def slices(self, start: int, stop: int) -> Tensor:
        """Return slices (C, n, Y, X) of the image."""
        with self._clock("prepare"):
            return self._image.slices(start, stop)
