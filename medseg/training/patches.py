"""Patches drawn from prepared cases, rare structures no less often than common ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.plan import TrainPlan
    from medseg.training.store import PreparedCase

Corner = tuple[int, ...]


class PatchSampler:
    """Draws random patches of prepared cases; a part of every batch is centred on foreground.

    Cases come in a random order, each once before any comes again. For the part ``foreground_fraction`` of a batch,
    rounded but at least one patch (nnU-Net's rule, Isensee 2021), a label that the case has is chosen, each as likely
    as the other, and one of its voxels is put into the patch's middle, as far as the image's edge allows.

    Images smaller than a patch stand in its middle, surrounded by 0 (a typical value, after normalisation) and
    background.

    Parameters
    ----------
    cases : iterable of PreparedCase
        Such as a `PreparedStore`.
    plan : TrainPlan
        Says patch size and foreground fraction.
    seed : int
        The same seed draws the same patches.
    extract_size : sequence of int, optional
        A larger (Z, Y, X) size to cut around each patch, room for augmentation to turn it in; the patch's by default.

    Raises
    ------
    PlanError
        Where there is no case, or `extract_size` does not hold the patch.
    """

    def __init__(
        self, cases: Iterable[PreparedCase], plan: TrainPlan, *, seed: int, extract_size: Sequence[int] | None = None
    ) -> None:
        self._cases = tuple(cases)
        self._patch = plan.patch_size
        self._extract = tuple(extract_size or plan.patch_size)
        self._fraction = plan.foreground_fraction
        self._rng = np.random.default_rng(seed)
        self._order: list[int] = []
        if not self._cases:
            raise PlanError("there is no case to draw patches from")
        if len(self._extract) != 3 or any(e < p for e, p in zip(self._extract, self._patch, strict=True)):
            raise PlanError(f"patches of {self._patch} do not fit into cuts of {self._extract}")

    def draw(self, n: int, /) -> tuple[Tensor, Tensor]:
        """Return the next `n` patches.

        Returns
        -------
        tuple of Tensor
            Images, float32 (N, C, *extract_size), and classes, uint8 or int32 (N, *extract_size).
        """
        foreground = self._foreground_count(n)
        pairs = [self._one(on_foreground=i >= n - foreground) for i in range(n)]
        return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands, as plain numbers and words."""
        state = self._rng.bit_generator.state
        words = {key: str(value) for key, value in state["state"].items()}  # 128-bit numbers
        return {
            "kind": state["bit_generator"],
            "state": words,
            "has_uint32": int(state["has_uint32"]),
            "uinteger": int(state["uinteger"]),
            "order": list(self._order),
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go where `state` stood; the patches that followed there follow here.

        Raises
        ------
        PlanError
            Where the state is of other cases.
        """
        order = [int(i) for i in state["order"]]
        if order and max(order) >= len(self._cases):
            raise PlanError("the sampler's state belongs to another set of cases", expected=f"{len(self._cases)} cases")
        self._rng.bit_generator.state = {
            "bit_generator": state["kind"],
            "state": {key: int(word) for key, word in state["state"].items()},
            "has_uint32": int(state["has_uint32"]),
            "uinteger": int(state["uinteger"]),
        }
        self._order = order

    def _foreground_count(self, n: int) -> int:
        if self._fraction == 0:
            return 0
        if n == 1:
            return int(self._rng.random() < self._fraction)
        return max(1, round(n * self._fraction))

    def _one(self, *, on_foreground: bool) -> tuple[Tensor, Tensor]:
        if not self._order:
            self._order = self._rng.permutation(len(self._cases)).tolist()
        case = self._cases[self._order.pop()]
        corner = self._corner(case, on_foreground=on_foreground)
        margin = [(e - p) // 2 for e, p in zip(self._extract, self._patch, strict=True)]
        start = [c - m for c, m in zip(corner, margin, strict=True)]
        image = np.stack([_cut(channel, start, self._extract) for channel in case.image_czyx])
        label = _cut(case.label_zyx, start, self._extract)
        return torch.from_numpy(image), torch.from_numpy(label if label.dtype == np.uint8 else label.astype(np.int32))

    def _corner(self, case: PreparedCase, *, on_foreground: bool) -> Corner:
        """Return the first voxel of a patch, before the image's where the image is the smaller one."""
        centre = self._foreground_voxel(case) if on_foreground else None
        corner = []
        for axis, (side, n) in enumerate(zip(self._patch, case.shape, strict=True)):
            if n <= side:
                corner.append((n - side) // 2)
            elif centre is None:
                corner.append(int(self._rng.integers(n - side + 1)))
            else:
                corner.append(min(max(0, int(centre[axis]) - side // 2), n - side))
        return tuple(corner)

    def _foreground_voxel(self, case: PreparedCase) -> NDArray[np.int32] | None:
        if not case.classes:
            return None
        voxels = case.foreground[case.classes[int(self._rng.integers(len(case.classes)))]]
        voxel: NDArray[np.int32] = voxels[int(self._rng.integers(len(voxels)))]
        return voxel


def _cut(array_zyx: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """Return a block as a new array; what lies outside is 0."""
    block = np.zeros(size, dtype=array_zyx.dtype)
    source, target = [], []
    for first, side, n in zip(start, size, array_zyx.shape, strict=True):
        low, high = max(0, first), min(n, first + side)
        source.append(slice(low, max(low, high)))
        target.append(slice(low - first, max(low, high) - first))
    block[tuple(target)] = array_zyx[tuple(source)]
    return block
