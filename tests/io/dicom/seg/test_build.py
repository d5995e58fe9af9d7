from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from medseg.geometry import Geometry
from medseg.io.dicom import find_series, inspect_folder, write_seg, write_series
from medseg.io.dicom.identity import Identity
from medseg.io.dicom.referring import reference_datasets, references_of
from medseg.io.dicom.regularise import on_slices, plan_regular
from medseg.io.dicom.seg.frames import frames_of
from medseg.io.dicom.source import Repairs, Slice, SourceSeries
from medseg.labels import LabelSet
from medseg.volume import Segmentation

LABELS = LabelSet.from_names({1: "liver", 4: "spleen", 9: "kidney_left"})
KINDS = ("binary", "labelmap")


def random_mask(geometry, seed=0, labels=LABELS):
    """Return a mask with every label and an empty slice, without any symmetry."""
    array = np.random.default_rng(seed).choice([0, *labels.ids], geometry.shape, p=[0.7, 0.1, 0.1, 0.1])
    if len(array) > 2:
        array[len(array) // 2] = 0
    return Segmentation(array.astype(np.uint8), geometry, labels)


def references(source):
    return references_of(source, reference_datasets(source))


def held(path, source):
    """Return the labels on the slices as the file holds them; every frame must be on its slice and refer to it."""
    dataset = pydicom.dcmread(path)
    ids = {int(s.SegmentNumber): LABELS.by_name(s.SegmentLabel).id for s in dataset.SegmentSequence if s.SegmentNumber}
    slices = references(source)
    found = np.zeros((len(slices), dataset.Rows, dataset.Columns), np.uint8)
    for frame in frames_of(dataset):
        (z,) = [z for z, r in enumerate(slices) if np.allclose(r.position_lps, frame.position_lps, atol=1e-3)]
        assert frame.sources == ((slices[z].sop_instance, slices[z].frame),)
        for number, label in ids.items():
            inside = frame.pixels_yx == number if frame.segment is None else frame.pixels_yx != 0
            if frame.segment in {None, number}:
                found[z][inside] = label
    return found


def by_highdicom(path, grid):
    """Return segment numbers on a grid, as highdicom reads them."""
    seg = hd.seg.segread(path)
    wanted = hd.VolumeGeometry(grid.affine, grid.shape, "PATIENT", frame_of_reference_uid=seg.FrameOfReferenceUID)
    return seg.get_volume(combine_segments=True, relabel=False).match_geometry(wanted).array


def errors_of(path):
    """Return what dciodvfy has against a file."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    result = subprocess.run([program, path], capture_output=True, text=True, check=False)
    lines = [line for line in (result.stderr + result.stdout).splitlines() if line.startswith("Error")]
    return lines if result.returncode == 0 else [*lines, f"exit code {result.returncode}"]


# ------------------------------------------------------------------------------------------------------- multi-frame
def multi_frame_source(path):
    """Return the series a multi-frame file holds: frames in order along the slice normal, a grid from their places."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = list(dataset.PerFrameFunctionalGroupsSequence)

    def of(group, keyword):
        return (group.get(keyword) or shared.get(keyword))[0]

    plane = [float(v) for v in of(groups[0], "PlaneOrientationSequence").ImageOrientationPatient]
    places = np.array([[float(v) for v in of(g, "PlanePositionSequence").ImagePositionPatient] for g in groups])
    order = np.argsort(places @ np.cross(plane[:3], plane[3:]))
    rows_mm, columns_mm = (float(v) for v in of(groups[0], "PixelMeasuresSequence").PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = (places[order[-1]] - places[order[0]]) / (len(order) - 1)
    affine[:3, 1], affine[:3, 2] = np.array(plane[3:]) * rows_mm, np.array(plane[:3]) * columns_mm
    affine[:3, 3] = places[order[0]]
    grid = Geometry((len(order), dataset.Rows, dataset.Columns), affine)
    return SourceSeries("x", str(dataset.Modality), (tuple(Slice(path, int(i)) for i in order),), grid)


@pytest.fixture
def make_enhanced(tmp_path):
    """Return a function that writes a grid as one Enhanced MR file, orientation per frame, frames in any order."""

    def make(geometry, order):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedMRImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.FrameOfReferenceUID, dataset.Modality, dataset.PatientName = generate_uid(), "MR", "A^B"
        dataset.NumberOfFrames, (dataset.Rows, dataset.Columns) = len(order), geometry.shape[1:]
        groups = []
        for z in order:
            group, position, plane, measures = Dataset(), Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = [round(float(v), 6) for v in geometry.to_lps([z, 0, 0])]
            directions = geometry.directions_lps
            plane.ImageOrientationPatient = [round(float(v), 8) for v in (*directions[:, 2], *directions[:, 1])]
            measures.PixelSpacing, measures.SliceThickness = list(geometry.spacing_mm[1:]), 1.0
            group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [plane]
            group.PixelMeasuresSequence = [measures]
            groups.append(group)
        dataset.PerFrameFunctionalGroupsSequence = groups
        dataset.SharedFunctionalGroupsSequence = [Dataset()]
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = tmp_path / "enhanced.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_a_multi_frame_source_are_referred_to_by_number(kind, tmp_path, make_grid, make_enhanced):
    source = multi_frame_source(make_enhanced(make_grid(rotation_deg=(12, -33, 51)), [3, 0, 4, 1, 2]))
    mask = random_mask(source.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=source, kind=kind)
    assert [r.frame for r in references(source)] == [2, 4, 5, 1, 3]
    np.testing.assert_array_equal(held(tmp_path / "seg.dcm", source), mask.array)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(seg.SourceImageSequence) == 1
    assert {str(r.ReferencedSOPClassUID) for r in seg.SourceImageSequence} == {EnhancedMRImageStorage}


def test_one_volume_of_several_in_one_file_refers_to_its_own_frames(tmp_path, make_grid, make_enhanced):
    grid = multi_frame_source(make_enhanced(make_grid(), range(5))).geometry
    path = make_enhanced(make_grid(), [0, 1, 2, 3, 4] * 2)
    volumes = tuple(tuple(Slice(path, 5 * v + z) for z in range(5)) for v in range(2))
    source = SourceSeries("x", "MR", volumes, grid).pick(1)
    mask = random_mask(grid)
    write_seg(mask, tmp_path / "seg.dcm", source=source)
    assert [r.frame for r in references(source)] == [6, 7, 8, 9, 10]
    np.testing.assert_array_equal(held(tmp_path / "seg.dcm", source), mask.array)


# -------------------------------------------------------------------------------------------------------- uneven ones
def irregular_source(folder, make_image, keep, **grid):
    """Return a series with slices left out, as it is after ``--on-irregular resample``."""
    image = make_image(low=0, **grid)
    paths = write_series(image, folder, modality="CT")
    geometry = find_series(list(paths)).geometry
    plan = plan_regular(
        [geometry.to_lps([z, 0, 0]) for z in keep],
        orientation=[*geometry.directions_lps[:, 2], *geometry.directions_lps[:, 1]],
        pixel_spacing=geometry.spacing_mm[1:],
        size=geometry.shape[1:],
        usual_mm=geometry.spacing_mm[0],
        frame_uid=geometry.frame_of_reference_uid,
    )
    slices = tuple(Slice(paths[z]) for z in keep)
    return SourceSeries("ct-1", "CT", (slices,), plan.geometry, irregular=plan)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tilt_deg", [0.0, 14.0])
def test_frames_lie_on_the_slices_that_there_are(kind, tilt_deg, tmp_path, make_image):
    source = irregular_source(tmp_path / "series", make_image, [0, 1, 3, 4, 6], shape=(7, 6, 8), tilt_deg=tilt_deg)
    mask = random_mask(source.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=source, kind=kind, all_frames=True)
    found = held(tmp_path / "seg.dcm", source)
    assert len(found) == 5
    np.testing.assert_array_equal(found, mask.array[[0, 1, 3, 4, 6]])
    np.testing.assert_array_equal(found, on_slices(mask, source))
    measures = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    between = 3.0  # along the normal: the tilt shears the stack within the planes
    assert float(measures.SpacingBetweenSlices) == pytest.approx(between)
    if kind == "binary":
        assert errors_of(tmp_path / "seg.dcm") == []


def test_no_even_spacing_is_claimed_where_there_is_none(tmp_path, make_image):
    source = irregular_source(tmp_path / "series", make_image, [0, 1, 2, 4, 5, 6], shape=(7, 6, 8))
    plan = plan_regular(
        [[0, 0, 0], [0, 0, 2.0], [0, 0, 5.0], [0, 0, 7.1]],
        orientation=[1, 0, 0, 0, 1, 0],
        pixel_spacing=(1, 1),
        size=(6, 8),
        usual_mm=2.0,
        frame_uid="",
    )
    paths = source.paths[:4]
    for path, z in zip(paths, (0, 2.0, 5.0, 7.1), strict=True):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, z], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = [1, 1]
        dataset.save_as(path)
    uneven = SourceSeries("ct-1", "CT", (tuple(map(Slice, paths)),), plan.geometry, irregular=plan)
    mask = random_mask(uneven.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=uneven)
    measures = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "SpacingBetweenSlices" not in measures
    np.testing.assert_array_equal(held(tmp_path / "seg.dcm", uneven), on_slices(mask, uneven))
    assert errors_of(tmp_path / "seg.dcm") == []


# ------------------------------------------------------------------------------------------------------------- mosaic
def test_slices_of_a_mosaic_refer_to_it_without_claiming_its_pixels(tmp_path, make_image):
    (path,) = write_series(make_image(low=0, shape=(1, 12, 14)), tmp_path / "series", modality="MR")
    grid = Geometry((4, 6, 7), find_series(path).geometry.affine)
    tiles = tuple(Slice(path, tile=z) for z in range(4))
    source = SourceSeries("mr-1", "MR", (tiles,), grid)
    mask = random_mask(grid)
    write_seg(mask, tmp_path / "seg.dcm", source=source)
    np.testing.assert_array_equal(held(tmp_path / "seg.dcm", source), mask.array)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    images = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in seg.PerFrameFunctionalGroupsSequence]
    assert {i.SpatialLocationsPreserved for i in images} == {"NO"}
    assert {i.ReferencedSOPInstanceUID for i in images} == {pydicom.dcmread(path).SOPInstanceUID}
    assert errors_of(tmp_path / "seg.dcm") == []


# --------------------------------------------------------------------------------------------------------- the object
def test_a_label_map_holds_label_ids_and_describes_the_background(tmp_path, make_image):
    write_series(make_image(low=0), tmp_path / "series", modality="CT")
    source = find_series(tmp_path / "series")
    mask = random_mask(source.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=source, kind="labelmap", all_frames=True)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.SegmentationType == "LABELMAP"
    assert seg.file_meta.TransferSyntaxUID == RLELossless
    assert [(s.SegmentNumber, s.SegmentLabel) for s in seg.SegmentSequence] == [
        (0, "Background"),
        *zip(LABELS.ids, LABELS.names, strict=True),
    ]
    assert seg.PixelPaddingValue == 0
    np.testing.assert_array_equal(held(tmp_path / "seg.dcm", source), mask.array)
    np.testing.assert_array_equal(np.unique(seg.pixel_array), [0, *LABELS.ids])


@pytest.mark.parametrize("size", [(51, 35), (1, 1), (3, 129)])
def test_a_label_map_of_any_size_is_written(size, tmp_path, make_image):
    write_series(make_image(low=0, shape=(3, *size)), tmp_path / "series", modality="CT")
    source = find_series(tmp_path / "series")
    mask = random_mask(source.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=source, kind="labelmap")
    np.testing.assert_array_equal(held(tmp_path / "seg.dcm", source), mask.array)


@pytest.mark.parametrize("kind", KINDS)
def test_many_labels_with_large_ids(kind, tmp_path, make_image):
    write_series(make_image(low=0, shape=(2, 30, 40)), tmp_path / "series", modality="CT")
    source = find_series(tmp_path / "series")
    labels = LabelSet.from_names({7 * i + 3: f"thing {i}" for i in range(260)})
    array = np.random.default_rng(0).choice(labels.ids, source.geometry.shape).astype(np.uint16)
    write_seg(Segmentation(array, source.geometry, labels), tmp_path / "seg.dcm", source=source, kind=kind)
    numbers = {i: n if kind == "binary" else i for n, i in enumerate(labels.ids, start=1)}
    theirs = by_highdicom(tmp_path / "seg.dcm", source.geometry)
    np.testing.assert_array_equal(theirs, np.vectorize(numbers.get)(array))


@pytest.mark.parametrize("kind", KINDS)
def test_one_run_gives_the_uids(kind, tmp_path, make_image):
    write_series(make_image(low=0), tmp_path / "series", modality="CT")
    source = find_series(tmp_path / "series")
    identity = Identity.new(LABELS)
    write_seg(random_mask(source.geometry), tmp_path / "seg.dcm", source=source, kind=kind, identity=identity)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.SeriesInstanceUID, seg.SOPInstanceUID) == (identity.seg_series, identity.seg_instance)
    assert seg.file_meta.MediaStorageSOPInstanceUID == identity.seg_instance
    tracked = {s.SegmentLabel: (s.TrackingID, s.TrackingUID) for s in seg.SegmentSequence if "TrackingUID" in s}
    assert tracked == {label.name: tuple(identity.tracking[label.id]) for label in LABELS}
    assert (seg.ContentDate, seg.ContentTime) == tuple(identity.moment.strftime("%Y%m%d %H%M%S").split())
    segment = seg.SegmentSequence[-1]
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert seg.ContentCreatorName == "medseg"


def test_words_that_dicom_cannot_hold_are_left_out(tmp_path, make_image):
    write_series(make_image(low=0), tmp_path / "series", modality="CT")
    source = find_series(tmp_path / "series")
    labels = LabelSet.from_names({1: "left\\right\n" + "long " * 30, 2: "lésion"})
    mask = replace(random_mask(source.geometry), array=np.ones(source.geometry.shape, np.uint8), labels=labels)
    write_seg(mask, tmp_path / "seg.dcm", source=source, algorithm="a\\b", description="\t")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.SegmentSequence[0].SegmentLabel.startswith("left right long")
    assert len(seg.SegmentSequence[0].SegmentLabel) <= 64
    assert seg.SegmentSequence[1].SegmentLabel == "lésion"
    assert seg.SegmentSequence[0].SegmentAlgorithmName == "a b"
    assert errors_of(tmp_path / "seg.dcm") == []


# ------------------------------------------------------------------------------------------------- real ones, oracles
CASES = {
    "ct": "dicom_edge/seg_with_images",
    "mr": "dicom/mr_brain_study1/12-T1post-05670",
    "pet": "dicom/sarcoma/STS_002/dicom/PET",
    "tilted": "dicom_edge/gantry_tilt",
    "oblique": "dicom_edge/oblique_38deg",
    "one slice": "dicom_edge/single_slice",
    "enhanced mr, philips": "dicom_edge/enhanced_mr_philips",
    "enhanced mr, siemens": "dicom_edge/enhanced_mr_siemens",
    "enhanced ct": "dicom_edge/enhanced_ct",
    "legacy": "dicom_edge/seg_multiframe_source/multiframe",
    "a slice missing": "dicom_edge/missing_slice",
    "mosaic": "dicom_edge/mosaic",
    "one of two volumes": "dicom_edge/fmri_4d",
}


@pytest.fixture
def real_source(test_data, request):
    """Return a real series by the name of its case, made readable."""
    items = [i for i in inspect_folder(test_data / CASES[request.param]).items if i.kind == "series"]
    volume = items[0].volumes - 1 if items[0].volumes > 1 else None
    return find_series(items[0], repairs=Repairs(volume=volume, on_irregular="resample", mosaic="split"))


@pytest.mark.parametrize("real_source", CASES, indirect=True)
def test_dciodvfy_finds_no_error_on_real_sources(real_source, tmp_path):
    mask = random_mask(real_source.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=real_source)
    np.testing.assert_array_equal(held(tmp_path / "seg.dcm", real_source), on_slices(mask, real_source))
    assert errors_of(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("real_source", ["ct", "enhanced mr, philips", "legacy"], indirect=True)
def test_highdicom_reads_the_same_on_the_grid_of_the_source(real_source, kind, tmp_path):
    mask = random_mask(real_source.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=real_source, kind=kind)
    found = by_highdicom(tmp_path / "seg.dcm", real_source.geometry)
    ids = np.array([0, *LABELS.ids]) if kind == "binary" else np.arange(10)
    np.testing.assert_array_equal(ids[found], mask.array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("real_source", ["ct", "enhanced mr, philips", "legacy"], indirect=True)
def test_dcmqi_reads_the_same_where_it_lies(real_source, kind, tmp_path):
    nib = pytest.importorskip("nibabel")
    program = shutil.which("segimage2itkimage")
    if program is None:
        pytest.skip("segimage2itkimage (dcmqi) is not on the search path")
    mask = random_mask(real_source.geometry)
    write_seg(mask, tmp_path / "seg.dcm", source=real_source, kind=kind, all_frames=True)
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "--outputType", "nifti"]
    subprocess.run([*command, "--prefix", "q"], check=True, capture_output=True)
    groups = json.loads((tmp_path / "q-meta.json").read_text())["segmentAttributes"]
    assert len([s for group in groups for s in group]) == len(LABELS)
    found = np.zeros_like(mask.array)
    ids = np.array([0, *LABELS.ids]) if kind == "binary" else np.arange(10)
    for path in sorted(tmp_path.glob("q-*.nii.gz")):
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        inside = np.argwhere(values > 0)
        ras = inside @ image.affine[:3, :3].T + image.affine[:3, 3]
        index = np.rint(real_source.geometry.to_index(ras * (-1, -1, 1))).astype(int)
        found[tuple(index.T)] = ids[values[tuple(inside.T)].astype(int)]
    np.testing.assert_array_equal(found, mask.array)
