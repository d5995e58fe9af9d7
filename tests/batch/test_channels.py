from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from medseg.batch import BatchOptions, run_batch, run_cases
from medseg.batch.channels import rules_in_order
from medseg.batch.job import Target
from medseg.batch.jobs import find_jobs
from medseg.case import Case
from medseg.errors import PlanError
from medseg.io.dicom import read_seg, write_series
from medseg.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.batch.job import Job
    from medseg.volume import Volume

TARGET = Target(("CT", "MR"), ("CT", "MR"))
RULES = (("CT", "modality=CT"), ("MR", "modality=MR"))


def add(folder: Path, scan: Volume, modality: str, *, study: str, again: str = "", **tags: str) -> None:
    """Write a series of a study; `again` makes a second one of the same modality."""
    for path in write_series(scan, folder, modality=modality, name=study, description=again or modality):
        dataset = pydicom.dcmread(path)
        if again:
            dataset.SeriesInstanceUID += f".{len(again)}"
            dataset.SOPInstanceUID += f".{len(again)}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def jobs_in(folder: Path, target: Target = TARGET, **options: Any) -> tuple[Job, ...]:
    asked = BatchOptions(**({"channels": RULES} | options))
    return find_jobs([folder], target, out=folder / "out", options=asked)


@pytest.fixture
def study(tmp_path: Path, scan: Callable[..., Volume]) -> Path:
    """A CT and, turned around and shifted by a voxel, an MR of one study."""
    folder = tmp_path / "in"
    first = scan(2)
    turned = resample(scan(4), onto=first.geometry.reoriented("SAR"))
    add(folder / "ct", first, "CT", study="s")
    add(folder / "mr", turned, "MR", study="s")
    return folder


def test_the_series_of_a_study_become_the_channels_of_one_case(study: Path, scan: Callable[..., Volume]) -> None:
    (job,) = jobs_in(study)
    assert (job.verdict, job.reason) == ("segment", "")
    assert job.id.startswith("ct-")
    assert len(job.inputs) == 20
    volume, _ = job.read(TARGET)
    assert volume.channels == ("CT", "MR")
    assert volume.geometry.same_grid(scan().geometry)
    np.testing.assert_array_equal(volume.array, [scan(2).array[0], scan(4).array[0]])
    (other,) = jobs_in(study, Target(("MR", "CT"), ("MR", "CT")))
    assert other.id.startswith("mr-")
    assert other.content_sha256() != job.content_sha256()


def test_the_output_refers_to_the_first_channels_series(
    study: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    options = BatchOptions(channels=RULES, formats=("nifti", "dicom-seg"))
    load = loading(make_model(channels=("CT", "MR")))
    manifest = run_batch(load, [study], out=tmp_path / "out", options=options)
    (case,) = manifest.cases
    assert (case.status, case.reason) == ("done", "")
    seg = pydicom.dcmread(tmp_path / "out" / case.outputs["dicom-seg"])
    ct = pydicom.dcmread(next((study / "ct").iterdir()))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == ct.SeriesInstanceUID
    assert read_seg(tmp_path / "out" / case.outputs["dicom-seg"]).array.any()
    assert manifest.options["channels"] == dict(RULES)
    resumed = BatchOptions(channels=RULES, formats=("nifti", "dicom-seg"), resume=True)
    assert run_batch(load, [study], out=tmp_path / "out", options=resumed).counts["skipped"] == 1


def test_each_study_is_a_case_and_what_is_no_channel_is_left_out(
    study: Path, scan: Callable[..., Volume], tmp_path: Path
) -> None:
    add(study / "ct2", scan(), "CT", study="t")
    add(study / "mr2", scan(), "MR", study="t")
    add(study / "mr3", scan(), "MR", study="t", again="T2")
    rules = (("CT", "modality=CT"), ("1", "modality=MR description!~T2"))
    jobs = jobs_in(study, channels=rules)
    assert [job.verdict for job in jobs] == ["segment", "segment", "ignored"]
    assert jobs[2].reason.startswith("It meets the rule of no channel.")
    assert sum(len(job.inputs) for job in jobs) == 50
    chosen = jobs_in(study, channels=RULES, select="description!~T2")
    assert sorted(job.verdict for job in chosen) == ["ignored", "segment", "segment"]


def test_a_channel_without_a_series_or_with_two_is_refused(study: Path, scan: Callable[..., Volume]) -> None:
    add(study / "ct2", scan(), "CT", study="t")
    (first, lone) = jobs_in(study)
    assert (first.verdict, lone.verdict) == ("segment", "refused")
    assert {f.code for f in lone.findings} >= {"missing-channel"}
    assert "no series of the study meets the rule of the channel MR" in lone.reason.replace("No", "no")
    add(study / "mr2", scan(), "MR", study="s", again="second")
    refused = next(job for job in jobs_in(study) if job.id == first.id)
    assert "ambiguous-channel" in {f.code for f in refused.findings}
    assert refused.reason.count("mr-") == 2
    assert "second" not in refused.reason
    assert len(refused.inputs) == 30
    (both, *_) = jobs_in(study, channels=(("CT", "modality=CT"), ("MR", "kind=series modality=CT")))
    assert "meets the rules of the channels CT and MR" in both.reason


def test_a_study_of_which_nothing_is_meant_is_left_out(study: Path) -> None:
    jobs = jobs_in(study, channels=(("CT", "modality=PT"), ("MR", "modality=NM")))
    assert {job.verdict for job in jobs} == {"ignored"}


@pytest.mark.parametrize("frame", ["1.2.3", ""])
def test_series_in_other_frames_need_a_word(frame: str, tmp_path: Path, scan: Callable[..., Volume]) -> None:
    add(tmp_path / "ct", scan(), "CT", study="s")
    add(tmp_path / "mr", scan(), "MR", study="s", FrameOfReferenceUID=frame)
    (job,) = jobs_in(tmp_path)
    assert job.verdict == "refused"
    assert "not-registered" in {f.code for f in job.findings}
    assert "--assume-registered" in job.reason
    (assumed,) = jobs_in(tmp_path, assume_registered=True)
    assert assumed.verdict == "segment"


def test_series_apart_from_each_other_are_refused(tmp_path: Path, scan: Callable[..., Volume]) -> None:
    affine = scan().geometry.affine.copy()
    affine[2, 3] += 500
    add(tmp_path / "ct", scan(), "CT", study="s")
    add(tmp_path / "mr", scan(affine=affine), "MR", study="s")
    (job,) = jobs_in(tmp_path)
    assert "lies apart from" in job.reason


def test_a_channel_of_another_modality_is_refused_where_the_card_names_one(study: Path) -> None:
    swapped = (("CT", "modality=MR"), ("MR", "modality=CT"))
    (job,) = jobs_in(study, channels=swapped)
    assert "wrong-modality" in {f.code for f in job.findings}
    (taken,) = jobs_in(study, channels=swapped, any_modality=True)
    assert taken.verdict == "segment"
    names = Target(("T1", "T2"), ("T1", "T2"))
    (free,) = jobs_in(study, names, channels=(("T1", "modality=MR"), ("T2", "modality=CT")))
    assert free.verdict == "segment"


def test_files_keep_their_way_beside_rules(study: Path, scan: Callable[..., Volume]) -> None:
    from medseg.io import write_volume

    for name in ("x_0000", "x_0001", "y"):
        write_volume(scan(), study / f"{name}.nii.gz")
    assert {job.id: job.verdict for job in jobs_in(study) if not job.id.startswith("ct")} == {
        "x": "segment",
        "y": "refused",
    }


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([("PT", "id=a")], "no channel 'PT'; expected one of CT, MR"),
        ([("CT", "id=a")], "'MR' has no rule.*--channel MR="),
        ([("CT", "id=a"), ("0", "id=b")], "'0' has several rules"),
    ],
)
def test_rules_must_fit_the_model(asked: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        rules_in_order(asked, TARGET.channels)


def test_a_case_of_a_data_set_may_have_a_series_for_each_channel(
    study: Path, tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    cases = [Case("one", (study / "ct", study / "mr")), Case("two", (study / "ct", study / "ct"))]
    segmenter = loading(make_model(channels=("CT", "MR")))(None)
    manifest = run_cases(segmenter, cases, out=tmp_path / "out", options=BatchOptions())
    assert {case.id: case.status for case in manifest.cases} == {"one": "done", "two": "refused"}
