"""journal.sqlite: what is finished in an output folder, so that an interrupted batch goes on where it stopped."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from medseg.errors import OutputError

if TYPE_CHECKING:
    from types import TracebackType

NAME = "journal.sqlite"
_SCHEMA_VERSION = 1
_PATIENCE_S = 2.0  # for another run to let go
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cases (
    id TEXT PRIMARY KEY, status TEXT NOT NULL, input_sha256 TEXT NOT NULL, model_sha256 TEXT NOT NULL,
    asked TEXT NOT NULL, record TEXT NOT NULL
) WITHOUT ROWID;
"""
# File systems between machines: SQLite's write-ahead log needs memory shared by all its readers (sqlite.org/wal.html).
_REMOTE = ("nfs", "cifs", "smb", "fuse", "lustre", "gpfs", "beegfs", "ceph", "gluster", "9p", "afs", "webdav")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal keeps of a case.

    Attributes
    ----------
    id, status : str
    input_sha256, model_sha256 : str
        What it was made from.
    asked : str
        `BatchOptions.fingerprint`.
    record : dict
        The case's entry in the manifest.
    """

    id: str
    status: str
    input_sha256: str
    model_sha256: str
    asked: str
    record: dict[str, Any]


class Journal:
    """The journal of one output folder, held by one run at a time; use it as a context manager.

    Parameters
    ----------
    folder : Path
        The output folder; the journal is made where there is none.
    afresh : bool
        Whether to forget what is in it, also where it is damaged.

    Raises
    ------
    OutputError
        Where the file is damaged, held by another run, or of another version.
    """

    def __init__(self, folder: Path, *, afresh: bool = False) -> None:
        self._path = folder / NAME
        try:
            self._connection = _opened(self._path)
        except sqlite3.Error as error:
            if not afresh or isinstance(error, sqlite3.OperationalError):  # operational: locked, or no room
                raise self._unusable(error) from error
            self._path.unlink()
            self._connection = _opened(self._path)
        if afresh:
            self._run("DELETE FROM cases", ())
            self._run("DELETE FROM facts", ())

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._connection.close()

    def fact(self, name: str) -> Any:
        """Return what was noted about the whole folder, or None."""
        rows = self._run("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def note(self, name: str, value: Any) -> None:
        """Note a plain value about the whole folder."""
        self._run("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def entry(self, case_id: str) -> Entry | None:
        """Return what is known of a case, or None."""
        rows = self._run("SELECT status, input_sha256, model_sha256, asked, record FROM cases WHERE id = ?", (case_id,))
        if not rows:
            return None
        status, input_sha256, model_sha256, asked, record = rows[0]
        return Entry(case_id, status, input_sha256, model_sha256, asked, json.loads(record))

    def record(self, entry: Entry) -> None:
        """Note a case; when this returns, a crash cannot lose it."""
        values = (entry.id, entry.status, entry.input_sha256, entry.model_sha256, entry.asked)
        self._run("INSERT OR REPLACE INTO cases VALUES (?, ?, ?, ?, ?, ?)", (*values, json.dumps(entry.record)))

    def _run(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> OutputError:
        return OutputError(
            f"the journal cannot be used ({error})",
            where=str(self._path),
            remedy="End other runs on this folder, or start again with --overwrite",
        )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # until the connection is closed
        connection.execute(f"PRAGMA journal_mode={'DELETE' if is_remote(path.parent) else 'WAL'}")
        connection.execute("PRAGMA synchronous=FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _SCHEMA_VERSION):
            raise OutputError(f"the journal has version {version}", expected=str(_SCHEMA_VERSION), where=str(path))
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")  # a write: it takes the lock
    except (sqlite3.Error, OutputError):
        connection.close()
        raise
    return connection


def is_remote(folder: Path) -> bool:
    """Tell whether a folder lies on a file system shared between machines, as far as the system says.

    Examples
    --------
    >>> import tempfile
    >>> is_remote(Path(tempfile.gettempdir())) in (True, False)
    True
    """
    place = folder.resolve()
    if place.drive.startswith("\\\\"):
        return True
    mounts = {Path(p.mountpoint): p.fstype.lower() for p in psutil.disk_partitions(all=True)}
    nearest = next((parent for parent in (place, *place.parents) if parent in mounts), None)
    return nearest is not None and mounts[nearest].startswith(_REMOTE)
