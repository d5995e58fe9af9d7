"""RTSTRUCT in: clinical contours give the masks beside them; damaged and foreign ones a sentence."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io import read_segmentation
from medseg.io.dicom import find_series
from medseg.io.dicom.rtstruct import rois
from medseg.io.dicom.rtstruct.reading import rasterised, read_rtstruct, rois_of
from medseg.labels import LabelSet

PLANTED = "Zyxwvu^Planted"
FRAME = "1.2.826.0.1.7"
GRID = Geometry((4, 8, 9), np.array([[0, 0, 0.5, -10], [0, 0.5, 0, 20], [3, 0, 0, 30], [0, 0, 0, 1]]), FRAME)


def square(z, low, high, kind="CLOSED_PLANAR"):
    """Return a contour by indices of the grid: a square from `low` to `high`, both along y and x."""
    corners = [(z, low, low), (z, low, high), (z, high, high), (z, high, low)]
    return kind, GRID.to_lps(corners)


def item(**values):
    result = Dataset()
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return result


def rtstruct(*contours, name="GTV", frame=FRAME, syntax=ImplicitVRLittleEndian):
    """Return an RTSTRUCT of one structure."""
    drawn = [
        item(
            ContourGeometricType=kind,
            NumberOfContourPoints=len(points),
            ContourData=[f"{v:.4f}" for v in np.ravel(points)],
        )
        for kind, points in contours
    ]
    dataset = item(
        PatientName=PLANTED,
        PatientID=PLANTED,
        Modality="RTSTRUCT",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3",
        SOPInstanceUID="1.2.826.0.1.8",
        StructureSetROISequence=[item(ROINumber=4, ROIName=name, ReferencedFrameOfReferenceUID=frame)],
        ROIContourSequence=[item(ReferencedROINumber=4, ROIDisplayColor=[1, 2, 3], ContourSequence=drawn)],
        RTROIObservationsSequence=[item(ObservationNumber=1, ReferencedROINumber=4)],
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


@pytest.fixture
def roi(tmp_path):
    """Return a function that writes contours and reads the structure of them."""

    def make(*contours, **more):
        rtstruct(*contours, **more).save_as(tmp_path / "rs.dcm", enforce_file_format=True)
        (found,) = rois_of(tmp_path / "rs.dcm")
        return found

    return make


# -- real files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
@pytest.mark.parametrize("patient", ["STS_002", "STS_025"])
def test_clinical_contours_equal_the_mask_beside_them(patient, modality, test_data):
    folder = test_data / "dicom" / "sarcoma" / patient
    grid = find_series(folder / "dicom" / modality / "image").geometry
    ((roi, mask),) = read_rtstruct(folder / "dicom" / modality / "mask" / "RS.dcm", onto=grid)
    assert roi.name == f"GTV_Mass_{modality}"
    assert roi.color == (255, 0, 0)
    reference = read_segmentation(
        folder / "nifti" / f"{modality}_mask.nii.gz", labels=LabelSet.from_names({1: "GTV_Mass"})
    )
    inside = reference.geometry.to_lps(np.argwhere(reference.array))
    index = np.rint(grid.to_index(inside)).astype(int)
    wanted = np.zeros(grid.shape, bool)
    wanted[tuple(index.T)] = True
    np.testing.assert_array_equal(mask, wanted)


def test_it_names_the_series_it_was_drawn_on(test_data):
    folder = test_data / "dicom" / "sarcoma" / "STS_002" / "dicom" / "CT"
    (roi,) = rois_of(folder / "mask" / "RS.dcm")
    series = find_series(folder / "image")
    assert roi.series_uids == (pydicom.dcmread(series.paths[0]).SeriesInstanceUID,)
    assert roi.frame_of_reference_uid == series.geometry.frame_of_reference_uid


def test_an_invented_frame_of_reference_is_said_and_may_be_passed_over(test_data):
    folder = test_data / "dicom_edge" / "rtstruct_with_images"
    series = find_series(folder)
    (path,) = (p for p in folder.iterdir() if pydicom.dcmread(p, force=True).Modality == "RTSTRUCT")
    (roi,) = rois_of(path)
    with pytest.raises(GeometryError, match="another frame of reference"):
        list(read_rtstruct(path, onto=series.geometry))
    assert pydicom.dcmread(series.paths[0]).SeriesInstanceUID in roi.series_uids
    ((_, mask),) = read_rtstruct(path, onto=series.geometry, same_frame=True)
    assert mask.any(axis=(1, 2)).tolist() == [True, False]
    in_frame, in_hole = (tuple(np.rint(series.geometry.to_index((a, a, 60.0))).astype(int)) for a in (-50.0, -39.0))
    assert mask[in_frame]
    assert not mask[in_hole]


# -- what contours enclose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_contour_fills_its_slice(syntax, roi):
    found = roi(square(2, 1.5, 4.5), syntax=syntax)
    assert (found.number, found.name, found.color, found.code) == (4, "GTV", (1, 2, 3), None)
    wanted = np.zeros(GRID.shape, bool)
    wanted[2, 2:5, 2:5] = True
    np.testing.assert_array_equal(rasterised(found, GRID), wanted)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_contours_in_contours_are_holes_and_islands(kind, roi):
    found = rasterised(roi(*(square(1, 0.5 + n, 7.5 - n, kind) for n in range(3))), GRID)[1]
    wanted = np.zeros(GRID.shape[1:], bool)
    wanted[1:8, 1:8], wanted[2:7, 2:7], wanted[3:6, 3:6] = True, False, True
    np.testing.assert_array_equal(found, wanted)


def test_a_contour_that_is_there_twice_counts_once(roi):
    once, inner = square(0, 0.5, 6.5), square(0, 2.5, 4.5)
    np.testing.assert_array_equal(rasterised(roi(once, inner, once), GRID), rasterised(roi(once, inner), GRID))


def test_a_keyhole_is_a_hole(roi):
    (kind, outer), (_, inner) = square(0, 0.5, 6.5), square(0, 2.5, 4.5)
    loop = np.vstack([outer, outer[:1], inner[::-1], inner[-1:]])
    found = rasterised(roi((kind, loop)), GRID)[0]
    assert found.sum() == 36 - 4
    assert not found[3:5, 3:5].any()


def test_points_and_open_lines_enclose_nothing_and_are_said(roi):
    found = roi(square(1, 1, 5, "OPEN_PLANAR"), ("POINT", GRID.to_lps([(1, 2, 2)])), square(2, 1.5, 2.5))
    assert [contour.kind for contour in found.contours] == ["OPEN_PLANAR", "POINT", "CLOSED_PLANAR"]
    assert len(found.notes) == 2
    assert any("POINT" in note for note in found.notes)
    assert rasterised(found, GRID).sum() == 1


def test_a_structure_without_contours_is_empty(roi):
    assert not rasterised(roi(), GRID).any()


def test_oblique_and_sheared_slices_are_filled_in_their_plane(roi, make_grid):
    sheared = make_grid("SPL", shape=(4, 8, 9), rotation_deg=(20, 30, 10), tilt_deg=15.0)
    corners = np.array([(2, 1.5, 1.5), (2, 1.5, 4.5), (2, 4.5, 4.5), (2, 4.5, 1.5)])
    found = rasterised(roi(("CLOSED_PLANAR", sheared.to_lps(corners))), sheared)
    assert found[2, 2:5, 2:5].all()
    assert found.sum() == 9


def test_slices_may_lie_at_uneven_stations(roi):
    found = rasterised(roi(square(0, 1.5, 2.5), square(3, 1.5, 3.5)), GRID, stations=(0.0, 1.0, 3.0))
    assert found.sum(axis=(1, 2)).tolist() == [1, 0, 4]


# -- contours that do not belong to the image ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contours", "stations", "words"),
    [
        ([square(4.7, 1, 3)], None, "above or below"),
        ([square(-1, 1, 3), square(0, 1, 3)], None, "1 of 2 contours of 'GTV' lie above or below"),
        ([square(2, 1, 3)], (0.0, 1.0, 3.5), "between its slices"),
        ([square(n + 0.5, 1, 3) for n in range(3)], None, "3 of 3 contours of 'GTV' lie between its slices"),
        ([square(1.8, 1, 3), square(2.2, 1, 3)], None, "several planes"),
        ([square(1, 20, 25)], None, "beside the image"),
        ([("CLOSED_PLANAR", GRID.to_lps([(0, 1, 1), (0, 1, 4), (3, 4, 4)]))], None, "cross the slices"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contours_off_the_slices_are_refused_in_words(contours, stations, words, roi):
    with pytest.raises(GeometryError, match=words):
        rasterised(roi(*contours), GRID, stations=stations)


def test_another_frame_of_reference_is_refused(roi):
    with pytest.raises(GeometryError, match="another frame of reference"):
        rasterised(roi(square(1, 1, 3), frame="1.2.3"), GRID)


def test_the_nearest_slice_gets_what_lies_a_little_off(roi):
    assert rasterised(roi(square(1.4, 1.5, 2.5)), GRID).sum(axis=(1, 2)).tolist() == [0, 1, 0, 0]


def test_an_error_names_the_file_alone(roi, tmp_path):
    roi(square(9, 1, 3))
    with pytest.raises(GeometryError) as caught:
        list(read_rtstruct(tmp_path / "rs.dcm", onto=GRID))
    assert str(caught.value).startswith("rs.dcm: ")
    assert str(tmp_path) not in str(caught.value)


# -- hostile files -------------------------------------------------------------------------------------------------


def damaged(**values):
    """Return an RTSTRUCT whose first contour holds these values, as they are."""
    dataset = rtstruct(square(1, 1, 3))
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    for keyword, value in values.items():
        tag = pydicom.tag.Tag(keyword)
        contour[tag] = pydicom.dataelem.RawDataElement(tag, "UN", len(value), value, 0, True, True)
        contour.set_original_encoding(is_implicit_vr=True, is_little_endian=True, character_encoding="iso8859")
    return dataset


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ContourData": b"1\\2\\3\\4 "}, "holds 4 coordinates"),
        ({"ContourData": b"1\\2\\3 "}, "three for each of 4 points"),
        ({"ContourData": b"1\\2\\3\\4\\5\\6\\7\\8\\9\\0\\1\\x "}, "no number"),
        ({"ContourData": b"1\\2\\3\\4\\5\\6\\7\\8\\9\\0\\1\\nan "}, "nowhere in a patient"),
        ({"ContourData": b"1\\2\\3\\4\\5\\6\\7\\8\\9\\0\\1\\1e99"}, "nowhere in a patient"),
        ({"ContourData": b"1\\2\\3\\4\\5\\6\\7\\8\\9\\0\\\\ "}, "no number"),
        ({"NumberOfContourPoints": b"many"}, "can be read"),
    ],
    ids=str,
)
def test_damaged_contours_are_told_in_words(values, words, tmp_path):
    damaged(**values).save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=words) as caught:
        rois_of(tmp_path / "rs.dcm")
    assert caught.value.where == "rs.dcm"
    assert "Zyxwvu" not in str(caught.value)


def test_two_structures_of_one_number_are_refused(tmp_path):
    dataset = rtstruct(square(1, 1, 3))
    dataset.StructureSetROISequence.append(dataset.StructureSetROISequence[0])
    dataset.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="two structures have the number 4"):
        rois_of(tmp_path / "rs.dcm")


@pytest.mark.parametrize(("limit", "most"), [("_MAX_BYTES", 100), ("MAX_ITEMS", 2), ("_MAX_POINTS", 7)])
def test_sizes_are_bounded(limit, most, tmp_path, monkeypatch):
    rtstruct(square(1, 1, 3), square(2, 1, 3)).save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    assert len(rois_of(tmp_path / "rs.dcm")) == 1
    monkeypatch.setattr(rois, limit, most)
    with pytest.raises(InputError, match="at most"):
        rois_of(tmp_path / "rs.dcm")


def test_a_deflated_file_is_refused(tmp_path):
    rtstruct(square(1, 1, 3), syntax=DeflatedExplicitVRLittleEndian).save_as(
        tmp_path / "rs.dcm", enforce_file_format=True
    )
    with pytest.raises(InputError, match="deflated"):
        rois_of(tmp_path / "rs.dcm")


def test_other_files_are_refused(tmp_path, test_data):
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "zeros.dcm").write_bytes(bytes(500))
    for path in (
        tmp_path / "empty.dcm",
        tmp_path / "zeros.dcm",
        tmp_path / "absent.dcm",
        tmp_path,
        next((test_data / "dicom" / "sarcoma" / "STS_002" / "dicom" / "CT" / "image").iterdir()),
    ):
        with pytest.raises(InputError):
            rois_of(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the bytes of a sound file, and where to put a damaged one."""
    path = tmp_path_factory.mktemp("damage") / "rs.dcm"
    rtstruct(*(square(z, 1.5, 4.5) for z in range(3))).save_as(path, enforce_file_format=True)
    return path.read_bytes(), path


@settings(max_examples=300)
@given(data=st.data())
def test_any_damage_ends_in_a_sentence(whole, data):
    content, path = bytearray(whole[0]), whole[1]
    for place in data.draw(st.lists(st.integers(132, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(132, len(content)))])
    try:
        for _, mask in read_rtstruct(path, onto=GRID):
            assert mask.shape == GRID.shape
    except (InputError, GeometryError) as error:
        assert "Zyxwvu" not in str(error)  # noqa: PT017 - most damage is told, some harms nothing
