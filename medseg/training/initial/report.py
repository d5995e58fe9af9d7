"""What became of weights a training was to start from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medseg.plan import InitialNote

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class InitReport:
    """Which weights were taken, and which were not.

    Attributes
    ----------
    note : InitialNote
        The weights' name and hash.
    matched : tuple of str
        Weights of the network taken as they are.
    adapted : mapping of str to str
        Weights of the network taken after a change, and which.
    fresh : tuple of str
        Weights of the network left as they were drawn.
    unused : tuple of str
        Weights of the file the network has no place for.
    remarks : tuple of str
        What else a person should know.
    is_whole : bool
        Whether every layer was taken, class scores apart: a network that goes on learning, not one that begins.
    """

    note: InitialNote
    matched: tuple[str, ...]
    adapted: Mapping[str, str]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    is_whole: bool = False

    def lines(self) -> tuple[str, ...]:
        """Return a few lines for people.

        Examples
        --------
        >>> from medseg.plan import InitialNote
        >>> note = InitialNote(name="resnet18.pth", sha256="0" * 64)
        >>> fresh = ("classifier.0.weight", "classifier.4.weight")
        >>> for line in InitReport(note, ("encoder.conv1.weight",), {}, fresh, ("fc.bias",)).lines():
        ...     print(line)
        Started from resnet18.pth: 1 of 3 tensors as they are, 0 adapted, 2 left fresh; 1 of the file not used.
        Left fresh: classifier (2).
        Not used: fc (1).
        """
        count = len(self.matched) + len(self.adapted) + len(self.fresh)
        lines = [
            f"Started from {self.note.name}: {len(self.matched)} of {count} tensors as they are, {len(self.adapted)} "
            f"adapted, {len(self.fresh)} left fresh; {len(self.unused)} of the file not used."
        ]
        ways = Counter(self.adapted.values())
        lines += [f"Adapted, {number}: {way}." for way, number in ways.items()]
        lines += [f"Left fresh: {_grouped(self.fresh)}."] if self.fresh else []
        lines += [f"Not used: {_grouped(self.unused)}."] if self.unused else []
        return (*lines, *self.remarks)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, every name in full."""
        return {
            **self.note.model_dump(mode="json"),
            "matched": list(self.matched),
            "adapted": dict(self.adapted),
            "fresh": list(self.fresh),
            "unused": list(self.unused),
            "remarks": list(self.remarks),
        }


def _grouped(names: Iterable[str]) -> str:
    """Return how many names there are of each part of a network, running statistics apart."""
    parts = ("running statistics" if name.endswith(_STATISTICS) else name.partition(".")[0] for name in names)
    return ", ".join(f"{part} ({number})" for part, number in Counter(parts).items())
