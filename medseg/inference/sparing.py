"""Fewer windows at once where the device's memory does not hold them, and scores elsewhere where it has no room."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from medseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_log = logging.getLogger(__name__)


class Sparing:
    """A way to predict windows that goes on with half as many where memory runs out, and says so once.

    Parameters
    ----------
    predict : callable
        Maps windows (N, C, *spatial) to logits; may raise ``torch.OutOfMemoryError``.
    device : str
        What to name in words.
    """

    def __init__(self, predict: Callable[[Tensor], Tensor], device: str) -> None:
        self._predict, self._device = predict, device
        self._most: int | None = None
        self._is_told = False

    def zeros(self, shape: tuple[int, ...], *, on: str) -> Tensor:
        """Return a tensor to add up scores in, on a device; in main memory where the device does not hold it."""
        try:
            return torch.zeros(shape, device=on)
        except torch.OutOfMemoryError:
            if not self._is_told:
                _log.warning("The memory of %s does not hold the scores; they are added up in main memory.", on)
            self._is_told = True
        _give_back()
        return torch.zeros(shape)

    def __call__(self, windows: Tensor) -> Tensor:
        """Return the logits of a batch of windows.

        Raises
        ------
        ModelError
            Where the memory does not hold a single one.
        """
        if self._most is not None and len(windows) > self._most:
            return torch.cat([self(part) for part in torch.split(windows, self._most)])
        return self._tried(windows)

    def _tried(self, windows: Tensor) -> Tensor:
        try:
            return self._predict(windows)
        except torch.OutOfMemoryError as error:
            if len(windows) == 1:
                raise ModelError(
                    f"the memory of {self._device} does not hold one window of this model",
                    remedy="Close what else uses the device, or pass --device cpu",
                ) from error
        self._halved(len(windows))
        return self(windows)

    def _halved(self, tried: int) -> None:
        """Note that so many were too many; what was kept for them is given back."""
        if self._most is None:
            _log.warning("The memory of %s does not hold %d windows at once; going on with fewer.", self._device, tried)
        self._most = tried // 2
        _give_back()


def _give_back() -> None:
    """Let go of memory that PyTorch keeps but does not use."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
