"""Marks of series, study and patient, to be compared only."""

from __future__ import annotations

import pydicom
import pytest

from medseg.io.dicom import find_series, origin_of, write_series
from medseg.io.dicom.header import lengths
from medseg.io.dicom.origin import series_uid_of


@pytest.fixture
def written(tmp_path, make_image):
    """Write a series; with patient and date of birth."""

    def write(name, study, patient="", born=""):
        for path in write_series(make_image(low=0), tmp_path / name, name=study):
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.PatientBirthDate = patient, born
            dataset.save_as(path)
        return tmp_path / name

    return write


def test_marks_are_equal_where_study_or_patient_is(written):
    one, again = origin_of(written("a", "s", "7", "19500101")), origin_of(written("b", "s", "7", "19500101"))
    later, other = origin_of(written("c", "t", "7", "19500101")), origin_of(written("d", "t", "7", "19600101"))
    assert one == again
    assert (one.study == later.study, one.patient == later.patient) == (False, True)
    assert (later.study == other.study, later.patient == other.patient) == (True, False)


def test_a_patient_without_id_has_no_mark(written):
    assert origin_of(written("a", "s")).patient == ""


def test_foreign_files_are_passed_over(written):
    folder = written("a", "s", "7")
    wanted = origin_of(folder)
    (folder / "0.txt").write_text("notes")
    (folder / "1.dcm").write_bytes(b"")
    assert origin_of(folder) == wanted
    assert origin_of(folder / "0.txt") == ("", "")
    assert origin_of(next(folder.glob("slice*"))) == wanted


def test_a_file_that_inflates_without_bounds_is_passed_over(written, monkeypatch):
    path = next(written("a", "s", "7").glob("slice*"))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(2**22)
    dataset.save_as(path)
    assert origin_of(path).study
    monkeypatch.setattr(lengths, "_MAX_INFLATED", 2**21)
    assert origin_of(path) == ("", "")


def test_marks_hold_nothing_of_the_header(written):
    folder = written("a", "s", "Zyxwvu")
    header = pydicom.dcmread(next(folder.iterdir()))
    assert not any(str(value) in repr(origin_of(folder)) for value in ("Zyxwvu", header.StudyInstanceUID))


def test_the_series_is_that_of_the_image(written, draw_boxes):
    folder = written("a", "s")
    draw_boxes(folder / "0.dcm", find_series(folder).geometry, [])
    assert series_uid_of(folder) == pydicom.dcmread(find_series(folder).paths[0]).SeriesInstanceUID
