"""Either the whole file or none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.errors import OutputError
from medseg.io.atomic import PART_PREFIX, atomic_path, write_bytes, write_text


def test_the_file_appears_at_the_end_only(tmp_path: Path):
    with atomic_path(tmp_path / "a.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(PART_PREFIX)
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"1")
        assert not (tmp_path / "a.nii.gz").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == b"1"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_an_error_leaves_the_old_file_and_nothing_else(error: BaseException, tmp_path: Path):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_existing_file_is_replaced(tmp_path: Path):
    write_bytes(tmp_path / "a", b"old")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_text_is_utf_8_with_plain_line_ends(tmp_path: Path):
    write_text(tmp_path / "a", "ü\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xbc\n"


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    with atomic_path(tmp_path / "a") as first, atomic_path(tmp_path / "a") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_usual_permissions_apply(tmp_path: Path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_missing_folder_is_told(tmp_path: Path):
    with pytest.raises(OutputError, match="folder to write to does not exist") as caught:
        write_text(tmp_path / "no" / "a.txt", "x")
    assert str(tmp_path / "no" / "a.txt") in str(caught.value)


def test_a_folder_is_not_replaced(tmp_path: Path):
    with pytest.raises(OutputError, match="folder of this name"):
        write_text(tmp_path, "x")


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(OutputError, match="could not be written"), atomic_path(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path):
    def fill() -> None:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x")

    with pytest.raises(OutputError, match="No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_the_content_is_flushed_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = []
    flush, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("flush"), flush(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), rename(self, to))[1])
    write_text(tmp_path / "a", "x")
    assert steps[:2] == ["flush", "rename"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a"
    write_text(path, "old")
    script = (
        "import os, signal, sys, pathlib\nfrom medseg.io.atomic import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"
    assert all(p == path or p.name.startswith(PART_PREFIX) for p in tmp_path.iterdir())


def test_the_words_of_the_system_are_told_through_other_errors(tmp_path: Path):
    def write() -> None:
        with atomic_path(tmp_path / "a.dcm"):
            try:
                raise OSError(28, "No space left on device")
            except OSError as error:
                raise OSError("while writing an element") from error

    with pytest.raises(OutputError, match=r"could not be written \(No space left on device\)"):
        write()
