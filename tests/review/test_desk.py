"""The desk: decisions, edits that survive the end of the process, versions, time, and nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.geometry import Box
from medseg.io.hashing import file_sha256
from medseg.review import Desk, Edit
from tests.review.conftest import mask_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys, time
from pathlib import Path
import numpy as np
from medseg.geometry import Box
from medseg.review import Desk, Edit
desk = Desk(Path(sys.argv[1]), who="ada")
case = desk.open("b")
desk.edit(Edit.of_block(case.mask, Box((0, 0, 0), (1, 2, 2)), np.full((1, 2, 2), 2, np.uint8)))
desk.edit(Edit.of_block(case.mask, Box((1, 0, 0), (2, 2, 2)), np.full((1, 2, 2), 1, np.uint8)))
desk.undo()
print("edited", flush=True)
time.sleep(600)
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(out: Path, scans: Path, clock: Clock) -> Iterator[Desk]:
    desk = Desk(out, who="ada", images=[scans], clock=clock)
    yield desk
    desk.close()


def paint(desk: Desk, z: int, label: int = 2) -> None:
    assert desk.open_case is not None
    block = np.full((1, 2, 2), label, np.uint8)
    desk.edit(Edit.of_block(desk.open_case.mask, Box((z, 0, 0), (z + 1, 2, 2)), block))


def again(desk: Desk, who: str = "ada") -> Desk:
    desk.close()
    return Desk(desk.folder, who=who)


def test_the_queue_survives_a_restart(desk: Desk, clock: Clock) -> None:
    desk.open("c")
    clock.now = 12.0
    assert desk.reject("no foreground", "motion").status == "rejected"
    desk.open("b")
    assert desk.accept().status == "accepted"
    other = again(desk)
    entry = other.queue.get("c")
    assert (entry.status, entry.reason, entry.comment, entry.seconds, entry.who) == (
        "rejected",
        "no foreground",
        "motion",
        12.0,
        "ada",
    )
    assert other.queue.first().case.id == "a"
    assert other.verify() == ""
    other.close()


def test_a_fix_is_a_version_and_the_prediction_stays(desk: Desk, out: Path) -> None:
    predicted = out / "b" / "segmentation.nii.gz"
    before = file_sha256(predicted)
    desk.open("b")
    paint(desk, 7)
    entry = desk.fix("tail was missing")
    assert (entry.status, entry.version) == ("fixed", 1)
    assert file_sha256(predicted) == before
    wanted = mask_of(1)
    wanted[7, :2, :2] = 2
    assert np.array_equal(desk.decided_masks()["b"]().array, wanted)
    save, fix = desk.events("b")
    assert (save.action, save.mask_before, save.mask_after) == ("save", before, fix.mask_after)
    assert fix.mask_after == file_sha256(out / "review" / "b" / "v0001.nii.gz")
    assert not list((out / "review" / "b").glob("*.edits"))
    assert fix.model_sha256 == "f" * 64


def test_accepting_an_edited_mask_saves_it(desk: Desk) -> None:
    desk.open("b")
    paint(desk, 7)
    assert (desk.accept().status, desk.queue.get("b").version) == ("fixed", 1)


def test_edits_all_undone_are_no_fix(desk: Desk, out: Path) -> None:
    desk.open("b")
    paint(desk, 7)
    paint(desk, 6)
    assert desk.undo()
    assert desk.undo()
    assert desk.undo() is None
    with pytest.raises(InputError, match="nothing was changed"):
        desk.fix()
    assert desk.redo()
    assert desk.undo()
    assert (desk.accept().status, desk.queue.get("b").version) == ("accepted", 0)
    desk.put_away()
    assert not list((out / "review" / "b").glob("*.edits"))


def test_rejecting_keeps_the_edits_and_needs_a_reason(desk: Desk) -> None:
    desk.open("b")
    paint(desk, 7)
    with pytest.raises(InputError, match="no reason"):
        desk.reject("  ")
    assert desk.reject("wrong organ").version == 1
    assert "b" not in desk.decided_masks()


def test_unsaved_edits_wait_for_their_case(desk: Desk) -> None:
    desk.open("b")
    paint(desk, 7)
    desk.open("a")
    paint(desk, 6, 1)
    case = desk.open("b")
    assert case.recovered == 1
    assert (case.mask[7, :2, :2] == 2).all()
    other = again(desk)
    assert (other.open("a").mask[6, :2, :2] == 1).all()
    assert other.fix().version == 1
    other.close()


def test_another_reviewer_does_not_meet_my_unsaved_edits(desk: Desk) -> None:
    desk.open("b")
    paint(desk, 7)
    bob = again(desk, "bob")
    case = bob.open("b")
    assert case.recovered == 0
    assert np.array_equal(case.mask, mask_of(1))
    paint(bob, 5)
    assert bob.fix().version == 1
    ada = again(bob)
    case = ada.open("b")  # her edits are on version 0, and stay on it
    assert (case.recovered, case.version.number) == (1, 0)
    assert ada.fix().version == 2
    ada.close()


def test_sigkill_in_the_middle_of_an_edit_loses_nothing(desk: Desk, out: Path) -> None:
    desk.close()
    with subprocess.Popen([sys.executable, "-c", CHILD, out], stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "edited\n"
        os.kill(child.pid, signal.SIGKILL)
    after = Desk(out, who="ada")
    case = after.open("b")
    wanted = mask_of(1)
    wanted[0, :2, :2] = 2
    assert case.recovered == 3
    assert np.array_equal(case.mask, wanted)
    assert [event.action for event in after.events("b")] == ["recover"]
    assert after.fix().version == 1
    after.close()


def test_what_was_read_ahead_is_used_only_while_it_is_the_newest(desk: Desk) -> None:
    ahead = desk.read("b")
    assert desk.open("b", ahead) is ahead
    ahead = desk.read("a")
    desk.open("a")
    paint(desk, 7)
    desk.open("b")
    assert desk.open("a", ahead) is not ahead
    assert (desk.open("a").mask[7, :2, :2] == 2).all()


def test_painted_by_the_viewer_is_kept_too(desk: Desk) -> None:
    case = desk.open("b")
    block = np.full((1, 2, 2), 2, np.uint8)
    edit = Edit.of_block(case.mask, Box((7, 0, 0), (8, 2, 2)), block)
    edit.apply(case.mask)
    desk.edit(edit, is_made=True)
    desk.sync()
    desk.undo()
    assert np.array_equal(case.mask, mask_of(1))


def test_a_stroke_that_was_not_ended_waits_too(desk: Desk, out: Path) -> None:
    case = desk.open("b")
    part = Edit.of_block(case.mask, Box((7, 0, 0), (8, 2, 2)), np.full((1, 2, 2), 2, np.uint8))
    part.apply(case.mask)
    desk.keep(part)
    desk.open("a")
    case = desk.open("b")
    assert case.recovered == 1
    assert (case.mask[7, :2, :2] == 2).all()
    desk.open("a")
    case = desk.open("a")
    part.apply(case.mask)
    desk.keep(part)
    part.revert(case.mask)
    desk.keep(part.inverse(), is_open=False)  # given up
    desk.open("b")
    assert not list((out / "review" / "a").glob("*.edits"))


def test_saving_twice_makes_one_version(desk: Desk) -> None:
    desk.open("b")
    paint(desk, 7)
    assert desk.save().number == desk.save().number == 1
    assert desk.undo()  # what was saved can still be undone, which is an edit again
    assert desk.fix().version == 2
    assert np.array_equal(desk.decided_masks()["b"]().array, mask_of(1))


def test_a_decision_can_be_taken_back(desk: Desk) -> None:
    desk.open("b")
    desk.accept()
    assert desk.reopen("looked again").status == "open"
    desk.comment("ask a colleague")
    assert [event.action for event in desk.events("b")] == ["accept", "reopen", "comment"]


def test_a_reviewer_has_a_name(out: Path, scans: Path) -> None:
    with pytest.raises(InputError, match="--reviewer"):
        Desk(out, who="", images=[scans])
