"""The queue: what is left to judge, the least confident case first. Statuses come from the audit log alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from medseg.review.cases import ReviewCase
    from medseg.review.log import Event

Status = Literal["open", "accepted", "rejected", "fixed"]
STATUSES: tuple[Status, ...] = get_args(Status)
_STATUS_OF: dict[str, Status] = {"accept": "accepted", "reject": "rejected", "fix": "fixed", "reopen": "open"}
MASK_CHANGED = "mask-changed"
"""The flag of a case whose mask was predicted anew after it was decided on: it is open again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One case and what became of it.

    Attributes
    ----------
    case : ReviewCase
    status : {"open", "accepted", "rejected", "fixed"}
    version : int
        The version of the mask that was decided on; 0 while open.
    reason, comment : str
        What the reviewer said.
    who, at : str
        Who decided, and when.
    seconds : float
        Spent on the case by all reviewers.
    flags : tuple of str
        The case's, and ``mask-changed``.
    """

    case: ReviewCase
    status: Status = "open"
    version: int = 0
    reason: str = ""
    comment: str = ""
    who: str = ""
    at: str = ""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as ``medseg review --status --json`` prints them."""
        return {
            "id": self.case.id,
            "status": self.status,
            "confidence": self.case.confidence,
            "flags": list(self.flags),
            "version": self.version,
            "reason": self.reason,
            "comment": self.comment,
            "who": self.who,
            "at": self.at,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True, slots=True)
class Queue:
    """All cases of a review, in the order they should be looked at.

    Cases without a confidence stand first where others have one (the model found nothing at all), then by rising
    confidence; of equal ones, that with more flags first, then by id.

    Examples
    --------
    >>> from pathlib import Path
    >>> from medseg.labels import LabelSet
    >>> from medseg.review.cases import ReviewCase
    >>> from medseg.review.log import Event
    >>> def case(name, confidence):
    ...     return ReviewCase(name, (), Path(name), LabelSet(()), confidence)
    >>> done = [Event(who="ada", case="b", action="accept")]
    >>> queue = Queue.of([case("a", 0.9), case("b", 0.5), case("c", 0.7)], done)
    >>> [(entry.case.id, entry.status) for entry in queue]
    [('b', 'accepted'), ('c', 'open'), ('a', 'open')]
    >>> queue.next("c").case.id, queue.next("a").case.id, queue.first().case.id
    ('a', 'c', 'c')
    """

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, cases: Iterable[ReviewCase], events: Iterable[Event]) -> Queue:
        """Return the queue of these cases after these entries of the log."""
        of_case: dict[str, list[Event]] = {}
        for event in events:
            of_case.setdefault(event.case, []).append(event)
        entries = (_entry(case, of_case.get(case.id, [])) for case in cases)
        return cls(tuple(sorted(entries, key=_urgency)))

    def first(self) -> Entry:
        """Return the first open case; the first of all where none is open."""
        return next((entry for entry in self.entries if entry.status == "open"), self.entries[0])

    def next(self, case: str, *, step: int = 1, only_open: bool = True) -> Entry:
        """Return the case after this one, or with `step` -1 the one before; round the end, back to itself at last.

        Parameters
        ----------
        case : str
            Where to start from.
        step : 1 or -1
            In which direction.
        only_open : bool
            Whether to pass over cases that are decided.

        Raises
        ------
        InputError
            Where there is no such case.
        """
        here = self.entries.index(self.get(case))
        count = len(self.entries)
        round_trip = [self.entries[(here + step * n) % count] for n in range(1, count + 1)]
        return next((entry for entry in round_trip if entry.status == "open" or not only_open), self.entries[here])

    def get(self, case: str) -> Entry:
        """Return a case by its id.

        Raises
        ------
        InputError
            Where there is no such case.
        """
        for entry in self.entries:
            if entry.case.id == case:
                return entry
        raise InputError(f"there is no case {case!r}", expected=f"one of {self._some()}")

    @property
    def counts(self) -> dict[str, int]:
        """How many cases have which status."""
        return {status: sum(entry.status == status for entry in self.entries) for status in STATUSES}

    def _some(self) -> str:
        ids = [entry.case.id for entry in self.entries[:4]]
        return ", ".join(ids) + (" ..." if len(self.entries) > len(ids) else "")

    def __iter__(self) -> Iterator[Entry]:
        """Iterate in the order of the queue."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.entries)


def _entry(case: ReviewCase, events: list[Event]) -> Entry:
    seconds = sum(event.seconds for event in events)
    decision = next((event for event in reversed(events) if event.action in _STATUS_OF), None)
    if decision is None or decision.action == "reopen":
        return Entry(case, seconds=seconds, flags=case.flags)
    known = (case.mask_sha256, decision.mask_after)
    if not decision.version and all(known) and known[0] != known[1]:
        return Entry(case, seconds=seconds, flags=(*case.flags, MASK_CHANGED))
    return Entry(
        case,
        status=_STATUS_OF[decision.action],
        version=decision.version or 0,
        reason=decision.reason,
        comment=decision.comment,
        who=decision.who,
        at=decision.at,
        seconds=seconds,
        flags=case.flags,
    )


def _urgency(entry: Entry) -> tuple[float, int, str]:
    confidence = -1.0 if entry.case.confidence is None else entry.case.confidence
    return confidence, -len(entry.flags), entry.case.id
