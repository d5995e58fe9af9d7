"""Unsaved edits come back: after SIGKILL, after a torn record, and never onto another mask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.geometry import Box
from medseg.review.changes import Edit
from medseg.review.recovery import Base, EditJournal, base_of, recover

SHAPE = (4, 6, 8)
BASE = Base(3, "ab" * 32, SHAPE, "uint8")
ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from pathlib import Path
import numpy as np
from medseg.geometry import Box
from medseg.review.changes import Edit
from medseg.review.recovery import Base, EditJournal
shape = (4, 6, 8)
journal = EditJournal(Path(sys.argv[1]), Base(3, "ab" * 32, shape, "uint8"))
mask = np.zeros(shape, np.uint8)
for n in range(10**9):
    box = Box((n % 4, n % 5, 0), (n % 4 + 1, n % 5 + 2, 8))
    edit = Edit.of_block(mask, box, np.full((1, 2, 8), n % 250 + 1, np.uint8))
    edit.apply(mask)
    journal.append(edit)
    print(n, flush=True)
"""


def edits(count: int) -> tuple[list[Edit], np.ndarray]:
    mask, made = np.zeros(SHAPE, np.uint8), []
    for n in range(count):
        box = Box((n % 4, n % 5, 0), (n % 4 + 1, n % 5 + 2, 8))
        made.append(Edit.of_block(mask, box, np.full((1, 2, 8), n % 250 + 1, np.uint8)))
        made[-1].apply(mask)
    return made, mask


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "unsaved-ada.edits"


def test_nothing_said_to_be_kept_is_lost_by_sigkill(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        said = [int(child.stdout.readline()) for _ in range(200)]
        os.kill(child.pid, signal.SIGKILL)
        said += [int(line) for line in child.stdout.read().split()]
    mask = np.zeros(SHAPE, np.uint8)
    kept = recover(path, mask, BASE)
    assert kept in (said[-1] + 1, said[-1] + 2)  # the one it died in may be whole
    assert np.array_equal(mask, edits(kept)[1])


def test_edits_go_on_after_a_torn_record(path: Path) -> None:
    made, _ = edits(5)
    journal = EditJournal(path, BASE)
    for edit in made[:4]:
        journal.append(edit)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])  # the fourth is cut off
    mask = np.zeros(SHAPE, np.uint8)
    assert recover(path, mask, BASE) == 3
    journal = EditJournal(path, BASE)
    journal.append(made[3])
    journal.append(made[4])
    journal.close()
    mask[:] = 0
    assert recover(path, mask, BASE) == 5
    assert np.array_equal(mask, edits(5)[1])


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_file_cut_off_anywhere_gives_whole_edits_only(path: Path, cut: int) -> None:
    made, _ = edits(2)
    journal = EditJournal(path, BASE)
    for edit in made:
        journal.append(edit)
    journal.close()
    path.write_bytes(path.read_bytes()[:cut])
    mask = np.zeros(SHAPE, np.uint8)
    try:
        kept = recover(path, mask, BASE)
    except InputError:  # no header: a person is told
        pytest.fail("a file cut off by a crash is no damaged file")
    assert np.array_equal(mask, edits(kept)[1])
    fresh = EditJournal(path, BASE)
    fresh.append(made[0])
    fresh.close()
    assert recover(path, np.zeros(SHAPE, np.uint8), BASE) >= 1


def test_a_flipped_bit_ends_the_edits_before_it(path: Path) -> None:
    made, _ = edits(3)
    journal = EditJournal(path, BASE)
    for edit in made:
        journal.append(edit)
    journal.close()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    mask = np.zeros(SHAPE, np.uint8)
    assert recover(path, mask, BASE) == 2
    assert np.array_equal(mask, edits(2)[1])


@pytest.mark.parametrize(
    "other",
    [
        Base(2, BASE.sha256, SHAPE, "uint8"),
        Base(3, "00" * 32, SHAPE, "uint8"),
        Base(3, BASE.sha256, (1, 2, 3), "uint8"),
    ],
)
def test_edits_of_another_mask_are_left_alone(path: Path, other: Base) -> None:
    journal = EditJournal(path, other)
    made, _ = edits(1)
    journal.append(made[0])
    journal.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="another mask"):
        recover(path, np.zeros(SHAPE, np.uint8), BASE)
    with pytest.raises(InputError, match="in the way"):
        EditJournal(path, BASE).append(made[0])
    assert path.read_bytes() == before
    assert base_of(path) == other


def test_a_foreign_file_is_a_sentence(path: Path) -> None:
    path.write_bytes(b"something else entirely\nof two lines\n")
    with pytest.raises(InputError, match="no unsaved edits that can be read"):
        base_of(path)


def test_hostile_counts_take_no_memory(path: Path) -> None:
    import struct
    import zlib

    journal = EditJournal(path, BASE)
    journal.append(edits(1)[0][0])
    journal.close()
    payload = struct.pack("<QQ", 1 << 40, 1 << 50) + zlib.compress(b"\0" * 100)
    with path.open("ab") as file:
        file.write(struct.pack("<II", len(payload), zlib.crc32(payload)) + payload)
    with pytest.raises(InputError, match="damaged"):
        recover(path, np.zeros(SHAPE, np.uint8), BASE)


def test_a_stroke_is_kept_in_little_time_and_space(path: Path) -> None:
    mask = np.zeros((60, 512, 512), np.uint8)
    brush = np.zeros((9, 41, 41), np.uint8)
    brush[4] = 3
    edit = Edit.of_block(mask, Box((20, 100, 100), (29, 141, 141)), brush)
    journal = EditJournal(path, Base(0, "", mask.shape, "uint8"))
    begun = time.perf_counter()
    journal.append(edit)
    assert time.perf_counter() - begun < 0.1
    journal.close()
    assert path.stat().st_size < 2000
