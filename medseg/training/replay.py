"""Replay: a share of the patches from cases learned before, so that what they taught is not lost.

A network that goes on learning from new cases alone forgets old ones (catastrophic forgetting, French 1999); showing it
some of the old ones beside the new is the plainest remedy, and a strong one (rehearsal, Robins 1995; Rolnick 2019,
arXiv:1811.11682).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.training.feed import Sampler


class ReplaySampler:
    """Draws from two samplers, and from the old one just its share of all patches so far, rounded down.

    Parameters
    ----------
    new, old : Sampler
        Give patches of one size, of the same channels and labels.
    share : float
        Of the patches that come from `old`, in (0, 1).

    Examples
    --------
    Of eight patches in batches of two, a quarter: every fourth is an old one, the last of its batch.

    >>> class Numbers:
    ...     def __init__(self, value):
    ...         self.value = value
    ...     def draw(self, n):
    ...         return torch.full((n, 1), self.value), torch.full((n,), self.value)
    >>> sampler = ReplaySampler(Numbers(0), Numbers(1), share=0.25)
    >>> [sampler.draw(2)[1].tolist() for _ in range(4)]
    [[0, 0], [0, 1], [0, 0], [0, 1]]
    """

    def __init__(self, new: Sampler, old: Sampler, *, share: float) -> None:
        self._new, self._old, self._share = new, old, share
        self._drawn = 0

    def draw(self, n: int, /) -> tuple[Tensor, Tensor]:
        """Return the next `n` patches, old ones last."""
        olds = int((self._drawn + n) * self._share) - int(self._drawn * self._share)
        self._drawn += n
        parts = [sampler.draw(count) for sampler, count in ((self._new, n - olds), (self._old, olds)) if count]
        kind = torch.promote_types(parts[0][1].dtype, parts[-1][1].dtype)
        return torch.cat([image for image, _ in parts]), torch.cat([label.to(kind) for _, label in parts])

    def state_dict(self) -> dict[str, Any]:
        """Return where both samplers stand."""
        return {"drawn": self._drawn, "new": self._new.state_dict(), "old": self._old.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go where `state` stood.

        Raises
        ------
        InputError
            Where it is of a run without replay.
        """
        if "old" not in state:
            raise InputError("the checkpoint is of a run without replay", remedy="Resume it without --replay")
        self._drawn = int(state["drawn"])
        self._new.load_state_dict(state["new"])
        self._old.load_state_dict(state["old"])
