"""Patches drawn from prepared cases, rare structures no less often than common ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.errors import PlanError
from medseg.labels import IGNORED

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
    background; where the data set has voxels to be ignored, by such.

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
        self._channels = len(self._cases[0].image_czyx)
        stored = self._cases[0].label_zyx.dtype
        self._label_type = stored if stored in (np.uint8, np.int16) else np.dtype(np.int32)
        self._outside = IGNORED if stored == np.int16 else 0
        if len(self._extract) != 3 or any(e < p for e, p in zip(self._extract, self._patch, strict=True)):
            raise PlanError(f"patches of {self._patch} do not fit into cuts of {self._extract}")

    def draw(self, n: int, /) -> tuple[Tensor, Tensor]:
        """Return the next `n` patches.

        Returns
        -------
        tuple of Tensor
            Images, float32 (N, C, *extract_size), and classes, uint8, int32, or int16 where voxels may be ignored
            (-1), (N, *extract_size).
        """
        foreground = self._foreground_count(n)
        images = np.zeros((n, self._channels, *self._extract), dtype=np.float32)
        labels = np.full((n, *self._extract), self._outside, dtype=self._label_type)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            self._fill(image, label, on_foreground=i >= n - foreground)
        return torch.from_numpy(images), torch.from_numpy(labels)

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

    def _fill(self, image_czyx: NDArray[Any], label_zyx: NDArray[Any], *, on_foreground: bool) -> None:
        """Write the next patch into arrays that hold what is outside of images."""
        if not self._order:
            self._order = self._rng.permutation(len(self._cases)).tolist()
        case = self._cases[self._order.pop()]
        corner = self._corner(case, on_foreground=on_foreground)
        margin = [(e - p) // 2 for e, p in zip(self._extract, self._patch, strict=True)]
        start = [c - m for c, m in zip(corner, margin, strict=True)]
        source, target = _overlap(start, self._extract, case.shape)
        image_czyx[(slice(None), *target)] = case.image_czyx[(slice(None), *source)]
        label_zyx[target] = case.label_zyx[source]

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


def _overlap(
    start: Sequence[int], size: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of an image a block covers, as an index into the image and one into the block."""
    low = [max(0, first) for first in start]
    high = [max(a, min(n, first + side)) for a, first, side, n in zip(low, start, size, shape, strict=True)]
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a - first, b - first) for a, b, first in zip(low, high, start, strict=True))
    return source, target
