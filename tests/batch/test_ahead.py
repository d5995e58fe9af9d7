"""Reading ahead and writing behind: never a timing, only events that two threads at work at once can set."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.batch import engine as engine_module
from medseg.batch.ahead import Overlap
from medseg.batch.job import Job
from medseg.errors import OutputError, PlanError
from medseg.io import write_volume
from medseg.progress import Cancelled, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from medseg.batch.outputs import Finished, Written
    from medseg.progress import Progress
    from medseg.volume import Volume

PATIENCE_S = 8.0
PLENTY = 10**18


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("medseg-")]


def overlap(progress: Progress = lambda _: None, *, ahead: int = 1, bound_bytes: int = PLENTY) -> Overlap[str]:
    return Overlap(progress, ahead=ahead, bound_bytes=bound_bytes)


def passed(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S), "the other thread is not at work"


def here(_: object = None) -> str:
    return threading.current_thread().name


def statuses(out: Path) -> dict[str, str]:
    document = json.loads((out / "manifest.json").read_text())
    return {case["id"]: case["status"] for case in document["cases"]}


def journalled(out: Path) -> list[str]:
    connection = sqlite3.connect(out / "journal.sqlite")
    try:
        return [row[0] for row in connection.execute("SELECT id FROM cases ORDER BY id")]
    finally:
        connection.close()


def test_reading_and_writing_go_on_while_the_caller_works() -> None:
    reads, writes, works = threading.Event(), threading.Event(), threading.Event()

    def read(_: Progress) -> str:
        reads.set()
        passed(works)
        return "scan"

    def write() -> str:
        writes.set()
        passed(works)
        return "mask"

    ends: list[str] = []
    with overlap() as three:
        three.write(write, lambda written: ends.append(written()), holds=1)
        three.begin(read, needs=lambda: 1)
        passed(reads)
        passed(writes)
        assert not ends
        works.set()
        assert three.take(read) == "scan"
    assert ends == ["mask"]


def test_without_it_everything_is_done_in_turn_by_the_caller() -> None:
    ends: list[str] = []
    with overlap(ahead=0) as alone:
        alone.begin(here, needs=lambda: 1)
        assert alone.take(here) == here()
        alone.write(here, lambda written: ends.append(written()), holds=1)
        assert ends == [here()]
    with overlap() as three:  # nothing follows the last case
        three.write(here, lambda written: ends.append(written()), holds=1, last=True)
        assert ends == [here(), here()]


def test_what_is_written_is_settled_in_order_and_one_at_a_time() -> None:
    ends: list[int] = []
    with overlap() as three:
        for n in range(5):
            three.write(lambda n=n: n, lambda written: ends.append(written()), holds=1)
    assert ends == [0, 1, 2, 3, 4]


def test_what_was_written_is_settled_at_the_next_report() -> None:
    ends: list[str] = []
    written = threading.Event()

    def write() -> str:
        written.set()
        return here()

    with overlap() as three:
        three.write(write, lambda made: ends.extend([made(), here()]), holds=1)
        passed(written)
        while not ends:
            three.progress(Step("network"))
    assert ends == ["medseg-write_0", here()]


def test_errors_come_out_where_the_caller_asks() -> None:
    def fail(_: object = None) -> str:
        raise OutputError("no")

    def settle(written: Callable[[], str]) -> None:
        with pytest.raises(OutputError):
            written()
        seen.append("write")

    seen: list[str] = []
    with overlap() as three:
        three.begin(fail, needs=lambda: 1)
        three.write(fail, settle, holds=1)
        with pytest.raises(OutputError):
            three.take(fail)
        assert three.take(lambda _: "next") == "next"
    assert seen == ["write"]


def test_what_does_not_fit_beside_waits_for_its_turn() -> None:
    ends: list[str] = []
    with overlap(bound_bytes=10) as three:
        three.begin(here, needs=lambda: 10)
        assert three.take(here) == "medseg-read_0"
        three.begin(here, needs=lambda: 11)
        assert three.take(here) == here()
        three.begin(here, needs=lambda: 1 // 0)
        assert three.take(here) == here()
        three.write(here, lambda written: ends.append(written()), holds=11)
        assert ends == [here()]


def test_where_memory_ran_out_the_scan_is_read_when_the_rest_is_written() -> None:
    ends: list[str] = []

    def read(_: Progress) -> str:
        if here().startswith("medseg-read"):
            raise MemoryError
        return f"after {ends}"

    with overlap() as three:
        three.begin(read, needs=lambda: 1)
        three.write(lambda: "mask", lambda written: ends.append(written()), holds=1)
        assert three.take(read) == "after ['mask']"


def test_who_waits_for_a_scan_is_told_by_their_own_thread_and_can_stop() -> None:
    told: list[tuple[Step, str]] = []
    over = threading.Event()

    def read(report: Progress) -> str:
        report(Step("read", 3, 9))
        passed(over)
        return "scan"

    def stop(step: Step, /) -> None:
        told.append((step, here()))
        if step.stage == "read":
            over.set()
            raise Cancelled

    with overlap(stop) as three:
        three.begin(read, needs=lambda: 1)
        with pytest.raises(Cancelled):
            three.take(read)
    assert told[-1] == (Step("read", 3, 9), here())


def test_an_interruption_lets_writing_end_and_reading_stop() -> None:
    begun, ends = threading.Event(), []

    def read(report: Progress) -> str:
        begun.set()
        while True:
            report(Step("read"))

    def write() -> str:
        passed(begun)
        return "mask"

    def interrupted() -> None:
        with overlap() as three:
            three.write(write, lambda written: ends.append(written()), holds=1)
            three.begin(read, needs=lambda: 1)
            passed(begun)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ends == ["mask"]


# ------------------------------------------------------------------------------------------------- the engine with it


class Watching:
    """A network that does something when it first sees each case."""

    def __init__(self, inner: torch.nn.Module, do: Callable[[int], None]) -> None:
        self.inner, self.do, self.case = inner, do, -1

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.do(self.case)
        return self.inner(windows)

    def progress(self, step: Step, /) -> None:
        if step.stage == "case":
            self.case += 1


def test_a_batch_reads_the_next_case_and_writes_the_last_while_the_network_waits_for_both(
    three_scans: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
    bright: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = {name: threading.Event() for name in "abc"}
    wrote = {name: threading.Event() for name in "abc"}
    reading, writing = Job.read, engine_module.write_case

    def reads(job: Job, *args: Any, **kwargs: Any) -> Any:
        scan = reading(job, *args, **kwargs)
        read[job.id].set()
        return scan

    def writes(finished: Finished, out: Path) -> Written:
        written = writing(finished, out)
        wrote[finished.job.id].set()
        return written

    def wait(case: int) -> None:
        for name in "abc"[case + 1 : case + 2]:
            passed(read[name])
        for name in "abc"[:case][-1:]:
            passed(wrote[name])

    monkeypatch.setattr(Job, "read", reads)
    monkeypatch.setattr(engine_module, "write_case", writes)
    out = tmp_path / "out"
    network = Watching(bright(), wait)
    threads: set[str] = set()

    def progress(step: Step, /) -> None:
        threads.add(here())
        network.progress(step)

    load = loading(make_model(), network)
    manifest = run_batch(load, [three_scans], out=out, options=BatchOptions(), progress=progress)
    assert [(case.id, case.status) for case in manifest.cases] == [("a", "done"), ("b", "done"), ("c", "done")]
    assert threads == {here()}
    assert journalled(out) == ["a", "b", "c"]


def test_results_are_the_same_with_and_without(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    (three_scans / "b_noise.nii.gz").write_bytes(b"\x1f\x8b not really")
    (three_scans / "notes.txt").write_text("x")
    load = loading(make_model())
    formats = ("nifti", "png", "measurements")
    kept = []
    for ahead in (0, 1):
        out = tmp_path / f"out{ahead}"
        document = run_batch(load, [three_scans], out=out, options=BatchOptions(formats, ahead=ahead)).to_json()
        for case in document["cases"]:
            del case["seconds"], case["peak_ram_mb"]
        files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("*/*")}
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        kept.append((document["cases"], document["options"], hashes))
    assert kept[0] == kept[1]
    assert len(kept[0][2]) == 9


def test_a_case_that_cannot_be_written_fails_alone(
    three_scans: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing = engine_module.write_case

    def writes(finished: Finished, out: Path) -> Written:
        if finished.job.id == "b":
            raise OutputError("the disk is full")
        return writing(finished, out)

    monkeypatch.setattr(engine_module, "write_case", writes)
    out = tmp_path / "out"
    manifest = run_batch(loading(make_model()), [three_scans], out=out, options=BatchOptions())
    assert statuses(out) == {"a": "done", "b": "failed", "c": "done"}
    assert manifest.cases[1].reason.startswith("The disk is full")
    assert journalled(out) == ["a", "c"]


def test_a_case_that_cannot_be_read_ahead_is_refused_alone(
    three_scans: Path, tmp_path: Path, scan: Callable[..., Volume], make_model: Callable[..., Path], loading: Any
) -> None:
    write_volume(scan(channels=2), three_scans / "b.nii.gz")
    out = tmp_path / "out"
    options = BatchOptions(volume=0)
    run_batch(loading(make_model()), [three_scans], out=out, options=options)
    assert set(statuses(out).values()) == {"done"}
    (three_scans / "b.nii.gz").write_bytes((three_scans / "b.nii.gz").read_bytes()[:-40])
    again = tmp_path / "again"
    run_batch(loading(make_model()), [three_scans], out=again, options=options)
    assert statuses(again) == {"a": "done", "b": "refused", "c": "done"}


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt()])
def test_a_person_who_stops_within_a_case_keeps_the_one_being_written(
    error: BaseException,
    three_scans: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, stopped = threading.Event(), threading.Event()
    writing = engine_module.write_case

    def writes(finished: Finished, out: Path) -> Written:
        if finished.job.id == "b":
            begun.set()
            passed(stopped)
        return writing(finished, out)

    def stop(step: Step, /) -> None:
        if step.stage == "network" and begun.is_set():
            stopped.set()
            raise error

    monkeypatch.setattr(engine_module, "write_case", writes)
    out, folder = tmp_path / "out", make_model()
    with pytest.raises(type(error)):
        run_batch(loading(folder), [three_scans], out=out, options=BatchOptions(), progress=stop)
    assert statuses(out) == {"a": "done", "b": "done"}
    assert json.loads((out / "manifest.json").read_text())["finished"] is None
    assert journalled(out) == ["a", "b"]
    assert not list(out.glob(".*"))
    resumed = run_batch(loading(folder), [three_scans], out=out, options=BatchOptions(resume=True))
    assert resumed.counts == {"done": 1, "skipped": 2, "refused": 0, "failed": 0, "ignored": 0}


def test_what_a_power_cut_leaves_while_a_case_is_between_disk_and_journal_is_enough_to_go_on(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any], bright: type
) -> None:
    out, left = tmp_path / "out", tmp_path / "left"
    folder = make_model()

    def cut(case: int) -> None:
        if case == 2 and not left.exists():
            while not (out / "b").exists():
                time.sleep(0.01)
            shutil.copytree(out, left)  # what is on the disk at this moment, write-ahead log included

    network = Watching(bright(), cut)
    options = BatchOptions()
    run_batch(loading(folder, network), [three_scans], out=out, options=options, progress=network.progress)
    before = {path.relative_to(left): path.read_bytes() for path in left.glob("*/*")}
    resumed = run_batch(loading(folder), [three_scans], out=left, options=BatchOptions(resume=True))
    assert [case.status for case in resumed.cases if case.id != "b"] == ["skipped", "done"]
    assert resumed.cases[1].status in {"skipped", "done"}
    after = {path.relative_to(left): path.read_bytes() for path in left.glob("*/*")}
    assert before.items() < after.items()


def test_only_one_case_can_be_ahead() -> None:
    with pytest.raises(PlanError, match="2 cases shall be read ahead; expected 0 or 1"):
        BatchOptions(ahead=2)
