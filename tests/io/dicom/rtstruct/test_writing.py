"""RTSTRUCT out: read back by headers alone, by other rasterisers, by the standard's checker."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import grid_points_in_poly

from medseg.errors import GeometryError, InputError, MissingExtraError, OutputError
from medseg.io.dicom import find_series, inspect_folder, write_series
from medseg.io.dicom.identity import Identity
from medseg.io.dicom.regularise import on_slices
from medseg.io.dicom.rtstruct import writing as rtstruct_module
from medseg.io.dicom.rtstruct.reading import rasterised, read_rtstruct, rois_of
from medseg.io.dicom.rtstruct.writing import write_rtstruct
from medseg.io.dicom.source import Repairs
from medseg.labels import Code, Label, LabelSet
from medseg.volume import Segmentation

LABELS = LabelSet(
    (
        Label(2, "liver", (200, 60, 40)),
        Label(5, "kidney_left", (40, 120, 220)),
        Label(7, "GTV", (1, 2, 3)),
        Label(9, "spleen", (9, 9, 9)),
        Label(300, "thing", (10, 200, 30), Code("99ACME", "T-1", "Our thing")),
    )
)
ABSENT = 9


def mask_on(source, seed=0, smooth=0.8):
    """Return a mask of blobs with holes and islands; one label is absent."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=source.geometry.shape), (0, smooth, smooth))
    noise *= 0.3 / noise.std()
    array = np.zeros(noise.shape, np.uint16)
    for label_id, level in ((2, 0.0), (5, 0.15), (7, 0.3), (300, 0.45)):
        array[noise > level] = label_id
    array[-1] = 0
    return Segmentation(array, source.geometry, LABELS)


@pytest.fixture
def make_case(tmp_path, make_image):
    """Return a function that writes a series and makes a mask on it."""

    def make(codes="SPL", *, modality="CT", shape=(5, 20, 24), **grid):
        paths = write_series(make_image(codes, low=0, shape=shape, **grid), tmp_path / "series", modality=modality)
        source = find_series(tmp_path / "series")
        return source, mask_on(source), paths

    return make


def in_pixels(contour, headers):
    """Return slice and vertices (y, x) in pixels of a contour, by the header of the image it refers to alone."""
    (image,) = contour.ContourImageSequence
    z = [str(h.SOPInstanceUID) for h in headers].index(image.ReferencedSOPInstanceUID)
    header = headers[z]
    points = np.array([float(v) for v in contour.ContourData]).reshape(-1, 3)
    off = points - np.array(header.ImagePositionPatient, float)
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    assert np.abs(off @ np.cross(row, column)).max() < 1e-3  # in the plane of its image
    return z, np.stack([off @ column / header.PixelSpacing[0], off @ row / header.PixelSpacing[1]], axis=1)


def from_headers(path, paths, shape, fill):
    """Return a mask of each structure by pydicom and `fill`."""
    headers = [pydicom.dcmread(p) for p in paths]
    found = {}
    for item in pydicom.dcmread(path).ROIContourSequence:
        mask = found.setdefault(int(item.ReferencedROINumber), np.zeros(shape, bool))
        for contour in item.get("ContourSequence") or []:
            z, polygon = in_pixels(contour, headers)
            mask[z] ^= fill(polygon, shape[1:])
    return found


def by_scikit_image(polygon, shape):
    return grid_points_in_poly(shape, np.vstack([polygon, polygon[:1]]))


def by_pillow(polygon, shape, zoom=9):
    picture = Image.new("1", (shape[1] * zoom, shape[0] * zoom))
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for y, x in (polygon + 0.5) * zoom], fill=1)
    return np.asarray(picture)[zoom // 2 :: zoom, zoom // 2 :: zoom]


GRIDS = [
    {},
    {"codes": "IPL"},
    {"codes": "PSL"},
    {"codes": "RSA"},
    {"rotation_deg": (12, -33, 51)},
    {"tilt_deg": 14.0},
    {"tilt_deg": -20.0, "rotation_deg": (3, 8, -5)},
]


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_structures_come_back_in_the_same_place(grid, modality, tmp_path, make_case):
    source, segmentation, _ = make_case(modality=modality, **grid)
    path = tmp_path / "rs.dcm"
    write_rtstruct(segmentation, path, source=source)
    for label, (roi, mask) in zip(LABELS, read_rtstruct(path, onto=source.geometry), strict=True):
        assert (roi.name, roi.color, roi.notes) == (label.name, label.color, ())
        assert bool(roi.contours) == (label.id != ABSENT)
        np.testing.assert_array_equal(mask, segmentation.array == label.id)
    for number, mask in from_headers(path, source.paths, segmentation.array.shape, by_scikit_image).items():
        np.testing.assert_array_equal(mask, segmentation.array == LABELS.ids[number - 1])


def test_a_picture_of_the_contours_agrees_within_a_voxel_of_the_edge(tmp_path, make_case):
    source, segmentation, _ = make_case(rotation_deg=(5, 5, 5))
    write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)
    for number, mask in from_headers(tmp_path / "rs.dcm", source.paths, segmentation.array.shape, by_pillow).items():
        wanted = segmentation.array == LABELS.ids[number - 1]
        around = np.ones((1, 3, 3), bool)
        edge = ndimage.binary_dilation(wanted, around) & ~ndimage.binary_erosion(wanted, around)
        assert not (mask ^ wanted)[~edge].any()


def test_the_file_says_what_it_is_about(tmp_path, make_case):
    source, segmentation, paths = make_case()
    identity = Identity.new(LABELS)
    write_rtstruct(
        segmentation,
        tmp_path / "rs.dcm",
        source=source,
        identity=identity,
        algorithm="organ model",
        description="Organs",
    )
    rs, first = pydicom.dcmread(tmp_path / "rs.dcm"), pydicom.dcmread(paths[0])
    assert rs.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert (rs.SOPInstanceUID, rs.SeriesInstanceUID) == (identity.rtstruct_instance, identity.rtstruct_series)
    assert rs.StructureSetDate == identity.moment.strftime("%Y%m%d")
    assert (rs.Modality, rs.ApprovalStatus, rs.SeriesDescription) == ("RTSTRUCT", "UNAPPROVED", "Organs")
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID", "StudyDate"):
        assert rs[keyword].value == first[keyword].value
    (frame,) = rs.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == first.FrameOfReferenceUID
    (study,) = frame.RTReferencedStudySequence
    assert study.ReferencedSOPInstanceUID == first.StudyInstanceUID
    (series,) = study.RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    uids = [str(pydicom.dcmread(p).SOPInstanceUID) for p in paths]
    assert sorted(i.ReferencedSOPInstanceUID for i in series.ContourImageSequence) == sorted(uids)
    volumes = {item.ROIName: float(item.ROIVolume) for item in rs.StructureSetROISequence}
    for label in LABELS:
        assert volumes[label.name] == pytest.approx((segmentation.array == label.id).sum() * source.geometry.voxel_ml)
    assert {item.ROIGenerationAlgorithm for item in rs.StructureSetROISequence} == {"AUTOMATIC"}
    assert [int(item.ROINumber) for item in rs.StructureSetROISequence] == [1, 2, 3, 4, 5]


def test_structures_are_coded(tmp_path, make_case):
    source, segmentation, _ = make_case()
    write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)
    codes = {roi.name: roi.code for roi in rois_of(tmp_path / "rs.dcm")}
    assert codes["liver"] == Code("SCT", "10200004", "Liver")
    assert codes["thing"] == Code("99ACME", "T-1", "Our thing")
    observed = pydicom.dcmread(tmp_path / "rs.dcm").RTROIObservationsSequence
    assert [item.RTROIInterpretedType for item in observed] == ["ORGAN", "ORGAN", "GTV", "ORGAN", "ORGAN"]
    (kidney,) = observed[1].RTROIIdentificationCodeSequence
    assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"


@pytest.mark.parametrize("spacing_mm", [(3.0, 0.8, 0.7), (0.02, 0.005, 0.005)], ids=str)
def test_coordinates_fit_their_field(spacing_mm, tmp_path, make_case):
    source, segmentation, _ = make_case(spacing_mm=spacing_mm, rotation_deg=(12, -33, 51))
    write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)
    contours = [
        c for i in pydicom.dcmread(tmp_path / "rs.dcm").ROIContourSequence for c in i.get("ContourSequence") or []
    ]
    for contour in contours:
        value = contour.get_item("ContourData").value
        assert len(value) % 2 == 0
        assert max(map(len, value.split(b"\\"))) <= 16
        assert b"-0.0000\\" not in value
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        assert 3 * contour.NumberOfContourPoints == value.count(b"\\") + 1


def test_contours_may_be_longer_than_64_kb(tmp_path, make_case):
    source, segmentation, _ = make_case(shape=(1, 150, 150))
    array = np.where(np.random.default_rng(0).random(segmentation.array.shape) < 0.75, 2, 0).astype(np.uint16)
    write_rtstruct(Segmentation(array, source.geometry, LABELS), tmp_path / "rs.dcm", source=source)
    roi = rois_of(tmp_path / "rs.dcm")[0]
    assert max(len(contour.points_lps) for contour in roi.contours) > 5000
    np.testing.assert_array_equal(rasterised(roi, source.geometry), array == 2)


def test_an_empty_mask_is_a_list_of_structures(tmp_path, make_case):
    source, segmentation, _ = make_case()
    nothing = Segmentation(np.zeros_like(segmentation.array), source.geometry, LABELS)
    write_rtstruct(nothing, tmp_path / "rs.dcm", source=source)
    assert [(roi.name, roi.contours) for roi in rois_of(tmp_path / "rs.dcm")] == [(n, ()) for n in LABELS.names]


def test_contours_of_an_irregular_series_lie_on_the_slices_it_has(tmp_path, make_case):
    _, _, paths = make_case(shape=(7, 20, 24))
    paths[3].unlink()
    source = find_series(tmp_path / "series", repairs=Repairs(on_irregular="resample"))
    assert source.geometry.shape[0] == 7
    segmentation = mask_on(source, seed=3)
    write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)
    on_kept = on_slices(segmentation, source)
    for number, mask in from_headers(tmp_path / "rs.dcm", source.paths, on_kept.shape, by_scikit_image).items():
        np.testing.assert_array_equal(mask, on_kept == LABELS.ids[number - 1])
    stations = source.irregular.stations
    for label, (_, mask) in zip(
        LABELS, read_rtstruct(tmp_path / "rs.dcm", onto=source.geometry, stations=stations), strict=True
    ):
        np.testing.assert_array_equal(mask, on_kept == label.id)


# -- real scans, and the standard's checker ------------------------------------------------------------------------

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")


def errors_in(path):
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [line for line in result.stderr.splitlines() if line.startswith("Error")], result.returncode


@needs_dciodvfy
@pytest.mark.parametrize(("modality", "tilt_deg"), [("CT", 0.0), ("MR", 0.0), ("CT", 14.0)])
def test_dciodvfy_finds_no_error(modality, tilt_deg, tmp_path, make_case):
    source, segmentation, _ = make_case(modality=modality, tilt_deg=tilt_deg)
    write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)
    assert errors_in(tmp_path / "rs.dcm") == ([], 0)


@needs_dciodvfy
@pytest.mark.parametrize(
    "case", ["enhanced_ct", "enhanced_mr_siemens", "gantry_tilt", "oblique_38deg", "missing_slice", "mosaic"]
)
def test_real_sources_are_referred_to(case, tmp_path, test_data):
    repairs = Repairs(volume=0, on_irregular="resample", mosaic="split")
    source = find_series(test_data / "dicom_edge" / case, repairs=repairs)
    segmentation = mask_on(source, smooth=max(source.geometry.shape) / 30)
    write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)
    assert errors_in(tmp_path / "rs.dcm") == ([], 0)
    rs = pydicom.dcmread(tmp_path / "rs.dcm")
    multi_frame = case.startswith("enhanced")
    for item in rs.ROIContourSequence:
        for contour in item.get("ContourSequence") or []:
            assert ("ReferencedFrameNumber" in contour.ContourImageSequence[0]) == multi_frame
    wanted = on_slices(segmentation, source)
    stations = None if source.irregular is None else source.irregular.stations
    for label, (_, mask) in zip(
        LABELS, read_rtstruct(tmp_path / "rs.dcm", onto=source.geometry, stations=stations), strict=True
    ):
        np.testing.assert_array_equal(mask, wanted == label.id)


def test_each_contour_names_its_frame(tmp_path, test_data):
    source = find_series(test_data / "dicom_edge" / "enhanced_ct")
    array = np.zeros(source.geometry.shape, np.uint16)
    array[1, 10:20, 10:20] = 2
    write_rtstruct(Segmentation(array, source.geometry, LABELS), tmp_path / "rs.dcm", source=source)
    (contour,) = pydicom.dcmread(tmp_path / "rs.dcm").ROIContourSequence[0].ContourSequence
    (image,) = contour.ContourImageSequence
    multi = pydicom.dcmread(source.paths[0], stop_before_pixels=True)
    assert image.ReferencedSOPInstanceUID == multi.SOPInstanceUID
    frame = multi.PerFrameFunctionalGroupsSequence[int(image.ReferencedFrameNumber) - 1]
    np.testing.assert_allclose(
        np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float),
        source.geometry.to_lps([1, 0, 0]),
        atol=1e-3,
    )


# -- refusals ------------------------------------------------------------------------------------------------------


def test_uids_beyond_repair_are_refused_in_words(tmp_path, make_case):
    _, segmentation, paths = make_case()
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = ""
        dataset.save_as(path)
    with pytest.raises(InputError, match="SeriesInstanceUID") as caught:
        write_rtstruct(segmentation, tmp_path / "rs.dcm", source=find_series(tmp_path / "series"))
    assert caught.value.code == "format-not-applicable"
    assert not (tmp_path / "rs.dcm").exists()


def test_a_mask_on_another_grid_is_refused(tmp_path, make_case):
    source, segmentation, _ = make_case()
    moved = Segmentation(segmentation.array, segmentation.geometry.pad((1, 0, 0), (-1, 0, 0)), LABELS)
    with pytest.raises(GeometryError, match="not on the grid"):
        write_rtstruct(moved, tmp_path / "rs.dcm", source=source)


def test_without_labels_there_is_nothing_to_draw(tmp_path, make_case):
    source, segmentation, _ = make_case()
    nothing = Segmentation(np.zeros_like(segmentation.array), source.geometry, LabelSet(()))
    with pytest.raises(InputError, match="label set is empty"):
        write_rtstruct(nothing, tmp_path / "rs.dcm", source=source)


def moved(polygon):
    return polygon + 1.0


def upside_down(polygon):
    return polygon * (-1.0, 1.0)


@pytest.mark.parametrize("change", [moved, upside_down])
def test_a_file_that_reads_back_different_never_appears(change, tmp_path, make_case, monkeypatch):
    source, segmentation, _ = make_case()
    outlined = rtstruct_module.outlined
    monkeypatch.setattr(rtstruct_module, "outlined", lambda mask: [change(p) for p in outlined(mask)])
    with pytest.raises(OutputError, match="did not read back"):
        write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["series"]


def test_without_scikit_image_a_sentence_names_the_extra(tmp_path, make_case, monkeypatch):
    source, segmentation, _ = make_case()
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(MissingExtraError, match=r"medseg\[rtstruct\]"):
        write_rtstruct(segmentation, tmp_path / "rs.dcm", source=source)


def test_an_rtstruct_among_images_is_ignored(tmp_path, make_case):
    source, segmentation, _ = make_case()
    write_rtstruct(segmentation, tmp_path / "series" / "rs.dcm", source=source)
    assert {item.kind: item.status for item in inspect_folder(tmp_path).items} == {
        "series": "ok",
        "rtstruct": "ignored",
    }


def test_a_mask_in_more_pieces_than_a_reader_takes_is_refused_in_words(make_case, tmp_path, monkeypatch):
    source, mask, _ = make_case()
    monkeypatch.setattr(rtstruct_module, "MAX_ITEMS", 2 * (rtstruct_module._OTHER_ITEMS + 3))
    with pytest.raises(OutputError, match="more pieces than an RTSTRUCT can hold; expected at most 3 contours"):
        write_rtstruct(mask, tmp_path / "rs.dcm", source=source)
    assert not (tmp_path / "rs.dcm").exists()
