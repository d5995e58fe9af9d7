"""Structures laid over one another on a grid: which of them hold each voxel, and the label that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.volume import Segmentation, id_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.rois import RoiRules

_MOST_SETS = np.iinfo(np.uint16).max


class Cover:
    """For every voxel, the set of structures it lies in: one number per set that occurs.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> cover = Cover(Geometry((1, 1, 3), np.eye(4)))
    >>> cover.add(0, np.array([[[True, True, False]]]))
    >>> cover.add(1, np.array([[[False, True, True]]]))
    >>> cover.sets, cover.numbers_zyx.tolist()
    (((), (0,), (1,), (0, 1)), [[[1, 3, 2]]])
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.numbers_zyx = np.zeros(geometry.shape, np.uint16)
        self._place: dict[tuple[int, ...], int] = {(): 0}

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of structures that were met, by number; each rising."""
        return tuple(self._place)

    def add(self, structure: int, inside: NDArray[np.bool_], *, window: NDArray[np.uint16] | None = None) -> None:
        """Put a structure where `inside` is true, on the whole grid or in a `window` of `numbers_zyx` (a view).

        Raises
        ------
        InputError
            Where structures overlap in more ways than there are numbers.
        """
        numbers = self.numbers_zyx if window is None else window
        before = numbers[inside]
        found = np.flatnonzero(np.bincount(before)) if before.size else before
        after = np.zeros(int(found[-1]) + 1 if len(found) else 1, np.uint16)
        known = self.sets
        for number in found.tolist():
            after[number] = self._number(tuple(sorted({*known[number], structure})))
        numbers[inside] = after[before]

    def labelled(self, rules: RoiRules, names: Sequence[str], taken: Sequence[tuple[int, int]]) -> Segmentation:
        """Return the mask that the rules make of the sets.

        Parameters
        ----------
        rules : RoiRules
            What a voxel in several structures is.
        names : sequence of str
            Of all structures.
        taken : sequence of (int, int)
            Structure and its rule, as `RoiRules.assign` gives them.

        Raises
        ------
        InputError
            Where the rules do not say what a voxel is, with the number of such voxels.
        """
        place = {structure: (n, rule) for n, (structure, rule) in enumerate(taken)}
        table = np.zeros(len(self._place), id_type(rules.labels))
        voxels = self._voxels()
        for number, members in enumerate(self.sets):
            if number and voxels[number]:
                ordered = sorted(members, key=lambda structure: place[structure][0])
                try:
                    table[number] = rules.label_of([place[m][1] for m in ordered], [names[m] for m in ordered])
                except InputError as error:
                    raise _counted(error, int(voxels[number])) from error
        return Segmentation(table[self.numbers_zyx], self.geometry, rules.labels)

    def _number(self, members: tuple[int, ...]) -> int:
        number = self._place.setdefault(members, len(self._place))
        if number > _MOST_SETS:
            raise InputError("the structures overlap in more ways than can be told apart")
        return number

    def _voxels(self) -> NDArray[Any]:
        """Return the number of voxels of each set, counted slice by slice."""
        total = np.zeros(len(self._place), np.int64)
        for slice_yx in self.numbers_zyx:
            total += np.bincount(slice_yx.ravel(), minlength=len(total))
        return total


def _counted(error: InputError, voxels: int) -> InputError:
    found = f"{error.found} ({voxels} voxel{'s' if voxels > 1 else ''})"
    return InputError(found, expected=error.expected, where=error.where, remedy=error.remedy, code=error.code)
