"""Arrays in temporary files: they hold what is written, leave nothing behind, and say so where the disk is full."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medseg import scratch
from medseg.errors import InputError


def resident_of_files() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("RssFile:")[2].split()[0]) * 1024


def test_what_was_let_go_of_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = scratch.empty((3, 500, 400))
    assert not array.any()
    array[:] = np.arange(3)[:, None, None]
    part = array[1:]
    scratch.let_go(part)
    assert array.sum(axis=(1, 2)).tolist() == [0, 200_000, 400_000]
    assert not list(tmp_path.iterdir())  # a file without a name


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory by kind is told by Linux alone")
def test_what_was_let_go_of_is_not_resident() -> None:
    array = scratch.empty((50_000_000,), np.uint8)
    before = resident_of_files()
    array[:] = 7
    assert resident_of_files() > before + 45_000_000
    scratch.let_go(array)
    assert resident_of_files() < before + 5_000_000
    assert array.min() == 7


def test_other_arrays_stay_as_they_are() -> None:
    array = np.arange(6).reshape(2, 3)
    scratch.let_go(array[1:])
    assert array.sum() == 15


def test_place_is_taken_at_once_and_given_back() -> None:
    def taken() -> int:
        gc.collect()
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(link.stat().st_blocks * 512 for link in links if "(deleted)" in str(link.readlink()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are listed by Linux alone")
    before = taken()
    array = scratch.empty((1 << 20,))
    assert taken() >= before + (4 << 20)  # though nothing was written
    del array
    assert taken() == before


def test_a_full_disk_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="TMPDIR"):
        scratch.empty((1 << 46,))  # more than any disk has
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match=r"of 2 GB cannot be made \(No space left on device\)") as caught:
        scratch.empty((500_000_000,))
    assert caught.value.code == "disk"


def test_room_is_asked_for_before_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000_000))
    scratch.require_room(3_000_000_000)
    with pytest.raises(InputError, match=r"take 3\.10 GB of disk; expected at most 3\.00 GB, which is free\. .*TMPDIR"):
        scratch.require_room(3_100_000_000)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)  # as on macOS and Windows
    with pytest.raises(InputError, match="is free"):
        scratch.empty((1_000_000_000,))
    assert scratch.empty((10,)).sum() == 0
