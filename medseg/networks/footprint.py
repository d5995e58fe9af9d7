"""The memory a network's features take while it runs, found on one pass over an image that takes none."""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medseg import networks

if TYPE_CHECKING:
    from medseg.plan import NetworkSpec


@lru_cache(maxsize=64)
def peak_features(spec: NetworkSpec, shape: tuple[int, ...], out_channels: int) -> int:
    """Return the most numbers that the features of a network hold at any time while it predicts.

    Every tensor an operation makes is counted from its making to the moment nothing refers to it. Libraries may
    rearrange a convolution's input and output for themselves; so the largest tensor counts once more.

    Parameters
    ----------
    spec : NetworkSpec
        Any network.
    shape : tuple of int
        Of the windows, (N, C, *spatial).
    out_channels : int
        Classes, background included.

    Examples
    --------
    >>> from medseg.plan import UNetSpec
    >>> spec = UNetSpec(dimensions=2, features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)))
    >>> one, two = (peak_features(spec, (n, 1, 16, 16), 3) for n in (1, 2))
    >>> two == 2 * one > 4 * 16 * 16
    True
    """
    network = networks.blueprint(spec, shape[1], out_channels).to("meta").eval()
    with _Ledger() as ledger, torch.no_grad():
        network(torch.empty(shape, device="meta"))
    return int(ledger.peak + ledger.largest)


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    """Adds up the numbers of all tensors alive that were made under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self.largest = self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, numbers = storage._cdata, storage.nbytes() // tensor.element_size()
        if key in self._known:
            return
        self._known.add(key)
        self._alive += numbers
        self.largest = max(self.largest, numbers)
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._forget, key, numbers)

    def _forget(self, key: int, numbers: int) -> None:
        self._known.discard(key)
        self._alive -= numbers
