"""review.sqlite: who decided what, when and on which mask; entries are added, never changed.

Triggers refuse to change or remove an entry, and every entry holds the digest of the one before it, so that a change
made behind SQLite's back shows (the linked time-stamps of Haber and Stornetta, Journal of Cryptology 3:99, 1991).
``log.head`` beside the log tells how far it reached, so that entries cut off its end show, too. Who may write both
files can write another history: where that matters, keep `AuditLog.head` elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from medseg.errors import InputError, OutputError
from medseg.io.atomic import write_text

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

NAME = "review.sqlite"
HEAD = "log.head"
_SCHEMA_VERSION = 1
_PATIENCE_S = 5.0  # for another reviewer's entry to be written
_START = "0" * 64  # what the first entry holds as the digest before it
Action = Literal["accept", "reject", "fix", "reopen", "save", "recover", "comment", "export"]
ACTIONS: tuple[Action, ...] = get_args(Action)
# REPLACE removes a row and fires no trigger of DELETE (sqlite.org/lang_conflict.html): the last one stands before that.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, case_id TEXT NOT NULL, action TEXT NOT NULL,
    reason TEXT NOT NULL, comment TEXT NOT NULL, seconds REAL NOT NULL, version INTEGER, model_sha256 TEXT NOT NULL,
    mask_before TEXT NOT NULL, mask_after TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_case ON events (case_id, number);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'entries of the log are not changed'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'entries of the log are not removed'); END;
CREATE TRIGGER IF NOT EXISTS in_order BEFORE INSERT ON events
    WHEN NEW.number IS NOT (SELECT COALESCE(MAX(number), 0) + 1 FROM events)
    BEGIN SELECT RAISE(ABORT, 'entries of the log follow each other'); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry: what a person did with a case.

    Attributes
    ----------
    who : str
        The reviewer, as they call themselves.
    case : str
        The case's id; empty where the entry is about the whole folder.
    action : str
        One of `ACTIONS`.
    reason, comment : str
        Why it was rejected; anything else worth keeping. Not the place for a patient's name.
    seconds : float
        Time spent on the case since it was opened or last decided on.
    version : int or None
        The version of the mask that the entry is about.
    model_sha256, mask_before, mask_after : str
        Hashes of the model, and of the mask's file before and after; empty where unknown.
    at : str
        ISO 8601 in UTC; set when the entry is added.
    number : int
        From 1 on; set when the entry is added.
    previous, digest : str
        SHA-256 of the entry before and of this one; set when the entry is added.

    Raises
    ------
    InputError
        Where the action is none, or nobody is named.
    """

    who: str
    case: str
    action: Action
    reason: str = ""
    comment: str = ""
    seconds: float = 0.0
    version: int | None = None
    model_sha256: str = ""
    mask_before: str = ""
    mask_after: str = ""
    at: str = ""
    number: int = 0
    previous: str = field(default="", repr=False)
    digest: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse an entry that says nothing."""
        if self.action not in ACTIONS:
            raise InputError(f"the action is {self.action!r}", expected=f"one of {', '.join(ACTIONS)}")
        if not self.who.strip():
            raise InputError("the reviewer has no name", remedy="Give --reviewer NAME")

    def sealed(self) -> str:
        """Return the SHA-256 of all that the entry says, the digest before it included."""
        plain = asdict(self)
        del plain["digest"]
        text = json.dumps(plain, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


_COLUMNS = tuple("case_id" if f.name == "case" else f.name for f in fields(Event))


class AuditLog:
    """The log of one review folder; several processes may add to it in turn. Use it as a context manager.

    Threads may share it, one call at a time.

    Parameters
    ----------
    folder : Path
        The review folder; the log is made where there is none.

    Raises
    ------
    OutputError
        Where the file is damaged, held by another for long, or of another version.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder, AuditLog(pathlib.Path(folder)) as log:
    ...     _ = log.add(Event(who="ada", case="ct-1", action="reject", reason="wrong organ"))
    ...     [event.reason for event in log.events()], log.verify()
    (['wrong organ'], '')
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        try:
            self._connection = sqlite3.connect(
                self._path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous=FULL")  # an entry that was added survives a power cut
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._connection.executescript(_SCHEMA)
                self._connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if version not in (0, _SCHEMA_VERSION):
            raise OutputError(f"the log has version {version}", expected=str(_SCHEMA_VERSION), where=str(self._path))

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, event: Event) -> Event:
        """Add an entry and return it with its number, time and digest; a crash cannot lose it afterwards.

        Raises
        ------
        OutputError
            Where it cannot be written.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                added = _linked(event, self._last())
                row = [getattr(added, f.name) for f in fields(Event)]
                marks = ", ".join("?" * len(row))
                self._connection.execute(f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({marks})", row)  # noqa: S608 - our own names
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        write_text(self._path.with_name(HEAD), f"{added.number} {added.digest}\n")
        return added

    def events(self, case: str | None = None) -> list[Event]:
        """Return all entries in order, or those of one case."""
        where, values = ("", ()) if case is None else (" WHERE case_id = ?", (case,))
        return [_event(row) for row in self._rows(f"{where} ORDER BY number", values)]

    def head(self) -> tuple[int, str]:
        """Return how many entries there are, and the digest of the last one: keep it elsewhere to prove the log."""
        last = self._last()
        return (last.number, last.digest) if last else (0, _START)

    def verify(self) -> str:
        """Return what shows that the log was tampered with, as a sentence; empty where nothing does."""
        before = _START
        events = self.events()
        for position, event in enumerate(events, start=1):
            if event.number != position:
                return f"entry {position} is missing."
            if event.previous != before or event.digest != event.sealed():
                return f"entry {position} is not what was written."
            before = event.digest
        return _cut_off(self._path.with_name(HEAD), events)

    def _last(self) -> Event | None:
        rows = self._rows(" ORDER BY number DESC LIMIT 1", ())
        return _event(rows[0]) if rows else None

    def _rows(self, condition: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        statement = f"SELECT {', '.join(_COLUMNS)} FROM events{condition}"  # noqa: S608 - our own names
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> OutputError:
        return OutputError(
            f"the log of the review cannot be used ({error})",
            where=str(self._path),
            remedy="Close other programs that hold it, or bring it back from a copy",
        )


def _linked(event: Event, last: Event | None) -> Event:
    """Return the entry as it follows the last one."""
    plain = asdict(event) | {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seconds": round(float(event.seconds), 1),
        "number": last.number + 1 if last else 1,
        "previous": last.digest if last else _START,
        "digest": "",
    }
    return Event(**plain | {"digest": Event(**plain).sealed()})


def _event(row: tuple[Any, ...]) -> Event:
    return Event(**{f.name: value for f, value in zip(fields(Event), row, strict=True)})


def _cut_off(head: Path, events: list[Event]) -> str:
    """Return whether the log once was longer, or another; it may be one entry ahead of its head after a crash."""
    if not events and not head.exists():
        return ""
    try:
        number, digest = head.read_text(encoding="utf-8").split()
        reached = int(number)
    except (OSError, ValueError):
        return f"{HEAD} is missing or damaged."
    if reached > len(events):
        return f"the log had {reached} entries, and has {len(events)}."
    if reached < 1 or events[reached - 1].digest != digest:
        return f"entry {reached} is not the one that {HEAD} names."
    return ""
