"""The audit log: nothing changes, nothing goes, and what was changed behind its back shows."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from medseg.errors import InputError, OutputError
from medseg.review import AuditLog, Event
from medseg.review.log import HEAD, NAME

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path):
    with AuditLog(tmp_path) as log:
        for n, case in enumerate("abc"):
            log.add(Event(who="ada", case=case, action="accept", seconds=n + 0.5, version=0, mask_after=case * 64))
        yield log


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET who = 'bob' WHERE number = 2",
        "DELETE FROM events WHERE number = 3",
        "DELETE FROM events",
        "REPLACE INTO events SELECT number, at, 'bob', case_id, action, reason, comment, seconds, version,"
        " model_sha256, mask_before, mask_after, previous, digest FROM events WHERE number = 1",
        "INSERT INTO events SELECT 9, at, who, case_id, action, reason, comment, seconds, version, model_sha256,"
        " mask_before, mask_after, previous, digest FROM events WHERE number = 1",
    ],
)
def test_sqlite_itself_refuses_to_change_history(log: AuditLog, tmp_path: Path, statement: str) -> None:
    connection = sqlite3.connect(tmp_path / NAME)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.close()
    assert log.verify() == ""
    assert [event.who for event in log.events()] == ["ada"] * 3


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE events SET reason = 'x' WHERE number = 2", "entry 2 is not what was written"),
        ("UPDATE events SET seconds = 0 WHERE number = 1", "entry 1 is not what was written"),
        ("DELETE FROM events WHERE number = 2", "entry 2 is missing"),
        ("DELETE FROM events WHERE number = 3", "had 3 entries, and has 2"),
        ("DELETE FROM events", "had 3 entries, and has 0"),
    ],
)
def test_tampering_behind_the_triggers_shows(log: AuditLog, tmp_path: Path, statement: str, said: str) -> None:
    connection = sqlite3.connect(tmp_path / NAME)
    for trigger in ("no_update", "no_delete", "in_order"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute(statement)
    connection.commit()
    connection.close()
    assert said in log.verify()


def test_another_head_shows(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / HEAD).write_text(f"3 {'0' * 64}\n")
    assert "not the one" in log.verify()
    (tmp_path / HEAD).unlink()
    assert "missing" in log.verify()


def test_a_crash_between_entry_and_head_is_no_tampering(log: AuditLog, tmp_path: Path) -> None:
    before = (tmp_path / HEAD).read_bytes()
    log.add(Event(who="ada", case="d", action="reject", reason="r"))
    (tmp_path / HEAD).write_bytes(before)
    assert log.verify() == ""


def test_entries_keep_everything(log: AuditLog) -> None:
    added = log.add(
        Event(who="Ünal", case="a", action="reject", reason="wrong side", comment="L/R", seconds=3.26, version=2)
    )
    (found,) = log.events("a")[1:]
    assert found == added
    assert (found.number, found.seconds, found.at[-6:]) == (4, 3.3, "+00:00")
    assert log.head() == (4, found.digest)


def test_two_reviewers_add_at_once(tmp_path: Path) -> None:
    def add(who: str) -> None:
        with AuditLog(tmp_path) as log:
            for n in range(10):
                log.add(Event(who=who, case=str(n), action="accept"))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, ("ada", "bob")))
    with AuditLog(tmp_path) as log:
        assert len(log.events()) == 20
        assert log.verify() == ""


def test_what_is_no_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="action"):
        Event(who="ada", case="a", action="delete")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no name"):
        Event(who=" ", case="a", action="accept")


def test_a_file_that_is_no_log_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(OutputError, match="log of the review cannot be used"):
        AuditLog(tmp_path)
