"""What happened to a fold, one JSON object a line: ``log.jsonl``."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medseg.errors import OutputError
from medseg.io.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

BEGIN, EPOCH, END = "begin", "epoch", "end"


class EventLog:
    """A file of lines, each an event with its time, its epoch and what belongs to it.

    A line is appended and flushed to the disk. One that was cut off by a crash is dropped when the file is opened
    again, and so are the events of epochs later than the checkpoint.

    Parameters
    ----------
    path : Path
        The file; its folder is made.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = EventLog(pathlib.Path(folder) / "log.jsonl")
    ...     log.add("epoch", 1, {"loss": 0.5})
    ...     [(event["event"], event["loss"]) for event in log.read()]
    [('epoch', 0.5)]
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, event: str, epoch: int, values: Mapping[str, Any]) -> None:
        """Append one event.

        Raises
        ------
        OutputError
            Where the file cannot be written.
        """
        self._make_folder()
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(_line(event, epoch, values))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"the log cannot be written ({error.strerror})", where=str(self._path)) from error

    def _make_folder(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the log cannot be written ({error.strerror})", where=str(self._path)) from error

    def read(self) -> list[dict[str, Any]]:
        """Return the events; none where there is no file, and none of a line that is not whole."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [event for line in text.split("\n") if (event := _event(line)) is not None]

    def go_back(self, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Keep what happened up to the last of the `epochs` a checkpoint knows; add those whose line was never written.

        Raises
        ------
        OutputError
            Where the file cannot be written.
        """
        self._make_folder()
        known = {int(epoch["epoch"]): epoch for epoch in epochs}
        last = max(known, default=0)
        kept = [event for event in self.read() if event["epoch"] <= last]
        written = {event["epoch"] for event in kept if event["event"] == EPOCH}
        lines = [json.dumps(event, allow_nan=False) + "\n" for event in kept]
        lines += [_line(EPOCH, number, values) for number, values in known.items() if number not in written]
        write_text(self._path, "".join(lines))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what differs between two nested documents: old and new value under each dotted name.

    Examples
    --------
    >>> differences({"train": {"epochs": 2, "seed": 0}}, {"train": {"epochs": 3, "seed": 0}})
    {'train.epochs': [2, 3]}
    """
    old, new = flat(before), flat(after)
    names = [*new, *(name for name in old if name not in new)]
    return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested document under dotted names."""
    values: dict[str, Any] = {}
    for name, value in document.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return values


def _line(event: str, epoch: int, values: Mapping[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"event": event, "time": now, **values, "epoch": epoch}, allow_nan=False) + "\n"


def _event(line: str) -> dict[str, Any] | None:
    """Return the event of a line; None where it is empty, cut off, or something else."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(event, dict) and isinstance(event.get("epoch"), int) and isinstance(event.get("event"), str)
    return event if whole else None
