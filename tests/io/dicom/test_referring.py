from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io.dicom import find_series, inspect_folder, seg_obstacle, write_series
from medseg.io.dicom.referring import Reference, reference_datasets, references_of
from medseg.io.dicom.source import Slice, SourceSeries


@pytest.fixture
def make_source(tmp_path, make_image):
    """Return a function that writes a series, changes its headers, and finds it again."""

    def make(*, first=None, **changes):
        paths = write_series(make_image(low=0), tmp_path / "series", modality="CT")
        for path in paths:
            dataset = pydicom.dcmread(path)
            for keyword, value in {**changes, **((first or {}) if path == paths[0] else {})}.items():
                if value is None:
                    dataset.pop(keyword, None)
                else:
                    dataset.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), value)
            dataset.save_as(path)
        return find_series(tmp_path / "series")

    return make


def test_each_slice_is_referred_to_where_its_header_places_it(make_source):
    source = make_source()
    datasets = reference_datasets(source)
    for reference, path, place in zip(
        references_of(source, datasets),
        source.paths,
        source.geometry.to_lps([[z, 0, 0] for z in range(5)]),
        strict=True,
    ):
        header = pydicom.dcmread(path)
        assert reference == Reference(
            CTImageStorage, header.SOPInstanceUID, None, tuple(float(v) for v in header.ImagePositionPatient)
        )
        np.testing.assert_allclose(reference.position_lps, place, atol=1e-6)


def test_one_frame_in_a_classic_object_has_no_number(make_source):
    source = make_source(NumberOfFrames=1)
    assert {r.frame for r in references_of(source, reference_datasets(source))} == {None}


@pytest.mark.parametrize(
    "absent", ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"]
)
def test_attributes_that_may_be_empty_may_be_absent(absent, make_source):
    source = make_source(**{absent: None})
    assert all(absent in dataset for dataset in reference_datasets(source))
    assert seg_obstacle(source) is None


@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning", "ignore:A value of type:UserWarning")
@pytest.mark.filterwarnings("ignore:The value length:UserWarning", "ignore:Value exceeds:UserWarning")
def test_malformed_texts_become_empty(make_source, tmp_path):
    with pydicom.config.disable_value_validation():
        source = make_source(PatientBirthDate="around 1950", PatientSex="not known to us", AccessionNumber="9" * 40)
    first = reference_datasets(source)[0]
    assert [str(first[k].value) for k in ("PatientBirthDate", "PatientSex", "AccessionNumber")] == ["", "", ""]


def test_a_frame_of_reference_is_derived_from_the_series(make_source):
    source = make_source(FrameOfReferenceUID=None)
    first, second = ({d.FrameOfReferenceUID for d in reference_datasets(source)} for _ in range(2))
    assert first == second
    assert len(first) == 1


def test_two_files_of_one_uid_are_refused(make_source):
    source = make_source()
    for path in source.paths[:2]:
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        dataset.save_as(path)
    assert "share one SOPInstanceUID" in seg_obstacle(source).message


def test_files_of_several_studies_are_refused(make_source):
    source = make_source()
    dataset = pydicom.dcmread(source.paths[0])
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.save_as(source.paths[0])
    assert "several studies" in seg_obstacle(source).message


@pytest.mark.parametrize("case", ["xray_monochrome1", "cr_no_preamble", "ultrasound_palette"])
def test_an_image_without_a_place_is_refused_in_words(case, test_data):
    items = [i for i in inspect_folder(test_data / "dicom_edge" / case).items if i.source is not None]
    assert items
    for item in items:
        found = seg_obstacle(item.source)
        assert found.code == "format-not-applicable"
        assert found.message.endswith("the image has no place in the patient")


def test_a_series_without_a_grid_is_refused_in_words(make_source):
    source = make_source()
    bare = SourceSeries("ct-1", "CT", source.volumes, None)
    assert "span no grid" in seg_obstacle(bare).message


def test_files_that_moved_since_are_noticed(make_source):
    source = make_source()
    dataset = pydicom.dcmread(source.paths[2])
    dataset.ImagePositionPatient = [float(v) + 1 for v in dataset.ImagePositionPatient]
    dataset.save_as(source.paths[2])
    with pytest.raises(GeometryError, match="off its place"):
        references_of(source, reference_datasets(source))


def test_a_file_that_went_is_named_without_its_folder(make_source, tmp_path):
    source = make_source()
    source.paths[1].unlink()
    with pytest.raises(InputError) as caught:
        reference_datasets(source)
    assert caught.value.code == "unreadable"
    assert str(tmp_path) not in str(caught.value)


def test_a_frame_lies_where_its_own_group_says(tmp_path, test_data):
    (path,) = [p for p in (test_data / "dicom_edge" / "enhanced_ct").iterdir() if p.is_file()]
    wanted = references_of(find_series(path), reference_datasets(find_series(path)))
    dataset = pydicom.dcmread(path)
    dataset.ImagePositionPatient = [1, 2, 3]  # some converters leave that of one frame there
    dataset.save_as(tmp_path / "odd.dcm")
    source = find_series(tmp_path / "odd.dcm")
    assert references_of(source, reference_datasets(source)) == wanted


def test_tiles_of_a_mosaic_lie_where_the_grid_says(make_source):
    source = make_source()
    grid = Geometry((4, 3, 3), source.geometry.affine)
    tiles = SourceSeries("mr-1", "MR", (tuple(Slice(source.paths[0], tile=z) for z in range(4)),), grid)
    found = references_of(tiles, reference_datasets(tiles))
    np.testing.assert_allclose([r.position_lps for r in found], grid.to_lps([[z, 0, 0] for z in range(4)]))
    assert not any(r.is_whole for r in found)
    assert len({r.sop_instance for r in found}) == 1
