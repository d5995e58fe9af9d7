from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.batch import BatchOptions
from medseg.batch.job import Job, Target
from medseg.batch.jobs import find_jobs, job_of
from medseg.case import Case
from medseg.errors import InputError
from medseg.io import write_volume
from medseg.io.dicom.write import write_series
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE = Target(("MR",), ("MR",))
TWO = Target(("T1", "T2"), ("T1", "T2"))


def jobs_in(
    *inputs: Path, target: Target = ONE, out: Path | None = None, options: BatchOptions | None = None
) -> dict[str, Job]:
    nowhere = inputs[0] / "no-such-folder"
    return {job.id: job for job in find_jobs(inputs, target, out=out or nowhere, options=options or BatchOptions())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


def test_a_model_of_two_channels_takes_numbered_files_together(folder: Path, scan: Callable[..., Volume]) -> None:
    for name, first in (("x_0000", 1), ("x_0001", 2), ("y_0000", 1), ("z_0001", 1), ("plain", 1)):
        write_volume(scan(first), folder / f"{name}.nii.gz")
    jobs = jobs_in(folder, target=TWO)
    assert {job.id: job.verdict for job in jobs.values()} == {
        "x": "segment",
        "y": "refused",
        "z_0001": "refused",
        "plain": "refused",
    }
    assert jobs["x"].inputs == ("x_0000.nii.gz", "x_0001.nii.gz")
    assert "T1, T2" in jobs["y"].reason
    assert "case_0001.nii.gz" in jobs["y"].reason
    volume = jobs["x"].read(TWO).volume
    assert volume.channels == ("T1", "T2")
    np.testing.assert_array_equal(volume.array, [scan(1).array[0], scan(2).array[0]])


def test_a_case_of_a_data_set_may_lie_in_a_folder_of_any_name(folder: Path, scan: Callable[..., Volume]) -> None:
    write_series(scan(), folder / "case" / "out", modality="MR")
    job = job_of(Case("case", (folder / "case",)), ONE, options=BatchOptions())
    assert (job.id, job.verdict, job.reason) == ("case", "segment", "")


def test_a_second_channel_on_another_grid_is_taken_onto_the_first(folder: Path, scan: Callable[..., Volume]) -> None:
    first = scan()
    write_volume(first, folder / "x_0000.nii.gz")
    other = first.geometry.reoriented("LAI")
    flipped = Volume(np.ascontiguousarray(first.array.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]), other)
    write_volume(flipped, folder / "x_0001.nii.gz")
    volume = jobs_in(folder, target=TWO)["x"].read(TWO).volume
    np.testing.assert_array_equal(volume.array[0], volume.array[1])
    assert volume.geometry.same_grid(first.geometry)


def test_channels_are_also_taken_from_one_file(folder: Path, scan: Callable[..., Volume]) -> None:
    write_volume(scan(channels=2), folder / "both.nii.gz")
    write_volume(scan(channels=3), folder / "three.nii.gz")
    jobs = jobs_in(folder, target=TWO)
    assert jobs["both"].verdict == "segment"
    assert jobs["both"].read(TWO).volume.array.shape[0] == 2
    assert jobs["three"].verdict == "refused"


def test_one_volume_of_a_4d_file_is_chosen_by_number(folder: Path, scan: Callable[..., Volume]) -> None:
    write_volume(scan(channels=3), folder / "four.nii.gz")
    write_volume(scan(), folder / "three.nii.gz")
    assert jobs_in(folder)["four"].verdict == "refused"
    assert "--volume" in jobs_in(folder)["four"].reason
    chosen = jobs_in(folder, options=BatchOptions(volume=2))
    assert chosen["four"].verdict == chosen["three"].verdict == "segment"
    np.testing.assert_array_equal(chosen["four"].read(ONE).volume.array, scan().array)
    np.testing.assert_array_equal(chosen["three"].read(ONE).volume.array, scan().array)
    beyond = jobs_in(folder, options=BatchOptions(volume=3))["four"]
    assert beyond.verdict == "refused"
    assert "0 to 2" in beyond.reason


@pytest.mark.parametrize(("named", "accepted"), [("CT", True), ("ct", True), ("MR", False), ("MRI", False)])
def test_a_series_of_a_modality_the_card_does_not_name_is_refused(
    named: str, accepted: bool, folder: Path, scan: Callable[..., Volume]
) -> None:
    write_series(scan(), folder / "series", modality="CT")
    target = Target(("image",), (named,))
    (job,) = jobs_in(folder, target=target).values()
    assert (job.verdict == "segment") is accepted
    assert job.id.startswith("ct-")
    (taken,) = jobs_in(folder, target=target, options=BatchOptions(any_modality=True)).values()
    assert taken.verdict == "segment"
    if not accepted:
        assert "wrong-modality" in {f.code for f in job.findings}
        assert "--any-modality" in job.reason


def test_data_sets_words_for_modalities_are_understood() -> None:
    assert Target(("a",), ("MRI",)).takes("MR")
    assert Target(("a",), ("PET",)).takes("PT")
    assert not Target(("a",), ("MR",)).takes(None)


def test_a_series_alone_does_not_fill_two_channels(folder: Path, scan: Callable[..., Volume]) -> None:
    write_series(scan(), folder / "series", modality="MR")
    (job,) = jobs_in(folder, target=Target(("MR", "MR"), ("MR", "MR"))).values()
    assert job.verdict == "refused"
    assert "2 channels" in job.reason


def test_equal_names_in_different_places_get_different_ids(tmp_path: Path, scan: Callable[..., Volume]) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "deep").mkdir(parents=True)
        write_volume(scan(), tmp_path / place / "a.nii.gz")
        write_volume(scan(), tmp_path / place / "deep" / "A.nii.gz")
    jobs = jobs_in(tmp_path / "one", tmp_path / "two")
    assert len(jobs) == 4
    assert len({name.lower() for name in jobs}) == 4
    again = jobs_in(tmp_path / "one", tmp_path / "two")
    assert list(again) == list(jobs)


def test_an_input_given_twice_counts_once(folder: Path, scan: Callable[..., Volume]) -> None:
    write_volume(scan(), folder / "a.nii.gz")
    assert list(jobs_in(folder, folder / "a.nii.gz", folder)) == ["a"]


def test_a_single_file_is_named_by_its_name(folder: Path, scan: Callable[..., Volume]) -> None:
    write_volume(scan(), folder / "a.nii.gz")
    assert jobs_in(folder / "a.nii.gz")["a"].inputs == ("a.nii.gz",)


def test_a_colour_picture_is_refused_when_read_for_one_channel(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((20, 20, 3), (10, 20, 30), np.uint8)).save(folder / "rgb.png")
    with pytest.raises(InputError, match="has 3 channels; expected 1"):
        jobs_in(folder)["rgb"].read(ONE)


def test_grey_and_colour_pictures_come_with_the_channels_of_the_model(folder: Path) -> None:
    from PIL import Image

    grey = np.arange(400, dtype=np.uint8).reshape(20, 20)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(np.repeat(grey[..., None], 3, axis=-1)).save(folder / "equal.png")
    colours = Target(("red", "green", "blue"), ())
    for name in ("grey", "equal"):
        volume = jobs_in(folder)[name].read(colours).volume
        assert volume.channels == colours.channels
        np.testing.assert_array_equal(volume.array[:, 0], np.stack([grey] * 3))
        np.testing.assert_array_equal(jobs_in(folder)[name].read(ONE).volume.array, grey[None, None])
    with pytest.raises(InputError, match="has 1 channels; expected 3"):
        jobs_in(folder)["grey"].read(Target(("T1", "T2", "FLAIR"), ()))


def test_numbered_colour_pictures_are_cases_and_no_channels(folder: Path) -> None:
    from PIL import Image

    for n in range(3):
        Image.fromarray(np.full((20, 20, 3), (n, 20, 30), np.uint8)).save(folder / f"frame_{n:04d}.png")
    jobs = jobs_in(folder, target=Target(("red", "green", "blue"), ()))
    assert {name: job.inputs for name, job in jobs.items()} == {
        name: (f"frame_{n:04d}.png",) for n, name in enumerate(("frame", "frame_0001", "frame_0002"))
    }


def test_the_hash_of_a_job_follows_content_not_names(folder: Path, scan: Callable[..., Volume]) -> None:
    write_volume(scan(1), folder / "a.nrrd")
    (folder / "b.nrrd").write_bytes((folder / "a.nrrd").read_bytes())
    write_volume(scan(2), folder / "c.nrrd")
    a, b, c = (jobs_in(folder)[name].content_sha256() for name in "abc")
    assert a == b != c
