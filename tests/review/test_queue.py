"""The queue: order, statuses from the log, what a folder holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.io import write_segmentation, write_volume
from medseg.review import Desk, Event, Queue, find_cases, mask_elsewhere
from medseg.review.queue import MASK_CHANGED
from medseg.volume import Segmentation, Volume
from tests.review.conftest import GRID, LABELS, mask_of, scan_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_least_confident_case_stands_first(out: Path, scans: Path) -> None:
    queue = Queue.of(find_cases(out, [scans]), [])
    assert [entry.case.id for entry in queue] == ["c", "b", "a"]
    assert queue.counts == {"open": 3, "accepted": 0, "rejected": 0, "fixed": 0}
    assert queue.get("c").flags == ("empty",)
    assert queue.get("a").case.model_sha256 == "f" * 64


def test_next_and_previous_pass_over_decided_cases_and_go_round(out: Path, scans: Path) -> None:
    cases = find_cases(out, [scans])
    queue = Queue.of(cases, [Event(who="ada", case="b", action="accept")])
    assert queue.next("c").case.id == "a"
    assert queue.next("c", only_open=False).case.id == "b"
    assert queue.next("c", step=-1).case.id == "a"
    assert queue.next("a").case.id == "c"
    with pytest.raises(InputError, match="no case 'x'"):
        queue.next("x")


def test_the_last_decision_counts(out: Path, scans: Path) -> None:
    events = [Event(who="ada", case="a", action=action, seconds=2.0) for action in ("accept", "reject", "comment")]
    entry = Queue.of(find_cases(out, [scans]), events).get("a")
    assert (entry.status, entry.seconds) == ("rejected", 6.0)
    events.append(Event(who="bob", case="a", action="reopen"))
    assert Queue.of(find_cases(out, [scans]), events).get("a").status == "open"


def test_a_mask_predicted_anew_is_open_again(out: Path, scans: Path) -> None:
    accepted = [Event(who="ada", case="a", action="accept", version=0, mask_after="0" * 64)]
    entry = Queue.of(find_cases(out, [scans]), accepted).get("a")
    assert (entry.status, entry.flags) == ("open", (MASK_CHANGED,))


def test_the_place_of_the_scans_is_remembered(out: Path, scans: Path) -> None:
    with pytest.raises(InputError, match="--images"):
        find_cases(out)
    find_cases(out, [scans])
    assert [case.images[0].name for case in find_cases(out)] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def test_a_manifest_leads_to_no_file_outside(out: Path, scans: Path) -> None:
    document = json.loads((out / "manifest.json").read_text())
    document["cases"][0]["inputs"] = ["../scans/a.nii.gz"]
    document["cases"][1]["inputs"] = [str(scans / "b.nii.gz")]
    (out / "manifest.json").write_text(json.dumps(document))
    assert [bool(case.images) for case in find_cases(out, [scans])] == [False, False, True]


@pytest.mark.parametrize("text", ["", "[]", '{"cases": 3}', "{" * 5000])
def test_a_damaged_manifest_is_a_sentence(out: Path, scans: Path, text: str) -> None:
    (out / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="manifest"):
        find_cases(out, [scans])


def test_two_folders_are_paired_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True)
    for n, name in enumerate(("x", "y")):
        write_volume(Volume(scan_of(n)[None], GRID), folder / "images" / f"{name}_0000.nii.gz")
        write_segmentation(Segmentation(mask_of(n), GRID, LABELS), folder / "masks" / f"{name}.nii.gz")
    cases = find_cases(folder)
    assert [(case.id, case.mask.name) for case in cases] == [("x", "x.nii.gz"), ("y", "y.nii.gz")]
    assert np.array_equal(cases[1].read_image().array[0], scan_of(1))


def test_masks_are_paired_with_scans_elsewhere_by_key(tmp_path: Path, scans: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("c", "a"):
        write_segmentation(Segmentation(mask_of(1), GRID, LABELS), masks / f"{name}.nii.gz")
    assert [(case.id, case.images[0].name) for case in find_cases(masks, [scans])] == [
        ("a", "a.nii.gz"),
        ("c", "c.nii.gz"),
    ]


def test_a_mask_on_another_grid_is_refused(out: Path, scans: Path) -> None:
    from medseg.errors import GeometryError

    elsewhere = GRID.pad((0, 0, 0), (0, 0, 1))
    write_segmentation(
        Segmentation(np.zeros(elsewhere.shape, np.uint8), elsewhere, LABELS), out / "a" / "segmentation.nii.gz"
    )
    desk = Desk(out, who="ada", images=[scans])
    with pytest.raises(GeometryError, match="as its scan"):
        desk.open("a")
    desk.close()


def test_a_second_models_mask_of_the_case(out: Path, scans: Path, make_out: Callable[..., Path]) -> None:
    other = make_out("other", shift=1)
    case = find_cases(out, [scans])[0]
    found = mask_elsewhere(case, other, case.read_image())
    assert np.array_equal(found.array, mask_of(1))
    (other / "a" / "segmentation.nii.gz").unlink()
    with pytest.raises(InputError, match="no mask of the case"):
        mask_elsewhere(case, other, case.read_image())
