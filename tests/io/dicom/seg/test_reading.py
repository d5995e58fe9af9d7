from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io import read_segmentation
from medseg.io.dicom import find_series, read_seg, write_seg, write_series
from medseg.labels import LabelSet
from medseg.volume import Segmentation


@pytest.fixture
def written(tmp_path, make_image):
    """Return a series, its mask and the SEG of it."""
    write_series(make_image(low=0), tmp_path / "series")
    source = find_series(tmp_path / "series")
    array = np.zeros(source.geometry.shape, np.uint8)
    array[0, 1:3, 1:3], array[4, 2:5, 3:6] = 1, 2
    segmentation = Segmentation(array, source.geometry, LabelSet.from_names({1: "liver", 2: "spleen"}))
    write_seg(segmentation, tmp_path / "seg.dcm", source=source)
    return source, segmentation, tmp_path / "seg.dcm"


def test_slices_left_out_between_frames_are_empty(written):
    _, segmentation, path = written
    back = read_seg(path)
    assert back.geometry.same_grid(segmentation.geometry, 1e-3)
    np.testing.assert_array_equal(back.array, segmentation.array)


def test_a_label_map_is_read(written, tmp_path):
    source, segmentation, _ = written
    datasets = [pydicom.dcmread(p) for p in source.paths]
    described = [
        hd.seg.SegmentDescription(
            number, label.name, hd.sr.CodedConcept("1", "99X", "x"), hd.sr.CodedConcept("2", "99X", "y"), "MANUAL"
        )
        for number, label in enumerate(segmentation.labels, start=1)
    ]
    hd.seg.Segmentation(
        datasets,
        segmentation.array,
        "LABELMAP",
        described,
        hd.UID(),
        1,
        hd.UID(),
        1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=False,
    ).save_as(tmp_path / "map.dcm")
    back = read_seg(tmp_path / "map.dcm", onto=source.geometry)
    np.testing.assert_array_equal(back.array, segmentation.array)
    assert back.labels.names == ("liver", "spleen")


def test_frames_off_the_grid_are_refused(written):
    source, _, path = written
    affine = source.geometry.affine.copy()
    affine[2, 3] += 1.0
    with pytest.raises(GeometryError, match="does not lie on a slice"):
        read_seg(path, onto=Geometry(source.geometry.shape, affine))


def test_overlap_is_refused_naming_both(written, tmp_path):
    _, _, path = written
    dataset = pydicom.dcmread(path)
    first, second = dataset.PerFrameFunctionalGroupsSequence
    second.PlanePositionSequence = first.PlanePositionSequence
    size = 6 * 7
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")[: 2 * size].reshape(2, 6, 7)
    bits[1] = bits[0]
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset.save_as(tmp_path / "overlap.dcm")
    with pytest.raises(InputError, match="'liver' and 'spleen' overlap"):
        read_seg(tmp_path / "overlap.dcm")


def test_a_fractional_seg_is_told_from_a_binary_one(written, tmp_path):
    dataset = pydicom.dcmread(written[2])
    dataset.SegmentationType = "FRACTIONAL"
    dataset.save_as(tmp_path / "f.dcm")
    with pytest.raises(InputError, match="FRACTIONAL"):
        read_seg(tmp_path / "f.dcm")


def test_truncated_bits_are_refused(written, tmp_path):
    dataset = pydicom.dcmread(written[2])
    dataset.PixelData = dataset.PixelData[:-4]
    dataset.save_as(tmp_path / "t.dcm")
    with pytest.raises(InputError, match="bytes"):
        read_seg(tmp_path / "t.dcm")


def test_other_files_are_refused(written, tmp_path):
    (tmp_path / "x.dcm").write_bytes(bytes(500))
    with pytest.raises(InputError):
        read_seg(tmp_path / "x.dcm")
    with pytest.raises(InputError):
        read_seg(written[0].paths[0])


def test_it_is_read_as_any_mask_is(written, tmp_path):
    _, segmentation, path = written
    mask = read_segmentation(path)
    assert mask.labels.names == ("liver", "spleen")
    np.testing.assert_array_equal(mask.array, segmentation.array)
    named = read_segmentation(path, labels=LabelSet.from_names({1: "a", 2: "b", 3: "c"}))
    assert named.labels.names == ("a", "b", "c")
    with pytest.raises(InputError, match=r"seg\.dcm"):
        read_segmentation(path, labels=LabelSet.from_names({1: "a"}))
    with pytest.raises(InputError, match="the folder holds no SEG"):
        read_segmentation(tmp_path / "series")


def test_frames_of_one_slice_that_were_rounded_apart_lie_on_one(tmp_path, make_image):
    write_series(make_image(low=0), tmp_path / "series")
    source = find_series(tmp_path / "series")
    array = np.zeros(source.geometry.shape, np.uint8)
    array[1:4, 1:3, 1:3], array[1:4, 3:5, 3:6] = 1, 2
    labels = LabelSet.from_names({1: "liver", 2: "spleen"})
    write_seg(Segmentation(array, source.geometry, labels), tmp_path / "seg.dcm", source=source)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for n, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        place = group.PlanePositionSequence[0]
        x, y, z = place.ImagePositionPatient
        place.ImagePositionPatient = [float(x), float(y), float(z) + 0.001 * (n % 2)]
    seg.save_as(tmp_path / "seg.dcm")
    back = read_seg(tmp_path / "seg.dcm")
    assert back.geometry.shape == (3, *array.shape[1:])
    np.testing.assert_array_equal(back.array, array[1:4])
