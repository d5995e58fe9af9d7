"""Patches drawn from prepared cases, rare structures no less often than common ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from medseg.errors import InputError, PlanError
from medseg.labels import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.plan import TrainPlan
    from medseg.training.store import PreparedCase

Corner = tuple[int, ...]


class Cut(NamedTuple):
    """Which patch of which case: a few numbers, whatever the patch weighs.

    Attributes
    ----------
    case : int
        The case's place among those of the sampler.
    corner : tuple of int
        (Z, Y, X) index of the patch's first voxel, negative where the image is smaller than the patch.
    """

    case: int
    corner: Corner


@dataclass(frozen=True, slots=True)
class Cutter:
    """Reads patches from the memory maps of prepared cases: only the pages that hold them. Another process may, too.

    Attributes
    ----------
    cases : tuple of PreparedCase
        Where patches come from.
    patch, extract : tuple of int
        (Z, Y, X) sizes of the patch, and of what is cut around it.
    channels : int
        Of the images.
    label_type : dtype
        Of the classes given: uint8, int32, or int16 where voxels may be ignored.
    outside : int
        The class of what lies outside of an image.
    """

    cases: tuple[PreparedCase, ...]
    patch: tuple[int, ...]
    extract: tuple[int, ...]
    channels: int
    label_type: np.dtype[Any]
    outside: int

    def __call__(self, cut: Cut) -> tuple[Tensor, Tensor]:
        """Return image, float32 (C, *extract), and classes (*extract) of a patch.

        Raises
        ------
        InputError
            Where the case's files cannot be read any more.
        """
        image_czyx = np.zeros((self.channels, *self.extract), dtype=np.float32)
        label_zyx = np.full(self.extract, self.outside, dtype=self.label_type)
        self.fill(image_czyx, label_zyx, cut)
        return torch.from_numpy(image_czyx), torch.from_numpy(label_zyx)

    def fill(self, image_czyx: NDArray[Any], label_zyx: NDArray[Any], cut: Cut) -> None:
        """Write a patch into arrays that hold what is outside of images."""
        case = self.cases[cut.case]
        margin = [(e - p) // 2 for e, p in zip(self.extract, self.patch, strict=True)]
        start = [c - m for c, m in zip(cut.corner, margin, strict=True)]
        source, target = _overlap(start, self.extract, case.shape)
        try:
            image_czyx[(slice(None), *target)] = case.image_czyx[(slice(None), *source)]
            label_zyx[target] = case.label_zyx[source]
        except (OSError, EOFError, ValueError) as error:
            raise _unreadable(case, error) from error


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
        extract = tuple(extract_size or plan.patch_size)
        self._fraction = plan.foreground_fraction
        self._rng = np.random.default_rng(seed)
        self._order: list[int] = []
        if not self._cases:
            raise PlanError("there is no case to draw patches from")
        if len(extract) != 3 or any(e < p for e, p in zip(extract, self._patch, strict=True)):
            raise PlanError(f"patches of {self._patch} do not fit into cuts of {extract}")
        stored = self._cases[0].label_zyx.dtype
        self.cutter = Cutter(
            cases=self._cases,
            patch=self._patch,
            extract=extract,
            channels=len(self._cases[0].image_czyx),
            label_type=stored if stored in (np.uint8, np.int16) else np.dtype(np.int32),
            outside=IGNORED if stored == np.int16 else 0,
        )

    def draw(self, n: int, /) -> tuple[Tensor, Tensor]:
        """Return the next `n` patches.

        Returns
        -------
        tuple of Tensor
            Images, float32 (N, C, *extract_size), and classes, uint8, int32, or int16 where voxels may be ignored
            (-1), (N, *extract_size).
        """
        patches = [self.cutter(cut) for cut in self.choose(n)]
        return torch.stack([image for image, _ in patches]), torch.stack([label for _, label in patches])

    def choose(self, n: int, /) -> tuple[Cut, ...]:
        """Return where the next `n` patches lie, and read none of them."""
        foreground = self._foreground_count(n)
        return tuple(self._next(on_foreground=i >= n - foreground) for i in range(n))

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

    def _next(self, *, on_foreground: bool) -> Cut:
        if not self._order:
            self._order = self._rng.permutation(len(self._cases)).tolist()
        number = self._order.pop()
        return Cut(number, self._corner(self._cases[number], on_foreground=on_foreground))

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
        try:
            voxels = case.foreground[case.classes[int(self._rng.integers(len(case.classes)))]]
        except (OSError, EOFError, ValueError) as error:
            raise _unreadable(case, error) from error
        voxel: NDArray[np.int32] = voxels[int(self._rng.integers(len(voxels)))]
        return voxel


def _unreadable(case: PreparedCase, error: Exception) -> InputError:
    return InputError(
        f"the prepared case cannot be read ({type(error).__name__})",
        expected="its files as they were when training began",
        where=case.id,
        remedy="Leave prepared/ alone while training; go on with --resume, which makes the case again",
    )


def _overlap(
    start: Sequence[int], size: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of an image a block covers, as an index into the image and one into the block."""
    low = [max(0, first) for first in start]
    high = [max(a, min(n, first + side)) for a, first, side, n in zip(low, start, size, shape, strict=True)]
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a - first, b - first) for a, b, first in zip(low, high, start, strict=True))
    return source, target
