"""The data set that a run replays: opened, and refused where the network could not learn from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from medseg.datasets import open_dataset, with_labels
from medseg.errors import PlanError
from medseg.progress import Progress, ignore

if TYPE_CHECKING:
    from medseg.case import Case
    from medseg.labels import LabelSet
    from medseg.plan import Plan

SHARE = 0.25
"""Of the patches, unless told: few enough that the new cases are what is learned."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Where the data set lies, and the share of the patches that come from it; None leaves the share to the rule."""

    path: Path
    share: float | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what ``DATASET[:SHARE]`` means.

        Raises
        ------
        PlanError
            Where the share is not between 0 and 1.

        Examples
        --------
        >>> ReplayRequest.read("old-scans:0.5").share
        0.5
        >>> ReplayRequest.read("old-scans").share is None
        True
        """
        path, colon, tail = text.rpartition(":")
        try:
            share = float(tail) if colon and path else None
        except ValueError:  # a colon of the path itself
            share = None
        if share is None:
            return cls(Path(text))
        if not 0.0 < share < 1.0:
            raise PlanError(f"--replay was given the share {tail}", expected="a number between 0 and 1, such as 0.25")
        return cls(Path(path), share)


def with_replay(plan: Plan, request: ReplayRequest | None, *, begun: bool) -> Plan:
    """Return the plan with the share that is replayed; one of a run that has begun keeps its own.

    Raises
    ------
    PlanError
        Where a run that replays is not told where from, or is told another share, or one that does not is told any.
    """
    noted = plan.train.replay
    if request is None:
        if noted > 0:
            instead = "" if begun else "; or do without: --set train.replay=0"
            raise PlanError(
                f"{noted:g} of the patches come from another data set, as the plan notes, and none was named",
                remedy=f"Name it with --replay DATASET{instead}",
            )
        return plan
    if begun and (noted == 0 or request.share not in {None, noted}):
        raise PlanError(
            "a run that has begun cannot change what it replays",
            expected=f"a share of {noted:g}" if noted else "no --replay",
            remedy="Begin another run (--overwrite, or another folder)",
        )
    share = request.share or noted or SHARE
    return plan.model_copy(update={"train": plan.train.model_copy(update={"replay": share})})


def replay_cases(request: ReplayRequest | None, plan: Plan, *, progress: Progress = ignore) -> tuple[Case, ...]:
    """Return the cases a run replays; none where none were asked for. They are learned from, never validated on.

    Raises
    ------
    InputError
        Where there is no data set.
    PlanError
        Where its labels or channels are not the plan's.
    """
    if request is None:
        return ()
    data = with_labels(open_dataset(request.path), progress=progress)
    checks = (
        ("channels", data.channels or plan.channels, plan.channels),
        ("labels", _in_words(data.labels), _in_words(plan.labels)),
        ("ignored id", (str(data.ignore),), (str(plan.ignore_label),)),
    )
    for name, found, expected in checks:
        if found != expected:
            raise PlanError(
                f"the {name} of the data set to replay: {', '.join(found)}",
                expected=f"those that are trained, {', '.join(expected)}",
                where=str(request.path),
                remedy="Replay a data set with the same labels and channels; labels.yaml beside it can name its labels",
            )
    return tuple(replace(case, ignore=plan.ignore_label) for case in data.cases if case.reference is not None)


def _in_words(labels: LabelSet) -> tuple[str, ...]:
    return tuple(f"{label.id} {label.name}" for label in labels)
