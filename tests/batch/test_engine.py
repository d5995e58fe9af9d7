from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.batch import outputs as outputs_module
from medseg.errors import InputError, ModelError, OutputError
from medseg.inference import NumericPath, Segmenter
from medseg.io import read_segmentation, write_volume
from medseg.model import load_model
from medseg.progress import Cancelled, Step
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch


def statuses(out: Path) -> dict[str, str]:
    document = json.loads((out / "manifest.json").read_text())
    return {case["id"]: case["status"] for case in document["cases"]}


def fingerprints(out: Path) -> dict[str, tuple[int, str]]:
    """When each file in the case folders was last written, and what it holds."""
    return {
        path.relative_to(out).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in out.glob("*/*")
    }


class Recording:
    """A network that counts its calls, and at one of them does something else."""

    def __init__(self, inner: torch.nn.Module, *, at: int = 0, do: BaseException | None = None) -> None:
        self.inner, self.at, self.do, self.calls = inner, at, do, 0

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.do is not None and self.calls == self.at:
            raise self.do
        return self.inner(windows)


def test_every_file_ends_in_a_word_and_a_bad_one_stops_nothing(
    three_scans: Path,
    tmp_path: Path,
    scan: Callable[..., Volume],
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
) -> None:
    whole = (three_scans / "a.nii.gz").read_bytes()
    (three_scans / "a_broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    (three_scans / "b_noise.nii.gz").write_bytes(b"\x1f\x8b not really")
    (three_scans / "notes.txt").write_text("call back on Monday")
    nan = scan()
    nan = Volume(nan.array.astype(np.float32), nan.geometry)
    nan.array[0, 0, 0, 0] = np.nan
    write_volume(nan, three_scans / "b_nan.nii.gz")
    write_volume(scan(channels=2), three_scans / "b_two.nii.gz")
    (three_scans / "deep" / "er").mkdir(parents=True)
    write_volume(scan(2), three_scans / "deep" / "er" / "d.nrrd")
    out = tmp_path / "out"
    folder = make_model()
    manifest = run_batch(loading(folder), [three_scans], out=out, options=BatchOptions())

    document = json.loads((out / "manifest.json").read_text())
    assert document == manifest.to_json()
    assert document["counts"] == {"done": 4, "skipped": 0, "refused": 4, "failed": 0, "ignored": 1}
    assert statuses(out) == {
        "a": "done",
        "a_broken": "refused",
        "b": "done",
        "b_nan": "refused",
        "b_noise": "refused",
        "b_two": "refused",
        "c": "done",
        "d": "done",
        "notes": "ignored",
    }
    reasons = {case["id"]: case["reason"] for case in document["cases"]}
    assert "--volume" in reasons["b_two"]
    assert "--on-nonfinite fill" in reasons["b_nan"]
    assert all(reasons[name] for name in reasons if name not in "abcd")
    assert sorted(p.name for p in out.iterdir()) == [
        "a",
        "b",
        "c",
        "d",
        "journal.sqlite",
        "manifest.json",
        "report.html",
    ]
    assert [p.name for p in (out / "d").iterdir()] == ["segmentation.nii.gz"]
    mask = read_segmentation(out / "c" / "segmentation.nii.gz")
    np.testing.assert_array_equal(mask.array, scan(3).array[0] > 500)
    assert mask.geometry.same_grid(scan().geometry)


def test_the_manifest_has_the_keys_of_the_contract(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    (three_scans / "notes.txt").write_text("x")
    out = tmp_path / "out"
    folder = make_model()
    formats = ("nifti", "png", "measurements", "dicom-seg")
    run_batch(loading(folder), [three_scans], out=out, options=BatchOptions(formats=formats))
    document = json.loads((out / "manifest.json").read_text())
    assert list(document) == [
        "schema", "medseg", "model", "numeric_path", "options", "started", "finished", "counts", "cases",
    ]  # fmt: skip
    assert document["schema"] == 1
    assert document["model"] == {"name": "model", "version": "1", "sha256": load_model(folder).sha256}
    assert document["numeric_path"] == NumericPath().to_json()
    assert document["finished"] >= document["started"]
    case = document["cases"][0]
    assert list(case) == [
        "id", "status", "reason", "inputs", "outputs", "labels", "findings", "confidence", "flags", "seconds",
        "peak_ram_mb", "hashes", "checks",
    ]  # fmt: skip
    assert (case["id"], case["status"], case["reason"], case["inputs"]) == ("a", "done", "", ["a.nii.gz"])
    assert case["outputs"] == {
        "nifti": "a/segmentation.nii.gz",
        "png": "a/preview.png",
        "measurements": "a/measurements.json",
    }
    label = case["labels"][0]
    assert (label["id"], label["name"], label["voxels"], label["volume_ml"]) == (1, "lesion", 120, 0.54)
    assert [f["code"] for f in case["findings"]] == ["format-not-applicable"]
    assert set(case["findings"][0]) == {"code", "severity", "message", "remedy"}
    assert 0.5 < case["confidence"] <= 1
    assert case["flags"] == []
    assert list(case["seconds"]) == ["read", "prepare", "network", "restore", "write"]
    assert all(value >= 0 for value in case["seconds"].values())
    assert case["peak_ram_mb"] > 50
    assert case["hashes"]["nifti"] == hashlib.sha256((out / "a/segmentation.nii.gz").read_bytes()).hexdigest()
    measured = json.loads((out / "a" / "measurements.json").read_text())
    assert measured["labels"] == case["labels"]
    assert (out / "a" / "preview.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "report.html").read_text()
    assert "a/segmentation.nii.gz" in page
    ignored = document["cases"][-1]
    assert (ignored["status"], ignored["inputs"], ignored["outputs"]) == ("ignored", ["notes.txt"], {})


def test_after_a_crash_finished_cases_stay_untouched_and_the_rest_is_done(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any], bright: type
) -> None:
    out = tmp_path / "out"
    folder = make_model()
    probe = Recording(bright())
    run_batch(loading(folder, probe), [three_scans / "a.nii.gz"], out=tmp_path / "probe", options=BatchOptions())
    dying = Recording(bright(), at=2 * probe.calls + 1, do=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_batch(loading(folder, dying), [three_scans], out=out, options=BatchOptions())
    document = json.loads((out / "manifest.json").read_text())
    assert document["finished"] is None
    assert statuses(out) == {"a": "done", "b": "done"}
    before = fingerprints(out)

    again = Recording(bright())
    manifest = run_batch(loading(folder, again), [three_scans], out=out, options=BatchOptions(resume=True))
    assert again.calls == probe.calls
    assert manifest.counts == {"done": 1, "skipped": 2, "refused": 0, "failed": 0, "ignored": 0}
    after = fingerprints(out)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"c/segmentation.nii.gz"}
    assert not list(out.glob(".*"))
    skipped = manifest.to_json()["cases"][0]
    assert skipped["reason"] == "Finished by an earlier run."
    assert skipped["outputs"] == {"nifti": "a/segmentation.nii.gz"}
    assert skipped["labels"][0]["voxels"] == 120
    third = run_batch(loading(folder), [three_scans], out=out, options=BatchOptions(resume=True))
    assert third.counts["skipped"] == 3


def test_what_a_power_cut_leaves_is_enough_to_go_on(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any], bright: type
) -> None:
    out, left = tmp_path / "out", tmp_path / "left"
    folder = make_model()

    class PowerCut(Recording):
        def __call__(self, windows: torch.Tensor) -> torch.Tensor:
            if not left.exists() and (out / "b").exists():
                shutil.copytree(out, left)  # what is on the disk at this moment, write-ahead log included
            return super().__call__(windows)

    run_batch(loading(folder, PowerCut(bright())), [three_scans], out=out, options=BatchOptions(ahead=0))
    (left / ".c.partial").mkdir()
    (left / ".c.partial" / "segmentation.nii.gz").write_bytes(b"half")
    assert json.loads((left / "manifest.json").read_text())["finished"] is None
    before = {path: value for path, value in fingerprints(left).items() if not path.startswith(".")}
    manifest = run_batch(loading(folder), [three_scans], out=left, options=BatchOptions(resume=True))
    assert statuses(left) == {"a": "skipped", "b": "skipped", "c": "done"}
    assert manifest.counts["done"] == 1
    after = fingerprints(left)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"c/segmentation.nii.gz"}


def test_resume_redoes_what_changed(
    three_scans: Path,
    tmp_path: Path,
    scan: Callable[..., Volume],
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
) -> None:
    out = tmp_path / "out"
    folder = make_model()
    run_batch(loading(folder), [three_scans], out=out, options=BatchOptions())
    before = fingerprints(out)
    write_volume(scan(5), three_scans / "a.nii.gz")
    (out / "b" / "segmentation.nii.gz").write_bytes(gzip.compress(b"damaged"))
    resumed = BatchOptions(resume=True)
    run_batch(loading(folder), [three_scans], out=out, options=resumed)
    assert statuses(out) == {"a": "done", "b": "done", "c": "skipped"}
    np.testing.assert_array_equal(read_segmentation(out / "a" / "segmentation.nii.gz").array, scan(5).array[0] > 500)
    after = fingerprints(out)
    assert after["b/segmentation.nii.gz"][1] == before["b/segmentation.nii.gz"][1]
    assert after["c/segmentation.nii.gz"] == before["c/segmentation.nii.gz"]

    run_batch(loading(folder), [three_scans], out=out, options=BatchOptions(resume=True, formats=("nifti", "png")))
    assert set(statuses(out).values()) == {"done"}
    assert (out / "c" / "preview.png").is_file()
    other = make_model(seed=1, name="other")
    run_batch(loading(other), [three_scans], out=out, options=resumed)
    assert set(statuses(out).values()) == {"done"}


def test_resume_keeps_the_numeric_path_that_was_decided(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    folder = make_model()
    out = tmp_path / "out"
    given: list[NumericPath | None] = []

    def load(path: NumericPath | None) -> Segmenter:
        given.append(path)
        return Segmenter.load(folder, device="cpu", precision="bf16" if len(given) == 1 else "fp32", path=path)

    run_batch(load, [three_scans / "a.nii.gz"], out=out, options=BatchOptions())
    manifest = run_batch(load, [three_scans], out=out, options=BatchOptions(resume=True))
    assert given[0] is None
    assert given[1] is not None
    assert given[1].precision == "bf16"
    assert manifest.to_json()["numeric_path"]["precision"] == "bf16"
    assert manifest.counts["skipped"] == 1


def test_a_person_can_stop_between_cases_and_go_on(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    steps: list[Step] = []

    def stop(step: Step, /) -> None:
        steps.append(step)
        if step.stage == "case" and step.done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_batch(loading(make_model()), [three_scans], out=out, options=BatchOptions(), progress=stop)
    assert statuses(out) == {"a": "done"}
    assert {s.stage for s in steps} >= {"case", "prepare", "network", "restore"}
    manifest = run_batch(loading(make_model()), [three_scans], out=out, options=BatchOptions(resume=True))
    assert manifest.counts["skipped"] == 1
    assert manifest.counts["done"] == 2


def test_a_fault_of_ours_fails_one_case_without_its_message(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any], bright: type
) -> None:
    out = tmp_path / "out"
    dying = Recording(bright(), at=1, do=ZeroDivisionError("Doe^Jane"))
    manifest = run_batch(loading(make_model(), dying), [three_scans], out=out, options=BatchOptions())
    assert statuses(out) == {"a": "failed", "b": "done", "c": "done"}
    assert "ZeroDivisionError" in manifest.cases[0].reason
    assert "Doe" not in (out / "manifest.json").read_text() + (out / "report.html").read_text()
    assert not (out / "a").exists()


@pytest.mark.parametrize("error", [OutputError("the disk is full"), OSError(28, "No space left on device")])
def test_a_case_whose_second_output_fails_leaves_none(
    error: Exception,
    three_scans: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise error

    monkeypatch.setattr(outputs_module, "overlay_png", fail)
    out = tmp_path / "out"
    options = BatchOptions(formats=("nifti", "png"))
    manifest = run_batch(loading(make_model()), [three_scans], out=out, options=options)
    assert manifest.counts["failed"] == 3
    assert sorted(p.name for p in out.iterdir()) == ["journal.sqlite", "manifest.json", "report.html"]


def test_an_output_folder_in_use_is_refused_before_anything_starts(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    loaded: list[object] = []
    with pytest.raises(OutputError, match=r"not empty.*--resume"):
        run_batch(loaded.append, [three_scans], out=out, options=BatchOptions())  # type: ignore[arg-type]
    for options in (BatchOptions(overwrite=True), BatchOptions(resume=True)):
        with pytest.raises(OutputError, match="did not write"):
            run_batch(loaded.append, [three_scans], out=out, options=options)  # type: ignore[arg-type]
    assert not loaded
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    with pytest.raises(OutputError, match="a file of this name"):
        run_batch(loading(make_model()), [three_scans], out=out / "thesis.txt", options=BatchOptions())


def test_overwriting_removes_our_results_only(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    load = loading(make_model())
    run_batch(load, [three_scans], out=out, options=BatchOptions())
    (out / "mine").mkdir()
    (out / "mine" / "x").write_text("x")
    (three_scans / "a.nii.gz").unlink()
    (out / "journal.sqlite").write_bytes(b"damaged" * 1000)
    with pytest.raises(OutputError, match="--overwrite"):
        run_batch(load, [three_scans], out=out, options=BatchOptions(resume=True))
    manifest = run_batch(load, [three_scans], out=out, options=BatchOptions(overwrite=True))
    assert manifest.counts["done"] == 2
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["b", "c", "mine"]


def test_nothing_is_made_where_an_input_is_not_there(
    tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        run_batch(loading(make_model()), [tmp_path / "nowhere"], out=tmp_path / "out", options=BatchOptions())
    assert not (tmp_path / "out").exists()


def test_an_output_folder_inside_the_input_is_no_input(
    three_scans: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    out = three_scans / "out"
    run_batch(loading(make_model()), [three_scans], out=out, options=BatchOptions())
    manifest = run_batch(loading(make_model()), [three_scans], out=out, options=BatchOptions(resume=True))
    assert manifest.counts == {"done": 0, "skipped": 3, "refused": 0, "failed": 0, "ignored": 0}


def test_a_segmenter_without_a_folder_has_no_name_to_write_down(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], bright: type
) -> None:
    plan = load_model(make_model()).plan
    with pytest.raises(ModelError, match="not loaded from a model folder"):
        run_batch(
            lambda path: Segmenter(plan, [bright()], path=path or NumericPath()),
            [three_scans],
            out=tmp_path / "out",
            options=BatchOptions(),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody replace a mapped file")
def test_a_mapped_scan_whose_file_changes_meanwhile_is_not_taken_for_segmented(
    tmp_path: Path, scan: Callable[..., Volume], make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    inputs = tmp_path / "plain"
    inputs.mkdir()
    for name in "ab":
        write_volume(scan(), inputs / f"{name}.nii")

    def touch(step: Step) -> None:
        if step.stage == "restore":
            write_volume(scan(1), inputs / "a.nii")  # after `a` was segmented: `b` is not harmed

    folder, out = make_model(), tmp_path / "out"
    options = BatchOptions(formats=("nifti",), ahead=0)
    manifest = run_batch(loading(folder), [inputs], out=out, options=options, progress=touch)
    assert statuses(out) == {"a": "refused", "b": "done"}
    assert "changed while it was segmented" in manifest.cases[0].reason
    manifest = run_batch(loading(folder), [inputs], out=out, options=BatchOptions(formats=("nifti",), resume=True))
    assert statuses(out) == {"a": "done", "b": "skipped"}
