"""SEG and RTSTRUCT as references: overlap, fractions, patterns, other grids and other frames of reference."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io import read_geometry, read_segmentation, structure_names
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.io.dicom.references import find_reference, read_reference, remarks
from medseg.labels import LabelSet
from medseg.resample import resample
from medseg.rois import RoiRules
from medseg.volume import Segmentation

LABELS = LabelSet.from_names({1: "liver", 2: "tumour"})
RULES = RoiRules(LABELS, (("LIVER*", 1), ("tum*", 2)))
LATER = RoiRules(LABELS, RULES.patterns, overlap="later wins")
LIVER, TUMOUR = np.s_[1:4, 1:5, 1:6], np.s_[2:4, 2:4, 4:7]


@pytest.fixture
def source(tmp_path, make_image):
    write_series(make_image(low=0), tmp_path / "series")
    return find_series(tmp_path / "series")


def boxes(shape, *places):
    masks = np.zeros((*shape, len(places)), np.uint8)
    for n, place in enumerate(places):
        masks[(*place, n)] = 1
    return masks


def save_seg(path, source, masks_zyxn, names, kind="BINARY", **more):
    """Write a SEG of masks that may overlap, with highdicom alone."""
    code = hd.sr.CodedConcept("1", "99X", "x")
    described = [hd.seg.SegmentDescription(n, name, code, code, "MANUAL") for n, name in enumerate(names, start=1)]
    hd.seg.Segmentation(
        [pydicom.dcmread(p) for p in source.paths],
        masks_zyxn,
        kind,
        described,
        hd.UID(),
        1,
        hd.UID(),
        1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        **more,
    ).save_as(path)
    return path


@pytest.fixture(params=["seg", "rtstruct"])
def overlapping(request, tmp_path, source, draw_boxes):
    """Liver and tumour, drawn over one another, as either kind of object."""
    if request.param == "rtstruct":
        return draw_boxes(tmp_path / "o.dcm", source.geometry, [("liver, whole", LIVER), ("Tumour", TUMOUR)])
    masks = boxes(source.geometry.shape, LIVER, TUMOUR)
    return save_seg(tmp_path / "o.dcm", source, masks, ["liver, whole", "Tumour"])


def test_overlap_is_refused_naming_the_pair_unless_later_wins(overlapping, source):
    assert structure_names(overlapping) == ("liver, whole", "Tumour")
    for rules in (None, RULES):
        with pytest.raises(InputError, match=r"o\.dcm: .*'liver, whole' and 'Tumour' overlap \(8 voxels\)"):
            read_reference(overlapping, onto=source.geometry, rules=rules)
    wanted = np.zeros(source.geometry.shape, np.uint8)
    wanted[LIVER], wanted[TUMOUR] = 1, 2
    np.testing.assert_array_equal(read_reference(overlapping, onto=source.geometry, rules=LATER).array, wanted)
    other_order = RoiRules(LABELS, RULES.patterns[::-1], overlap="later wins")
    wanted[LIVER] = 1
    np.testing.assert_array_equal(read_reference(overlapping, onto=source.geometry, rules=other_order).array, wanted)


def test_regions_part_what_lies_in_one_another(overlapping, source):
    labels = LabelSet.from_names({1: "liver alone", 2: "both"})
    strict = RoiRules(labels, regions=(("liver*", (1, 2)), ("tumour", (2,))))
    with pytest.raises(InputError, match="'Tumour' and in no other region"):
        read_reference(overlapping, onto=source.geometry, rules=strict)
    labels = LabelSet.from_names({1: "liver alone", 2: "both", 3: "outside"})
    rules = RoiRules(labels, regions=(("liver*", (1, 2)), ("tumour", (2, 3))))
    wanted = np.zeros(source.geometry.shape, np.uint8)
    wanted[TUMOUR] = 3
    wanted[LIVER] = np.where(wanted[LIVER] == 3, 2, 1)
    np.testing.assert_array_equal(read_reference(overlapping, onto=source.geometry, rules=rules).array, wanted)


def test_what_no_rule_speaks_of_is_left_out(overlapping, source):
    mask = read_reference(overlapping, onto=source.geometry, rules=RoiRules(LABELS, (("tum*", 2),)))
    assert mask.voxel_counts() == {1: 0, 2: 12}
    with pytest.raises(InputError, match=r"o\.dcm: no structure is for a label: 'liver, whole', 'Tumour'"):
        read_reference(overlapping, onto=source.geometry, rules=RoiRules(LABELS, (("spleen", 1),)))


def test_another_frame_of_reference_is_refused(overlapping, source):
    elsewhere = Geometry(source.geometry.shape, source.geometry.affine, "1.2.3.4")
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_reference(overlapping, onto=elsewhere, rules=LATER)


def test_contours_need_a_grid_and_segments_have_one(tmp_path, source, draw_boxes):
    drawn = draw_boxes(tmp_path / "rt.dcm", source.geometry, [("liver", LIVER)])
    with pytest.raises(InputError, match="no voxels of their own"):
        read_segmentation(drawn)
    on_image = read_segmentation(drawn, onto=source.geometry)
    assert (on_image.labels.names, on_image.voxel_counts()) == (("liver",), {1: 60})
    seg = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER), ["liver"])
    assert read_segmentation(seg).geometry.shape == (3, 6, 7)


@pytest.mark.parametrize("codes", ["SPL", "IAR", "PSL", "LIP"])
def test_a_seg_falls_on_its_image_however_the_axes_run(tmp_path, source, codes):
    seg = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER, np.s_[4:5, 0:1, 6:7]), ["a", "b"])
    plain = read_reference(seg, onto=source.geometry)
    turned = source.geometry.reoriented(codes)
    np.testing.assert_array_equal(read_reference(seg, onto=turned).array, resample(plain, onto=turned).array)


def test_a_seg_of_part_of_the_image_is_put_in_its_place(tmp_path, source):
    seg = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER), ["liver"])
    wide = source.geometry.pad((2, 3, 1), (1, 2, 4))
    mask = read_reference(seg, onto=wide)
    assert mask.voxel_counts() == {1: 60}
    assert mask.array[3:6, 4:8, 2:7].all()


@pytest.mark.parametrize("change", [(0.3, 0, 0), (0, 0.3, 0), (0, 0, 0.3)])
def test_a_seg_between_the_voxels_is_refused(tmp_path, source, change):
    seg = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER), ["liver"])
    affine = source.geometry.affine.copy()
    affine[:3, 3] = source.geometry.to_lps(change)
    with pytest.raises(GeometryError, match="does not lie on a slice"):
        read_reference(seg, onto=Geometry(source.geometry.shape, affine))


def test_a_seg_outside_or_of_other_pixels_is_refused(tmp_path, source):
    seg = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER), ["liver"])
    with pytest.raises(GeometryError, match="does not lie on a slice"):
        read_reference(seg, onto=source.geometry.pad((0, 0, 0), (-2, 0, 0)))
    with pytest.raises(GeometryError, match="turned or spaced otherwise"):
        read_reference(seg, onto=source.geometry.with_spacing((3.0, 0.7, 0.7)))


def test_frames_too_far_apart_to_be_true_are_refused(tmp_path, source):
    seg = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER), ["liver"])
    dataset = pydicom.dcmread(seg)
    dataset.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0].ImagePositionPatient = [-81.25, -97.5, 9e8]
    dataset.save_as(seg)
    with pytest.raises(GeometryError, match="too large to be true"):
        read_segmentation(seg)


def test_fractions_are_read_where_they_are_whole_or_a_threshold_is_declared(tmp_path, source):
    masks = boxes(source.geometry.shape, LIVER).astype(np.float32)
    whole = save_seg(tmp_path / "w.dcm", source, masks, ["liver"], "FRACTIONAL", fractional_type="PROBABILITY")
    np.testing.assert_array_equal(read_reference(whole, onto=source.geometry).array, masks[..., 0])
    masks[TUMOUR] = 0.4
    soft = save_seg(tmp_path / "f.dcm", source, masks, ["liver"], "FRACTIONAL", fractional_type="PROBABILITY")
    with pytest.raises(InputError, match=r"f\.dcm: the segmentation is FRACTIONAL.*threshold"):
        read_reference(soft, onto=source.geometry)
    for threshold in (0.3, 0.5):
        rules = RoiRules(LABELS, (("liver", 1),), threshold=threshold)
        wanted = masks[..., 0] >= threshold
        np.testing.assert_array_equal(read_reference(soft, onto=source.geometry, rules=rules).array, wanted)


def test_a_folder_holds_exactly_one_reference(tmp_path, source, draw_boxes):
    with pytest.raises(InputError, match="the folder holds no SEG and no RTSTRUCT"):
        find_reference(tmp_path / "series")
    with pytest.raises(InputError, match="the file is no SEG and no RTSTRUCT"):
        find_reference(source.paths[0])
    drawn = draw_boxes(tmp_path / "series" / "deep" / "rt.dcm", source.geometry, [("liver", LIVER)])
    assert find_reference(tmp_path / "series").files == (drawn,)
    draw_boxes(tmp_path / "series" / "rt2.dcm", source.geometry, [("liver", LIVER)])
    with pytest.raises(InputError, match=r"2 segmentations are here: .*rt2\.dcm"):
        find_reference(tmp_path / "series")


def test_structures_without_a_name_and_of_one_name_stay_apart(tmp_path, source, draw_boxes):
    places = [np.s_[n : n + 1, 1:3, 1:3] for n in range(4)]
    names = ["", "GTV", "GTV", " "]
    drawn = draw_boxes(tmp_path / "rt.dcm", source.geometry, list(zip(names, places, strict=True)))
    assert structure_names(drawn) == ("structure 1", "GTV", "GTV", "structure 4")
    mask = read_reference(drawn, onto=source.geometry)
    assert mask.labels.names == ("structure 1", "GTV (2)", "GTV (3)", "structure 4")
    together = read_reference(drawn, onto=source.geometry, rules=RoiRules.from_labels(LabelSet.from_names({7: "gtv"})))
    assert together.voxel_counts() == {7: 8}


def test_our_own_seg_comes_back_by_names(tmp_path, source):
    array = np.zeros(source.geometry.shape, np.uint8)
    array[LIVER], array[TUMOUR] = 3, 9
    labels = LabelSet.from_names({3: "liver", 9: "tumour"})
    write_seg(Segmentation(array, source.geometry, labels), tmp_path / "s.dcm", source=source)
    back = read_reference(tmp_path / "s.dcm", onto=source.geometry, rules=RoiRules.from_labels(labels))
    np.testing.assert_array_equal(back.array, array)


def test_a_seg_that_names_the_series_lies_where_it_lies(tmp_path, source):
    path = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER), ["liver"])
    other = pydicom.dcmread(path)
    other.FrameOfReferenceUID = "1.2.3"
    other.save_as(path)
    wanted = boxes(source.geometry.shape, LIVER)[..., 0]
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_reference(path, onto=source.geometry)
    found = read_reference(path, onto=source.geometry, image=tmp_path / "series")
    np.testing.assert_array_equal(found.array, wanted)
    other.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4"
    other.save_as(path)
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_reference(path, onto=source.geometry, image=tmp_path / "series")


def test_another_series_in_the_same_place_is_said(tmp_path, source, draw_boxes):
    rules = RoiRules(LABELS, (("liver", 1),))
    path = save_seg(tmp_path / "s.dcm", source, boxes(source.geometry.shape, LIVER), ["liver"])
    assert remarks(path, onto=source.geometry, rules=rules, image=tmp_path / "series") == ()
    named = pydicom.dcmread(path)
    named.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4"
    named.save_as(path)
    (remark,) = remarks(path, onto=source.geometry, rules=rules, image=tmp_path / "series")
    assert remark.code == "other-series"
    drawn = draw_boxes(tmp_path / "r.dcm", source.geometry, [("liver", LIVER)])  # names no series at all
    assert remarks(drawn, onto=source.geometry, rules=rules, image=tmp_path / "series") == ()


# -- real files -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("patient", ["STS_002", "STS_025"])
@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_contours_equal_the_mask_their_publisher_made(test_data, patient, modality):
    folder = test_data / "dicom" / "sarcoma" / patient
    grid = read_geometry(folder / "dicom" / modality / "image")
    rules = RoiRules(LabelSet.from_names({1: "GTV"}), (("GTV_Mass*", 1),))
    drawn = read_reference(folder / "dicom" / modality / "mask", onto=grid, rules=rules)
    mask = read_segmentation(folder / "nifti" / f"{modality}_mask.nii.gz")
    turned = resample(mask, onto=mask.geometry.reoriented(grid.axis_codes))
    assert turned.geometry.same_grid(grid)
    assert drawn.array.any()
    np.testing.assert_array_equal(drawn.array, turned.array)


@pytest.mark.parametrize(
    ("seg", "image", "mask"),
    [
        ("seg_with_images/liver.dcm", "seg_with_images", "seg_with_images/liver_seg.nrrd"),
        ("seg_multiframe_source/seg", "seg_multiframe_source/image", "seg_multiframe_source/nrrd/label.nrrd"),
        ("seg_multiframe_source/seg", "seg_multiframe_source/multiframe", "seg_multiframe_source/nrrd/label.nrrd"),
    ],
)
def test_segments_equal_the_mask_they_were_made_from(test_data, seg, image, mask):
    edge = test_data / "dicom_edge"
    grid = read_geometry(edge / image)
    wanted = read_segmentation(edge / mask)
    turned = resample(wanted, onto=wanted.geometry.reoriented(grid.axis_codes))
    assert turned.geometry.same_grid(grid)
    np.testing.assert_array_equal(read_reference(edge / seg, onto=grid).array, turned.array)


def test_segs_of_every_type(test_data):
    folder = test_data / "dicom_edge" / "seg_samples"
    binary = read_reference(folder / "seg_image_ct_binary.dcm")
    same = read_reference(folder / "seg_image_ct_binary_fractional.dcm")
    np.testing.assert_array_equal(binary.array, same.array)
    with pytest.raises(InputError, match="'first segment' and 'second segment' overlap"):
        read_reference(folder / "seg_image_ct_binary_overlap.dcm")
    with pytest.raises(InputError, match="FRACTIONAL"):
        read_reference(folder / "seg_image_ct_true_fractional.dcm")
    rules = RoiRules(LabelSet.from_names({1: "x"}), (("*", 1),), threshold=0.5)
    oracle = hd.seg.segread(folder / "seg_image_ct_true_fractional.dcm")
    values = oracle.pixel_array >= 0.5 * oracle.MaximumFractionalValue
    assert read_reference(folder / "seg_image_ct_true_fractional.dcm", rules=rules).voxel_counts() == {1: values.sum()}
    single = read_reference(
        folder / "seg_image_ct_binary_single_frame.dcm", onto=read_geometry(folder / "ct_image.dcm")
    )
    frame = hd.seg.segread(folder / "seg_image_ct_binary_single_frame.dcm").pixel_array
    np.testing.assert_array_equal(single.array[0], frame)


def test_contours_in_an_invented_frame_are_read_on_the_series_they_name(test_data):
    folder = test_data / "dicom_edge" / "rtstruct_with_images"
    grid = read_geometry(folder)
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_reference(folder, onto=grid)
    mask = read_segmentation(folder, onto=grid, image=folder)
    assert mask.array.any(axis=(1, 2)).tolist() == [True, False]
    assert remarks(folder, onto=grid, rules=RoiRules(LABELS, (("ROI-1", 1),)), image=folder) == ()
