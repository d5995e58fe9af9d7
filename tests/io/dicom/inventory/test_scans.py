"""Several scans under one series UID."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medseg.io.dicom import inspect_folder, read_series, write_series


@pytest.fixture
def write_scan(tmp_path, make_image):
    """Return a function that writes slices `at` these heights as a part of one series, and gives the image."""

    def write(at, **elements):
        folder = tmp_path / f"part{len(list(tmp_path.glob('part*')))}"
        image = make_image(shape=(len(at), 4, 5), seed=len(folder.name) + int(folder.name[4:]))
        for n, (path, z) in enumerate(zip(write_series(image, folder, name="s"), at, strict=True)):
            d = pydicom.dcmread(path)
            d.SeriesInstanceUID, d.StudyInstanceUID, d.FrameOfReferenceUID = "1.2.2", "1.2.1", "1.2.3"
            d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            d.ImagePositionPatient = [0, 0, z]
            for keyword, value in elements.items():
                setattr(d, keyword, value(n) if callable(value) else value)
            d.save_as(path)
        return image

    return write


def found(folder):
    return [(i.status, i.volumes, i.shape[0], {f.code for f in i.findings}) for i in inspect_folder(folder).items]


EVEN = (0, 3, 6, 9)


def test_acquisitions_at_the_same_places_stay_together(tmp_path, write_scan):
    first, second = write_scan(EVEN, AcquisitionNumber=1), write_scan(EVEN, AcquisitionNumber=3)
    below = write_scan((-12, -9, -6, -3), AcquisitionNumber=2)
    twice, once = inspect_folder(tmp_path).items
    assert (twice.status, twice.volumes, once.status, once.volumes) == ("repairable", 2, "ok", 1)
    for n, image in enumerate((first, second)):
        np.testing.assert_array_equal(read_series(twice, volume=n).array, image.array)
    np.testing.assert_array_equal(read_series(once).array, below.array)


def test_a_last_time_point_that_was_broken_off_stands_alone(tmp_path, write_scan):
    for t, at in enumerate((EVEN, EVEN, EVEN[:2])):
        write_scan(at, TemporalPositionIdentifier=t + 1)
    parted = {"several-acquisitions"}
    assert found(tmp_path) == [("repairable", 2, 4, {"four-d", *parted}), ("ok", 1, 2, parted)]


def test_time_points_on_shifted_grids_are_no_stack(tmp_path, write_scan):
    for t in range(2):
        write_scan([z + 0.3 * t for z in EVEN], TemporalPositionIdentifier=t + 1)
    assert found(tmp_path) == [("ok", 1, 4, {"several-acquisitions"})] * 2


def test_acquisitions_far_apart_are_two_scans_but_one_with_a_gap_is_one(tmp_path, write_scan):
    write_scan(EVEN, AcquisitionNumber=1)
    write_scan([z + 300 for z in EVEN], AcquisitionNumber=2)
    assert found(tmp_path) == [("ok", 1, 4, {"several-acquisitions"})] * 2


def test_acquisitions_far_apart_with_images_lost_between_are_one_scan(tmp_path, write_scan):
    write_scan(EVEN, AcquisitionNumber=1, InstanceNumber=lambda n: n + 1)
    write_scan([z + 300 for z in EVEN], AcquisitionNumber=9, InstanceNumber=lambda n: n + 101)
    assert found(tmp_path) == [("refused", 1, 8, {"missing-slice"})]


def test_acquisitions_with_a_small_gap_are_one_scan(tmp_path, write_scan):
    write_scan(EVEN, AcquisitionNumber=1)
    write_scan([z + 15 for z in EVEN], AcquisitionNumber=2)
    assert found(tmp_path) == [("repairable", 1, 8, {"missing-slice"})]


def test_a_number_for_every_slice_parts_nothing(tmp_path, write_scan):
    write_scan((0, 3, 6, 6, 9), AcquisitionNumber=lambda n: n)
    assert found(tmp_path) == [("refused", 1, 4, {"duplicate-position"})]


@pytest.mark.parametrize("uid", [lambda n: f"1.2.3.{n}", lambda n: "" if n else "1.2.3"])
def test_frames_of_reference_of_every_slice_its_own_or_absent_part_nothing(uid, tmp_path, write_scan):
    image = write_scan(EVEN, FrameOfReferenceUID=uid)
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, item.shape[0]) == ("ok", 4)
    assert ("mixed-frame" in {f.code for f in item.findings}) == (uid(1) == "1.2.3.1")
    assert item.geometry.frame_of_reference_uid == (None if uid(1) == "1.2.3.1" else "1.2.3")
    np.testing.assert_array_equal(read_series(item).array, image.array)


def test_two_frames_of_reference_are_two_scans(tmp_path, write_scan):
    write_scan(EVEN, FrameOfReferenceUID="1.2.3.1")
    write_scan(EVEN, FrameOfReferenceUID="1.2.3.2")
    assert found(tmp_path) == [("ok", 1, 4, {"mixed-frame"})] * 2


def test_what_no_header_tells_apart_a_person_may_put_into_folders(tmp_path, write_scan):
    write_scan(EVEN)
    write_scan(EVEN[:3])
    assert found(tmp_path) == [("ok", 1, 4, {"several-acquisitions"}), ("ok", 1, 3, {"several-acquisitions"})]
    for n, path in enumerate(sorted(tmp_path.glob("*/*"))):
        path.rename(tmp_path / f"{n}")
    assert found(tmp_path) == [("refused", 1, 4, {"duplicate-position"})]


def test_folders_that_an_archive_chose_by_chance_part_nothing(tmp_path, write_scan):
    write_scan((0, 3, 6, 9, 15, 18))
    for n, path in enumerate(sorted(tmp_path.glob("*/*"))):
        (tmp_path / f"{n % 4:02x}").mkdir(exist_ok=True)
        path.rename(tmp_path / f"{n % 4:02x}" / f"{n}")
    assert found(tmp_path) == [("repairable", 1, 6, {"missing-slice"})]


def test_remarks_behind_the_meaning_of_image_types_part_no_stack(tmp_path, write_scan):
    """Two vendors' remarks in turn, so that each alone has gaps: one scan, at the spacing it was made with."""
    write_scan((0, 3, 6, 9, 12), ImageType=lambda n: ["ORIGINAL", "PRIMARY", "AXIAL", ("A", "B", "C")[n % 3]])
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, item.shape[0], item.spacing_mm[0]) == ("ok", 5, 3.0)
    assert {f.code for f in item.findings} == {"mixed-type"}


def test_remarks_on_the_same_places_part_fat_from_water(tmp_path, write_scan):
    for name in ("WATER", "FAT"):
        write_scan(EVEN, ImageType=["DERIVED", "PRIMARY", "DIXON", name])
    assert found(tmp_path) == [("ok", 1, 4, {"mixed-type"})] * 2


def test_a_slice_cut_off_within_its_header_is_no_foreign_file(tmp_path, write_scan):
    write_scan(EVEN)
    last = max(tmp_path.glob("*/*"))
    last.write_bytes(last.read_bytes()[: last.read_bytes().index(b"\x28\x00\x02\x00")])  # before group 0028: the size
    whole, cut = sorted(inspect_folder(tmp_path).items, key=lambda item: item.status)
    assert (whole.status, whole.shape[0], cut.status, cut.paths) == (
        "ok",
        3,
        "refused",
        (last.relative_to(tmp_path).as_posix(),),
    )
    assert "no-pixel-data" in {f.code for f in cut.findings}
    assert "do not say where they lie" in " ".join(f.message for f in whole.findings)
