from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from medseg.batch.journal import NAME, Entry, Journal, is_remote
from medseg.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


def entry(case_id: str = "a", status: str = "done") -> Entry:
    return Entry(case_id, status, "1" * 64, "2" * 64, "asked", {"id": case_id, "labels": [1, 2.5, None]})


def test_what_is_recorded_is_there_after_reopening(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(entry("a"))
        journal.record(entry("b", "failed"))
        journal.record(entry("b"))
        journal.note("path", {"x": [1]})
        assert journal.entry("c") is None
        assert journal.fact("nothing") is None
    with Journal(tmp_path) as journal:
        assert journal.entry("a") == entry("a")
        assert journal.entry("b") == entry("b")
        assert journal.fact("path") == {"x": [1]}
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(("system", "mode"), [("ext4", "wal"), ("nfs4", "delete"), ("cifs", "delete")])
def test_the_log_is_ahead_of_writing_on_local_disks_only(
    system: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path.resolve()), fstype=system),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    assert is_remote(tmp_path / "out") is (mode == "delete")
    (tmp_path / "out").mkdir()
    with Journal(tmp_path / "out") as journal:
        journal.record(entry())
    connection = sqlite3.connect(tmp_path / "out" / NAME)
    assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
    connection.close()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"this is not a database, and long enough to be looked at" * 50)
    with pytest.raises(OutputError, match=r"journal cannot be used.*--overwrite"):
        Journal(tmp_path)


def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(OutputError, match="version 9; expected 1"):
        Journal(tmp_path)


def test_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.batch.journal._PATIENCE_S", 0.01)
    with Journal(tmp_path) as journal:
        journal.record(entry())
        for afresh in (False, True):
            with pytest.raises(OutputError, match=r"locked.*End other runs"):
                Journal(tmp_path, afresh=afresh)
    with Journal(tmp_path) as journal:
        assert journal.entry("a") == entry()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_fresh_journal_forgets(damaged: bool, tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(entry())
        journal.note("x", 1)
    if damaged:
        (tmp_path / NAME).write_bytes(b"no database " * 1000)
    with Journal(tmp_path, afresh=True) as journal:
        assert journal.entry("a") is None
        assert journal.fact("x") is None
        journal.record(entry())
    with Journal(tmp_path) as journal:
        assert journal.entry("a") == entry()
