"""How far two reviewers agree: Dice of their masks, by label and case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError, MedsegError
from medseg.progress import Progress, Step, ignore
from medseg.review.versions import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from medseg.volume import Segmentation

ALL = "all"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Dice of two reviewers' masks.

    Attributes
    ----------
    rows : tuple of (case, label, Dice)
        Every label of every case that both have; Dice is ``None`` where neither mask holds the label.
    only_first, only_second : tuple of str
        Cases that only one of them has.
    """

    rows: tuple[tuple[str, str, float | None], ...]
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()

    def means(self) -> dict[str, float | None]:
        """Return the mean Dice by label over cases where it is defined, and over all of these under ``all``.

        Examples
        --------
        >>> Agreement((("a", "liver", 1.0), ("b", "liver", 0.5), ("b", "spleen", None))).means()
        {'liver': 0.75, 'spleen': None, 'all': 0.75}
        """
        of_label: dict[str, list[float]] = {}
        for _, label, dice in self.rows:
            of_label.setdefault(label, []).extend([] if dice is None else [dice])
        everything = [dice for values in of_label.values() for dice in values]
        return {label: _mean(values) for label, values in (of_label | {ALL: everything}).items()}

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as ``medseg review --agreement --json`` prints them."""
        return {
            "schema": 1,
            "cases": [{"id": case, "label": label, "dice": dice} for case, label, dice in self.rows],
            "mean": self.means(),
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
        }


def agreement(
    first: Mapping[str, Callable[[], Segmentation]],
    second: Mapping[str, Callable[[], Segmentation]],
    *,
    progress: Progress = ignore,
) -> Agreement:
    """Return how far the masks of two reviewers agree, case by case; a mask is read when its case is compared.

    Parameters
    ----------
    first, second : mapping of id to a function that reads the mask
        The second's masks are taken onto the first's grids where they lie on others.
    progress : Progress, optional
        Told before each case (stage ``"compare"``); may cancel.

    Raises
    ------
    InputError
        Where no case is in both, or a mask cannot be read.
    """
    both = sorted(first.keys() & second.keys())
    if not both:
        raise InputError("the two reviews have no case in common", expected="masks of the same cases")
    rows: list[tuple[str, str, float | None]] = []
    for number, case in enumerate(both):
        progress(Step("compare", number, len(both), case))
        try:
            dice = compare(first[case](), second[case]()).dice
        except MedsegError as error:
            raise error.at(case) from error
        rows += [(case, label, value) for label, value in dice.items()]
    return Agreement(tuple(rows), tuple(sorted(first.keys() - second)), tuple(sorted(second.keys() - first)))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
