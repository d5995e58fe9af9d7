"""review: a queue of masks to judge, its state, two reviewers compared, and what was approved as a training set."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg import review as room
from medseg.errors import InputError, MissingExtraError, OutputError
from medseg.evaluation.pairing import masks_in, named_labels
from medseg.io import read_segmentation
from medseg.progress import Progress, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medseg.volume import Segmentation

_WINDOW = ("napari", "qtpy", "napari_plugin")


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """Who reviews, and where the scans are where the folder under review does not tell."""

    who: str
    images: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ReviewStatus:
    """The queue as it stands, as ``review --status --json`` prints it."""

    queue: room.Queue
    entries: int
    digest: str
    fault: str

    def rows(self) -> list[tuple[object, ...]]:
        """Return the table a person reads: one row per case, in the order of the queue."""
        return [
            (
                e.case.id,
                e.status,
                e.case.confidence,
                ", ".join(e.flags) or "–",
                e.version,
                e.who or "–",
                e.reason or "–",
            )
            for e in self.queue
        ]

    def sentence(self) -> str:
        """Return how many cases have which status, and whether the log is whole."""
        counts = ", ".join(f"{count} {status}" for status, count in self.queue.counts.items())
        return f"{counts}. " + (f"The log was tampered with: {self.fault}" if self.fault else "The log is whole.")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        log = {"entries": self.entries, "digest": self.digest, "whole": not self.fault, "fault": self.fault}
        cases = [entry.to_json() for entry in self.queue]
        return {"schema": 1, "counts": self.queue.counts, "cases": cases, "log": log}


def status(folder: Path, request: ReviewRequest) -> ReviewStatus:
    """Return the queue of a folder under review, and whether its log is whole.

    Raises
    ------
    InputError
        Where there is nothing to review.
    OutputError
        Where the log cannot be used.
    """
    with _desk(folder, request) as desk:
        return ReviewStatus(desk.queue, *desk.head(), desk.verify())


def export_reviewed(
    folder: Path, dataset: Path, request: ReviewRequest, *, progress: Progress = ignore
) -> room.ExportReport:
    """Write the accepted and fixed cases of a review to the folder `dataset` as a training set.

    Raises
    ------
    InputError
        Where no case is accepted or fixed, or one cannot be read.
    OutputError
        Where `dataset` holds something or cannot be written, or the log was tampered with.
    """
    with _desk(folder, request) as desk:
        fault = desk.verify()
        if fault:
            raise OutputError(
                f"the log of the review was tampered with: {fault}",
                where=str(folder),
                remedy="Bring the log back from a copy, or review again",
            )
        return room.export_reviewed(desk, dataset, progress=progress)


def agreement(folder: Path, other: Path, request: ReviewRequest, *, progress: Progress = ignore) -> room.Agreement:
    """Return how far the decided masks of a review agree with those of another, or with a folder of masks.

    Raises
    ------
    InputError
        Where no case is in both, or a mask cannot be read.
    """
    with _desk(folder, request) as desk:
        return room.agreement(desk.decided_masks(), _masks(other, desk.who), progress=progress)


def start_window(folder: Path, request: ReviewRequest) -> int:
    """Open the queue in napari, in a process of its own, wait for its end and return its exit code.

    Raises
    ------
    InputError
        Where there is nothing to review.
    MissingExtraError
        Where napari is not installed.
    """
    missing = [name for name in _WINDOW if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the window of the review needs {missing[0]}, which is not installed",
            remedy="Install the extra 'gui': pip install 'medseg[gui]'; --status, --export and --agreement do without",
        )
    with _desk(folder, request):  # what is wrong is said here, before a window opens
        pass
    command = [sys.executable, "-m", "napari_plugin.review", str(folder), "--reviewer", request.who]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own program, and no shell


@contextmanager
def _desk(folder: Path, request: ReviewRequest) -> Iterator[room.Desk]:
    desk = room.Desk(folder, who=request.who, images=request.images)
    try:
        yield desk
    finally:
        desk.close()


def _masks(other: Path, who: str) -> dict[str, Callable[[], Segmentation]]:
    """Return what another reviewer decided; where a folder holds no review, its masks."""
    if (other / room.REVIEW).is_dir():
        desk = room.Desk(other, who=who)
        masks = desk.decided_masks()
        desk.close()
        if not masks:
            raise InputError("no case of the other review is accepted or fixed", where=str(other))
        return masks
    labels = named_labels(other)
    return {case: _reader(path, labels) for case, path in masks_in(other).items()}


def _or_dash(*words: str) -> str:
    return ", ".join(word for word in words if word) or "–"


def _reader(path: Path, labels: Any) -> Callable[[], Segmentation]:
    return lambda: read_segmentation(path, labels=labels if len(labels) else None)
