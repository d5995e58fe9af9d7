"""Which voxels of references nobody decided on, and what is told of those that were left out unasked."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.case import Case
from medseg.datasets import said_ignore, usual_ignore
from medseg.evaluation.pairing import MASK, masks_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

_UNSAID = 0  # background, which cannot be ignored


class Undecided:
    """The value of undecided voxels in references: of a case that of its data set; else as said, else as usual.

    It is said beside the masks (`medseg.datasets.said_ignore`). What is usual (`medseg.datasets.usual_ignore`) is
    decided once, from the first mask, as in training.

    Parameters
    ----------
    given : Path or mapping of id to Path or Case
        The references.
    labels : collection of int
        Ids that the predictions name, which are never ignored by a guess.
    name : str
        What a mask in a folder of its own is called. What is said is said of labels: in masks of another kind it is
        told, too.
    """

    def __init__(
        self,
        given: Path | Mapping[str, Path] | Mapping[str, Case],
        labels: Collection[int] = (),
        *,
        name: str = MASK,
    ) -> None:
        self._given, self._labels, self._name = given, labels, name
        self._said: dict[Path, int | None] = {}
        self._met: dict[int, int] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Which values were left out, in how many references, and how to have them scored."""
        what = "a label" if self._name == MASK else "an object"
        return tuple(
            f"The value {value} was ignored in {count} reference{'s' * (count > 1)}, as voxels nobody decided on. "
            f"If it is {what}, write 'ignore: none' in labels.yaml."
            for value, count in sorted(self._met.items())
        )

    def value_in(self, case: str, path: Path) -> int | None:
        """Return the value of undecided voxels in a reference; ``None`` where there is none.

        Raises
        ------
        InputError, PlanError
            Where a file that says it cannot be understood.
        """
        one = self._case(case)
        if one is not None:
            return one.ignore
        said = self._beside(path)
        return self._usual if said == _UNSAID else said

    def left_out(self, case: str, path: Path, array: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return where a reference that was read is undecided; ``None`` where it is nowhere. It counts for the notes.

        Parameters
        ----------
        case, path
            Which reference.
        array : integer
            What it holds.
        """
        value = self.value_in(case, path)
        if value is None:
            return None
        there: NDArray[np.bool_] = array == value
        if not there.any():
            return None
        is_said = self._case(case) is not None or self._beside(path) != _UNSAID
        if not is_said or self._name != MASK:
            self._met[value] = self._met.get(value, 0) + 1
        return there

    def _case(self, case: str) -> Case | None:
        one = None if isinstance(self._given, Path) else self._given.get(case)
        return one if isinstance(one, Case) else None

    def _beside(self, path: Path) -> int | None:
        if path.parent not in self._said:
            self._said[path.parent] = said_ignore(path, default=_UNSAID)
        return self._said[path.parent]

    @cached_property
    def _usual(self) -> int | None:
        if isinstance(self._given, Path):
            is_one = self._given.is_file()
            masks = [self._given] if is_one else list(masks_in(self._given, name=self._name).values())
        else:
            masks = [path for path in self._given.values() if isinstance(path, Path)]
        usual = usual_ignore(masks[0]) if masks else None
        return None if usual in self._labels else usual
