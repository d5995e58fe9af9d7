from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medseg.errors import InputError, MedsegError
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.source_headers import slice_header, whole_header
from medseg.labels import LabelSet
from medseg.volume import Segmentation


@pytest.fixture
def source(tmp_path, make_image):
    """Return a small series on disk."""
    write_series(make_image(low=0, shape=(3, 4, 5)), tmp_path / "series", modality="CT")
    return find_series(tmp_path / "series")


def changed(path, **changes):
    with quiet(), pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(path)
        for keyword, value in changes.items():
            dataset.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), value)
        dataset.save_as(path)
    return path


def test_the_first_header_tells_of_patient_and_study(source):
    path = changed(source.paths[0], PatientName="Doe^Jane", SpecificCharacterSet="ISO_IR 100", StudyDescription="Größe")
    with quiet():
        header = whole_header(path)
    assert (header.PatientName, header.StudyDescription) == ("Doe^Jane", "Größe")
    assert header.SpecificCharacterSet == "ISO_IR 192"
    assert "PixelData" not in header


def test_of_the_others_only_references_and_places_are_read(source):
    path = changed(source.paths[1], StudyDescription="not needed", PixelSpacing=[1, 1])
    with quiet():
        header = slice_header(path)
    assert "StudyDescription" not in header
    assert header.SOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID
    assert len(header.ImagePositionPatient) == 3


def test_private_elements_are_left_behind(source):
    dataset = pydicom.dcmread(source.paths[0])
    dataset.private_block(0x0029, "ACME", create=True).add_new(1, "LO", "ours")
    dataset.save_as(source.paths[0])
    with quiet():
        assert not any(e.tag.is_private for e in whole_header(source.paths[0]))


def test_nested_words_that_break_their_own_rules_are_removed_too(source):
    inner = Dataset()
    inner.CodeValue, inner.CodingSchemeDesignator = "1", "99ACME"
    with pydicom.config.disable_value_validation():
        inner.CodeMeaning = "m" * 80
    path = changed(source.paths[0], ProcedureCodeSequence=[inner])
    with quiet():
        (item,) = whole_header(path).ProcedureCodeSequence
    assert "CodeMeaning" not in item
    assert item.CodingSchemeDesignator == "99ACME"


def test_sequences_without_end_are_cut(source):
    innermost = outer = Dataset()
    for _ in range(40):
        nested = Dataset()
        innermost.PurposeOfReferenceCodeSequence = [nested]
        innermost = nested
    path = changed(source.paths[0], ProcedureCodeSequence=[outer])
    with quiet():
        (item,) = whole_header(path).ProcedureCodeSequence
    depth = 0
    while "PurposeOfReferenceCodeSequence" in item:
        (item,), depth = item.PurposeOfReferenceCodeSequence, depth + 1
    assert depth < 10


@pytest.mark.parametrize("value", ["1.2.840.abc", "1.2\\1.3", "not a uid", ""])
def test_what_is_no_uid_counts_as_none(value, source):
    path = changed(source.paths[0], StudyInstanceUID=value, FrameOfReferenceUID=value)
    with quiet():
        header = slice_header(path)
    assert not header.get("StudyInstanceUID")
    assert header.FrameOfReferenceUID.startswith("2.25.")


def test_uids_against_the_rules_are_kept_where_only_they_find_the_study(source):
    path = changed(source.paths[0], StudyInstanceUID="1.2.840.0012.07")
    with quiet():
        assert slice_header(path).StudyInstanceUID == "1.2.840.0012.07"


def test_class_and_instance_are_taken_from_the_file_meta_information(source):
    told = pydicom.dcmread(source.paths[0]).file_meta
    path = changed(source.paths[0], SOPInstanceUID="", SOPClassUID="")
    with quiet():
        header = slice_header(path)
    assert (header.SOPClassUID, header.SOPInstanceUID) == (
        told.MediaStorageSOPClassUID,
        told.MediaStorageSOPInstanceUID,
    )


@pytest.mark.parametrize("read", [whole_header, slice_header])
def test_a_file_that_is_not_there_is_named(read, tmp_path):
    with pytest.raises(InputError, match=r"x\.dcm") as caught:
        read(tmp_path / "x.dcm")
    assert caught.value.code == "unreadable"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.integers(132, 1500), st.integers(0, 255)), min_size=1, max_size=12))
def test_damaged_headers_end_in_a_seg_or_in_words(damage, source, tmp_path):
    path = source.paths[0]
    whole = path.read_bytes()
    broken = bytearray(whole)
    for place, value in damage:
        broken[min(place, len(whole) - 1)] = value
    path.write_bytes(bytes(broken))
    out = tmp_path / "seg.dcm"
    out.unlink(missing_ok=True)
    mask = Segmentation(np.ones(source.geometry.shape, np.uint8), source.geometry, LabelSet.from_names({1: "liver"}))
    words = ""
    try:
        write_seg(mask, out, source=source)
    except MedsegError as error:
        words = str(error)
    finally:
        path.write_bytes(whole)
    assert str(tmp_path) not in words
    assert out.exists() == (words == "")
