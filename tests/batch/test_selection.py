from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.batch.job import Target
from medseg.batch.jobs import find_jobs
from medseg.batch.selection import facts_of, left_out
from medseg.geometry import Geometry
from medseg.io import write_volume
from medseg.io.dicom import Item, SourceSeries, write_series
from medseg.io.dicom.findings import finding
from medseg.io.dicom.item import Traits
from medseg.io.dicom.source import Irregular
from medseg.selection import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.volume import Volume

GRID = Geometry((8, 10, 12), np.array([[0, 0, 0.5, 0], [0, 0.7, 0, 0], [2.5, 0, 0, 0], [0, 0, 0, 1.0]]))
CALLED = "Jane Doe knee"


def item(**changes: Any) -> Item:
    made = Item(
        "mr-1",
        "series",
        ("a.dcm",),
        Path("in"),
        modality="MR",
        shape=GRID.shape,
        spacing_mm=GRID.spacing_mm,
        geometry=GRID,
        traits=Traits(description=CALLED, body_part="KNEE", protocol="pd fs"),
    )
    return replace(made, **changes)


def test_what_a_series_is_judged_by() -> None:
    assert facts_of(item()) == {
        "id": "mr-1",
        "kind": "series",
        "modality": "MR",
        "description": CALLED,
        "protocol": "pd fs",
        "body_part": "KNEE",
        "plane": "axial",
        "spacing": 2.5,
        "pixel": 0.7,
        "slices": 8.0,
        "volumes": 1.0,
    }


def test_a_reason_repeats_the_rule_and_never_the_series() -> None:
    why = left_out(item(), parse("modality=MR description~HCrop or slices>30"))
    assert why is not None
    assert (why.code, why.effect) == ("not-selected", "ignored")
    assert why.message == "it does not meet description~HCrop nor slices>30"
    assert left_out(item(), parse("description~'doe KNEE' slices>7")) is None


def test_uneven_slices_are_judged_by_the_grid_they_may_get() -> None:
    source = SourceSeries("mr-1", "MR", ((),), None, irregular=Irregular(GRID, (0.0, 1.0)))
    uneven = item(geometry=None, spacing_mm=None, source=source)
    assert left_out(uneven, parse("plane=axial spacing=2.5 pixel=0.7")) is None
    assert left_out(item(geometry=None, spacing_mm=None), parse("plane=axial")) is not None


def test_a_file_that_cannot_be_read_is_left_out_by_its_name_alone() -> None:
    broken = item(kind="unreadable", modality=None, findings=(finding("unreadable", "broken"),))
    assert left_out(broken, parse("modality=CT slices>100")) is None
    assert left_out(broken, parse("id=other")) is not None


@pytest.fixture
def mixed(tmp_path: Path, scan: Callable[..., Volume]) -> Path:
    """Two MR series, one CT series, one NIfTI, one text."""
    folder = tmp_path / "in"
    for name, modality, words in (("a", "MR", CALLED), ("b", "MR", "T1 HippoCrop"), ("c", "CT", "T1 HippoCrop")):
        write_series(scan(), folder / name, modality=modality, name=name, description=words)
    write_volume(scan(), folder / "d.nii.gz")
    (folder / "notes.txt").write_text("x")
    return folder


def verdicts(folder: Path, rule: str) -> dict[str, str]:
    options = BatchOptions(select=rule, any_modality=True)
    jobs = find_jobs([folder], Target(("MR",), ("MR",)), out=folder / "out", options=options)
    return {job.inputs[0].split("/")[0]: job.verdict for job in jobs}


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ("", "abcd.nii.gz"),
        ("modality=MR", "ab"),
        ("description~HippoCrop", "bc"),
        ("modality=MR description~HippoCrop", "b"),
        ("description~HippoCrop modality=MR or kind=volume", "bd.nii.gz"),
        ("modality!=CT", "abd.nii.gz"),
        ("description=''", "d.nii.gz"),
        ("slices>30", ""),
    ],
)
def test_a_rule_takes_series_and_files(rule: str, taken: str, mixed: Path) -> None:
    found = verdicts(mixed, rule)
    assert set(found) == {"a", "b", "c", "d.nii.gz", "notes.txt"}
    assert "".join(sorted(name for name, verdict in found.items() if verdict == "segment")) == taken
    assert {verdict for name, verdict in found.items() if name not in taken or name == "notes.txt"} <= {"ignored"}


def test_numbered_channels_are_taken_or_left_together(tmp_path: Path, scan: Callable[..., Volume]) -> None:
    for name in ("x_0000", "x_0001", "y_0000", "y_0001"):
        write_volume(scan(), tmp_path / f"{name}.nii.gz")
    target = Target(("T1", "T2"), ("T1", "T2"))
    jobs = find_jobs([tmp_path], target, out=tmp_path / "out", options=BatchOptions(select="id=x"))
    assert [(job.id, job.verdict, len(job.inputs)) for job in jobs] == [
        ("x", "segment", 2),
        ("y", "ignored", 1),
        ("y_0001", "ignored", 1),
    ]


def test_the_manifest_names_the_rule_and_what_it_left_out(
    mixed: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    options = BatchOptions(select="modality=MR description~HippoCrop", formats=("nifti", "measurements"))
    manifest = run_batch(loading(make_model()), [mixed], out=out, options=options)
    document = json.loads((out / "manifest.json").read_text())
    assert document["counts"] == {"done": 1, "skipped": 0, "refused": 0, "failed": 0, "ignored": 4}
    assert document["options"]["select"] == "modality=MR description~HippoCrop"
    left = {case["inputs"][0][0]: case for case in document["cases"] if case["status"] == "ignored"}
    assert left["a"]["reason"].startswith("It does not meet description~HippoCrop.")
    assert left["c"]["reason"].startswith("It does not meet modality=MR.")
    assert "not-selected" in {f["code"] for f in left["d"]["findings"]}
    assert "not-selected" not in {f["code"] for f in left["n"]["findings"]}
    assert sum(len(case["inputs"]) for case in document["cases"]) == sum(p.is_file() for p in mixed.rglob("*"))
    said = (out / "manifest.json").read_text() + (out / "report.html").read_text() + repr(manifest)
    for word in ("Jane", "knee", "T1 Hippo"):
        assert word not in said


def test_the_models_own_rule_counts_unless_another_is_given(
    mixed: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    own = "modality=MR description~HippoCrop"
    load = loading(make_model(select=own))
    for asked, done, noted in ((None, 1, own), ("modality=MR", 2, "modality=MR"), ("", 3, "")):
        out = tmp_path / f"out{done}"
        manifest = run_batch(load, [mixed], out=out, options=BatchOptions(select=asked))
        assert manifest.counts["done"] == done
        assert manifest.options["select"] == noted


def test_where_nothing_is_meant_nothing_is_made(
    mixed: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    load = loading(make_model())
    none = run_batch(load, [mixed], out=out, options=BatchOptions(select="modality=PT"))
    assert none.counts == {"done": 0, "skipped": 0, "refused": 0, "failed": 0, "ignored": 5}
    assert not out.exists()
    assert run_batch(load, [mixed / "a"], out=out, options=BatchOptions()).counts["done"] == 1
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for how in ({"resume": True}, {"overwrite": True}):
        run_batch(load, [mixed / "notes.txt"], out=out, options=BatchOptions(**how))
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix != ".sqlite"} == {
            path: time for path, time in before.items() if path.suffix != ".sqlite"
        }
