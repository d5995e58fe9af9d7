from __future__ import annotations

import json
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from medseg.errors import GeometryError, InputError, OutputError
from medseg.io.dicom import find_series, inspect_folder, read_seg, seg_obstacle, write_seg, write_series
from medseg.io.dicom.seg import writing as seg_module
from medseg.labels import Code, Label, LabelSet
from medseg.volume import Segmentation

LABELS = LabelSet(
    (
        Label(2, "liver", (200, 60, 40)),
        Label(5, "kidney_left", (40, 120, 220)),
        Label(300, "thing", (10, 200, 30), Code("99ACME", "T-1", "Our thing")),
    )
)


@pytest.fixture
def make_case(tmp_path, make_image):
    """Return a function that writes a series and makes a mask on it, with an empty slice and an absent label."""

    def make(codes="SPL", *, modality="CT", **grid):
        paths = write_series(make_image(codes, low=0, **grid), tmp_path / "series", modality=modality)
        source = find_series(tmp_path / "series")
        array = np.zeros(source.geometry.shape, np.uint16)
        array[1:4:2, 1:4, 2:5] = 2
        array[3:4, 2:5, 1:3] = 5
        return source, Segmentation(array, source.geometry, LABELS), paths

    return make


def numbered(segmentation):
    """Return the mask with segment numbers for label ids."""
    numbers = np.zeros_like(segmentation.array)
    for number, label in enumerate(segmentation.labels, start=1):
        numbers[segmentation.array == label.id] = number
    return numbers


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "grid",
    [
        {},
        {"codes": "IPL"},
        {"codes": "PSL"},
        {"codes": "RSA"},
        {"rotation_deg": (12, -33, 51)},
        {"tilt_deg": 14.0},
        {"tilt_deg": -20.0, "rotation_deg": (3, 8, -5)},
    ],
    ids=str,
)
def test_masks_come_back_in_the_same_place(grid, modality, tmp_path, make_case):
    source, segmentation, _ = make_case(modality=modality, **grid)
    path = tmp_path / "seg.dcm"
    write_seg(segmentation, path, source=source)
    own = read_seg(path)
    assert own.geometry.shape == (3, 6, 7)  # from the first slice with a label to the last
    whole = read_seg(path, onto=source.geometry)
    np.testing.assert_array_equal(whole.array, numbered(segmentation))
    np.testing.assert_array_equal(own.array, numbered(segmentation)[1:4])
    np.testing.assert_allclose(own.geometry.corners_lps[0], source.geometry.to_lps([1, 0, 0]), atol=1e-3)
    np.testing.assert_allclose(own.geometry.corners_lps[-1], source.geometry.to_lps([3, 5, 6]), atol=1e-3)


def test_each_frame_refers_to_its_slice(tmp_path, make_case):
    source, segmentation, paths = make_case()
    write_seg(segmentation, tmp_path / "seg.dcm", source=source, algorithm="organ model", description="Organs")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    uids = {str(pydicom.dcmread(p).SOPInstanceUID): z for z, p in enumerate(paths)}
    found = []
    for group in seg.PerFrameFunctionalGroupsSequence:
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        z = uids[image.ReferencedSOPInstanceUID]
        np.testing.assert_allclose(
            [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient],
            source.geometry.to_lps([z, 0, 0]),
            atol=1e-6,
        )
        found.append((z, int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)))
    assert sorted(found) == [(1, 1), (3, 1), (3, 2)]
    listed = {i.ReferencedSOPInstanceUID for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert set(uids) >= listed
    source_file = pydicom.dcmread(paths[0])
    assert seg.FrameOfReferenceUID == source_file.FrameOfReferenceUID
    assert seg.StudyInstanceUID == source_file.StudyInstanceUID
    assert seg.PatientName == source_file.PatientName
    assert seg.SeriesInstanceUID != source_file.SeriesInstanceUID
    assert seg.SeriesDescription == "Organs"


def test_segments_are_coded_and_numbered_by_label_id(tmp_path, make_case):
    source, segmentation, _ = make_case()
    write_seg(segmentation, tmp_path / "seg.dcm", source=source, algorithm="organ model")
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert [(int(s.SegmentNumber), s.SegmentLabel) for s in segments] == [
        (1, "liver"),
        (2, "kidney_left"),
        (3, "thing"),
    ]
    kinds = [s.SegmentedPropertyTypeCodeSequence[0] for s in segments]
    assert [(k.CodingSchemeDesignator, k.CodeValue) for k in kinds] == [
        ("SCT", "10200004"),
        ("SCT", "64033007"),
        ("99ACME", "T-1"),
    ]
    assert kinds[1].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert {s.SegmentAlgorithmType for s in segments} == {"AUTOMATIC"}
    assert {s.SegmentAlgorithmName for s in segments} == {"organ model"}
    back = read_seg(tmp_path / "seg.dcm").labels
    assert back.names == LABELS.names
    assert back[3].code == LABELS[300].code
    assert np.abs(np.subtract(back[1].color, LABELS[2].color)).max() <= 2


@pytest.mark.parametrize(("kind", "frames"), [("binary", 3 * 5), ("labelmap", 5)])
def test_an_empty_mask_holds_every_frame(kind, frames, tmp_path, make_case):
    source, segmentation, _ = make_case()
    empty = Segmentation(np.zeros_like(segmentation.array), segmentation.geometry, LABELS)
    write_seg(empty, tmp_path / "seg.dcm", source=source, kind=kind)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert int(seg.NumberOfFrames) == frames
    assert not read_seg(tmp_path / "seg.dcm", onto=source.geometry).array.any()
    assert not hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True).array.any()


def test_all_frames_on_request(tmp_path, make_case):
    source, segmentation, _ = make_case()
    write_seg(segmentation, tmp_path / "seg.dcm", source=source, all_frames=True)
    assert int(pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames) == 3 * 5
    assert read_seg(tmp_path / "seg.dcm").geometry.same_grid(source.geometry, 1e-3)


def test_a_single_label_and_a_single_slice(tmp_path, make_case):
    source, _, _ = make_case(shape=(1, 6, 7))
    array = np.zeros((1, 6, 7), np.uint8)
    array[0, 2:4, 3] = 2
    segmentation = Segmentation(array, source.geometry, LabelSet((Label(2, "liver", (1, 2, 3)),)))
    write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm").array, array // 2)


def test_highdicom_reads_the_same(tmp_path, make_case):
    source, segmentation, paths = make_case()
    write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    uids = [pydicom.dcmread(p).SOPInstanceUID for p in paths]
    theirs = seg.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
    np.testing.assert_array_equal(theirs, numbered(segmentation))


def test_dcmqi_reads_the_same(tmp_path, make_case):
    nib = pytest.importorskip("nibabel")
    program = shutil.which("segimage2itkimage")
    if program is None:
        pytest.skip("segimage2itkimage (dcmqi) is not on the search path")
    source, segmentation, _ = make_case(rotation_deg=(12, -33, 51))
    write_seg(segmentation, tmp_path / "seg.dcm", source=source, all_frames=True)
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "--outputType", "nifti"]
    subprocess.run([*command, "--prefix", "q"], check=True, capture_output=True)
    meta = json.loads((tmp_path / "q-meta.json").read_text())
    assert len([s for group in meta["segmentAttributes"] for s in group]) == 3
    for number in (1, 2):
        image = nib.load(tmp_path / f"q-{number}.nii.gz")
        inside = np.argwhere(np.asarray(image.dataobj) > 0)
        ras = inside @ image.affine[:3, :3].T + image.affine[:3, 3]
        index = np.rint(source.geometry.to_index(ras * (-1, -1, 1))).astype(int)
        ours = np.argwhere(numbered(segmentation) == number)
        assert sorted(map(tuple, index)) == sorted(map(tuple, ours))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize(("modality", "tilt_deg"), [("CT", 0.0), ("MR", 0.0), ("CT", 14.0)])
def test_dciodvfy_finds_no_error(modality, tilt_deg, tmp_path, make_case):
    source, segmentation, _ = make_case(modality=modality, tilt_deg=tilt_deg)
    write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    result = subprocess.run(["dciodvfy", tmp_path / "seg.dcm"], capture_output=True, text=True, check=False)
    assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == []
    assert result.returncode == 0


def edit(paths, **changes):
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in changes.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)


def test_what_is_missing_in_the_source_is_repaired(tmp_path, make_case):
    _, segmentation, paths = make_case()
    uids = [str(pydicom.dcmread(p).SOPInstanceUID) for p in paths]
    absent = ("AccessionNumber", "StudyID", "PatientBirthDate", "SliceThickness", "FrameOfReferenceUID")
    edit(paths, **dict.fromkeys(absent), SOPInstanceUID="", SOPClassUID="", SpecificCharacterSet="")
    source = find_series(tmp_path / "series")
    assert seg_obstacle(source) is None
    write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    write_seg(segmentation, tmp_path / "again.dcm", source=source)
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("seg.dcm", "again.dcm"))
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID != ""
    referred = {i.ReferencedSOPInstanceUID for i in first.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert set(uids) >= referred
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm").array, numbered(segmentation)[1:4])


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_uids_beyond_repair_are_refused_in_words(keyword, tmp_path, make_case):
    _, segmentation, paths = make_case()
    edit(paths, **{keyword: ""})
    source = find_series(tmp_path / "series")
    assert seg_obstacle(source).code == "format-not-applicable"
    with pytest.raises(InputError, match=keyword) as caught:
        write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    assert caught.value.code == "format-not-applicable"
    assert not (tmp_path / "seg.dcm").exists()


def test_names_in_any_script_are_carried_over(tmp_path, make_case):
    source, segmentation, paths = make_case()
    edit(paths, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == "Müller^Jürgen"


def test_a_mask_on_another_grid_is_refused(tmp_path, make_case):
    source, segmentation, _ = make_case()
    moved = Segmentation(segmentation.array, segmentation.geometry.pad((1, 0, 0), (-1, 0, 0)), LABELS)
    with pytest.raises(GeometryError, match="not on the grid"):
        write_seg(moved, tmp_path / "seg.dcm", source=source)


def mirrored(numbers):
    return numbers[:, :, ::-1]


def emptied(numbers):
    return numbers * (np.arange(len(numbers)) != 3)[:, None, None].astype(numbers.dtype)


def moved(seg):
    position = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient = [v + 0.5 for v in position.ImagePositionPatient]


def mistaken(seg):
    image = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = "1.2.3.4"


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ((mirrored, None), "did not read back"),
        ((emptied, None), "did not read back"),
        ((None, moved), "off its slice"),
        ((None, mistaken), "does not refer to its slice"),
    ],
)
def test_a_file_that_reads_back_different_never_appears(damage, words, kind, tmp_path, make_case, monkeypatch):
    source, segmentation, _ = make_case()
    build, (before, after) = seg_module.build_seg, damage

    def damaged(numbers_zyx, *args, **kwargs):
        seg = build(numbers_zyx if before is None else before(numbers_zyx), *args, **kwargs)
        if after is not None:
            after(seg)
        return seg

    monkeypatch.setattr(seg_module, "build_seg", damaged)
    with pytest.raises(OutputError, match=words):
        write_seg(segmentation, tmp_path / "seg.dcm", source=source, kind=kind)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["series"]


def test_a_seg_among_images_is_ignored(tmp_path, make_case):
    source, segmentation, _ = make_case()
    write_seg(segmentation, tmp_path / "series" / "seg.dcm", source=source)
    kinds = {item.kind: item.status for item in inspect_folder(tmp_path).items}
    assert kinds == {"series": "ok", "seg": "ignored"}
