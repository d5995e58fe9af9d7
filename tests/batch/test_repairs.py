"""What is refused until a person allows a repair, and what is told of a repair that was made."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.batch import jobs as jobs_module
from medseg.batch.job import Target
from medseg.batch.jobs import find_jobs
from medseg.errors import OutputError, PlanError
from medseg.io import read_segmentation, write_volume
from medseg.io.dicom import inspect_folder, write_series
from medseg.io.dicom.findings import finding
from medseg.io.dicom.item import Inventory
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.batch.job import Job

MR = Target(("MR",), ("MR",))


def job_in(folder: Path, **options: Any) -> Job:
    (job,) = find_jobs([folder], MR, out=folder / "out", options=BatchOptions(**options))
    return job


@pytest.fixture
def four_d(tmp_path: Path, scan: Callable[..., Volume]) -> Path:
    """A series with two scans at the same positions."""
    folder = tmp_path / "in"
    for n, first in enumerate((2, 4)):
        for path in write_series(scan(first), folder / str(n), modality="MR"):
            dataset = pydicom.dcmread(path)
            dataset.TemporalPositionIdentifier = n + 1
            dataset.AcquisitionNumber = n + 1
            dataset.InstanceNumber = int(dataset.InstanceNumber) + 100 * n
            dataset.SOPInstanceUID += f".{n}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
    return folder


def test_one_volume_of_a_series_is_taken_when_named(four_d: Path, scan: Callable[..., Volume]) -> None:
    refused = job_in(four_d)
    assert refused.verdict == "refused"
    assert "--volume N" in refused.reason
    job = job_in(four_d, volume=1)
    assert job.verdict == "segment"
    assert job.volume is None
    assert job.source is not None
    assert len(job.source.volumes) == 1
    assert len(job.inputs) == 20
    (note,) = [f for f in job.findings if f.code == "four-d"]
    assert (note.effect, note.message) == ("ok", "volume 1 was taken, of 0 to 1, as --volume asks")
    np.testing.assert_array_equal(job.read(MR).volume.array, scan(4).array)
    beyond = job_in(four_d, volume=2)
    assert "no volume 2: the scan has 0 to 1" in beyond.reason


@pytest.mark.parametrize(
    ("code", "remedy", "options"),
    [
        ("missing-slice", "--on-irregular resample", {"on_irregular": "resample"}),
        ("mosaic", "--mosaic split", {"mosaic": "split"}),
    ],
)
def test_a_step_is_taken_when_allowed_and_told(
    code: str,
    remedy: str,
    options: dict[str, Any],
    tmp_path: Path,
    scan: Callable[..., Volume],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The inventory is made to find what the step is for, on a series that needs nothing else."""
    from medseg.io.dicom.source import Irregular

    write_series(scan(), tmp_path / "in", modality="MR")
    (item,) = inspect_folder(tmp_path / "in").items
    about = (finding(code, "something is uneven"),)
    assert item.source is not None
    assert item.geometry is not None
    uneven = Irregular(item.geometry, tuple(float(z) for z in range(10)))
    source = replace(item.source, findings=about, irregular=uneven if code == "missing-slice" else None)
    found = replace(item, findings=(*about, finding("oblique", "a little")), source=source)
    monkeypatch.setattr(jobs_module, "inspect_folder", lambda path, **_: Inventory(path, (found,)))
    refused = job_in(tmp_path / "in")
    assert refused.verdict == "refused"
    assert remedy in refused.reason
    job = job_in(tmp_path / "in", **options)
    assert job.verdict == "segment"
    assert [f.effect for f in job.findings] == ["ok", "ok"]
    (told,) = [f for f in job.findings if f.code == code]
    assert remedy in told.message
    assert told.severity == "warning"


def test_voxels_that_are_no_numbers_are_filled_on_request(
    tmp_path: Path, scan: Callable[..., Volume], make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    array = scan().array.astype(np.float32) - 5
    array[0, 0, 0, :3] = np.nan
    write_volume(Volume(array, scan().geometry), folder / "some.nii.gz")
    write_volume(Volume(np.full_like(array, np.nan), scan().geometry), folder / "all.nii.gz")
    load = loading(make_model())
    refused = run_batch(load, [folder], out=out, options=BatchOptions())
    assert {case.id: case.status for case in refused.cases} == {"some": "refused", "all": "refused"}
    assert all("--on-nonfinite fill" in case.reason for case in refused.cases)
    again = BatchOptions(on_nonfinite="fill", resume=True)
    manifest = run_batch(load, [folder], out=out, options=again)
    cases = {case.id: case for case in manifest.cases}
    assert (cases["some"].status, cases["all"].status) == ("done", "refused")
    assert "No voxel of the scan is a number" in cases["all"].reason
    (told,) = cases["some"].findings
    assert (told["code"], told["severity"]) == ("non-finite", "warning")
    assert told["message"].startswith("3 voxels")
    np.testing.assert_array_equal(read_segmentation(out / "some/segmentation.nii.gz").array, scan().array[0] > 500)
    document = json.loads((out / "manifest.json").read_text())
    assert document["options"]["repairs"]["on_nonfinite"] == "fill"
    assert run_batch(load, [folder], out=out, options=again).counts["skipped"] == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"volume": 0},
        {"on_irregular": "resample"},
        {"mosaic": "split"},
        {"on_nonfinite": "fill"},
        {"seg_type": "labelmap"},
        {"all_frames": True},
        {"channels": (("a", "id=b"),)},
        {"formats": ("png",)},
    ],
)
def test_a_finished_case_is_redone_where_it_would_come_out_otherwise(changed: dict[str, Any]) -> None:
    assert BatchOptions(**changed).fingerprint() != BatchOptions().fingerprint()


def test_what_only_picks_cases_redoes_none() -> None:
    asked = BatchOptions(select="modality=MR", any_modality=True, assume_registered=False, resume=True)
    assert asked.fingerprint() == BatchOptions().fingerprint()
    assert BatchOptions().fingerprint(mirrored=True) != BatchOptions().fingerprint()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"on_irregular": "guess"}, "--on-irregular was given 'guess'; expected refuse or resample"),
        ({"mosaic": "yes"}, "--mosaic"),
        ({"on_nonfinite": "zero"}, "--on-nonfinite"),
        ({"seg_type": "fractional"}, "--seg-type .*; expected binary or labelmap"),
        ({"select": "colour=red"}, "no field 'colour'"),
        ({"channels": (("a", "colour=red"),)}, "no field 'colour'"),
        ({"channels": (("a", "id=b"), ("a", "id=c"))}, "'a' has several rules"),
        ({"channels": (("a", " "),)}, "'a' has no rule"),
    ],
)
def test_what_is_not_offered_is_refused_in_a_sentence(asked: dict[str, Any], words: str) -> None:
    with pytest.raises((PlanError, OutputError), match=words):
        BatchOptions(**asked)
