"""Multi-frame objects made here: what their functional groups say becomes the place and order of each frame."""

from __future__ import annotations

import itertools

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRay3DAngiographicImageStorage,
    generate_uid,
)

from medseg.io.dicom import inspect_folder, read_series
from medseg.io.dicom.header.multiframe import MOST_FRAMES

AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)


def one(**elements):
    """Return a sequence of one item."""
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


def groups(position=None, orientation=None, spacing=None, *, temporal=None, b=None, echo=None, component=None):
    """Return the functional groups of one frame, or of all."""
    d = Dataset()
    if position is not None:
        d.PlanePositionSequence = one(ImagePositionPatient=[float(v) for v in position])
    if orientation is not None:
        d.PlaneOrientationSequence = one(ImageOrientationPatient=[float(v) for v in orientation])
    if spacing is not None:
        d.PixelMeasuresSequence = one(PixelSpacing=[float(v) for v in spacing], SliceThickness=2.0)
    if temporal is not None:
        d.FrameContentSequence = one(TemporalPositionIndex=temporal, StackID="1")
    if b is not None:
        d.MRDiffusionSequence = one(DiffusionBValue=float(b))
    if echo is not None:
        d.MREchoSequence = one(EffectiveEchoTime=float(echo))
    if component is not None:
        d.MRImageFrameTypeSequence = one(
            FrameType=["ORIGINAL", "PRIMARY", "OTHER", "NONE"], ComplexImageComponent=component
        )
    return d


def write_object(path, planes, per_frame, shared=None, **elements):
    """Write a multi-frame object of these planes; `elements` are set or, where None, left out at the end."""
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = EnhancedMRImageStorage, generate_uid()
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = "1.2.1", "1.2.2", "1.2.3"
    d.Modality, d.ImageType, d.InstanceNumber = "MR", ["ORIGINAL", "PRIMARY", "OTHER", "NONE"], 1
    d.NumberOfFrames, d.Rows, d.Columns = len(planes), *planes[0].shape
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    if shared is not None:
        d.SharedFunctionalGroupsSequence = [shared]
    if per_frame is not None:
        d.PerFrameFunctionalGroupsSequence = per_frame
    d.PixelData = np.stack(planes).astype(np.uint16).tobytes()
    d["PixelData"].VR = "OW"
    syntax = elements.pop("syntax", ExplicitVRLittleEndian)
    for keyword, value in elements.items():
        setattr(d, keyword, value)
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    d.save_as(path, enforce_file_format=True)
    return path


def plane(number):
    return np.full((4, 6), number) + np.arange(24).reshape(4, 6) * 100


def codes(item):
    return [f.code for f in item.findings]


def the_item(folder):
    (item,) = inspect_folder(folder).items
    return item


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, pydicom.uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("codes_of_axes", ["SPL", "PSL", "LSP"])
@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (11, -7, 23)])
def test_frames_in_any_order_span_the_grid_they_were_cut_from(
    syntax, codes_of_axes, rotation_deg, tmp_path, make_image
):
    image = make_image(codes_of_axes, dtype=np.uint16, low=0, rotation_deg=rotation_deg)
    grid = image.geometry
    order = np.random.default_rng(3).permutation(grid.shape[0])
    direction = grid.directions_lps
    shared = groups(orientation=(*direction[:, 2], *direction[:, 1]), spacing=grid.spacing_mm[1:])
    per_frame = [groups(position=grid.to_lps([z, 0, 0])) for z in order]
    planes = [image.array[0, z] for z in order]
    if syntax == pydicom.uid.ExplicitVRBigEndian:
        planes = [p.byteswap() for p in planes]
    write_object(tmp_path / "it.dcm", planes, per_frame, shared, syntax=syntax)
    item = the_item(tmp_path)
    assert (item.status, item.shape, item.volumes) == ("ok", grid.shape, 1)
    volume = read_series(item)
    frames = [piece.frame for piece in item.source.slices]
    rising = [int(np.flatnonzero(order == z)[0]) for z in range(grid.shape[0])]
    assert frames in (rising, rising[::-1])
    flipped = image.array[:, ::-1] if frames != rising else image.array
    np.testing.assert_array_equal(volume.array, flipped)
    corner = grid.to_lps([grid.shape[0] - 1 if frames != rising else 0, 0, 0])
    np.testing.assert_allclose(volume.geometry.origin_lps, corner, atol=1e-3)
    np.testing.assert_allclose(volume.geometry.spacing_mm, grid.spacing_mm, atol=1e-3)


@pytest.mark.parametrize(
    "sop_class",
    [
        EnhancedCTImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        BreastTomosynthesisImageStorage,
        XRay3DAngiographicImageStorage,
    ],
)
def test_every_class_with_functional_groups_is_read(sop_class, tmp_path):
    per_frame = [groups((0, 0, z), AXIAL, (1, 1)) for z in range(3)]
    write_object(tmp_path / "it", [plane(z) for z in range(3)], per_frame, SOPClassUID=sop_class)
    assert (the_item(tmp_path).status, the_item(tmp_path).shape) == ("ok", (3, 4, 6))


@pytest.mark.parametrize(
    ("what", "values", "said"),
    [
        ("temporal", (1, 2, 3), "3 time points"),
        ("b", (0, 500, 1000), "b-values 0, 500, 1000"),
        ("echo", (4.6, 9.2, 13.8), "echo times in ms 4.6, 9.2, 13.8"),
        ("component", ("MAGNITUDE", "PHASE", "REAL"), "3 image types"),
    ],
)
def test_positions_repeated_are_volumes_in_order(what, values, said, tmp_path):
    rng = np.random.default_rng(5)
    cells = list(itertools.product(range(len(values)), range(4)))
    rng.shuffle(cells)
    per_frame = [groups((0, 0, 2 * z), **{what: values[n]}) for n, z in cells]
    planes = [plane(10 * n + z) for n, z in cells]
    write_object(tmp_path / "it", planes, per_frame, groups(orientation=AXIAL, spacing=(1, 1)))
    item = the_item(tmp_path)
    assert (item.status, item.shape, item.volumes, codes(item)) == ("repairable", (4, 4, 6), 3, ["four-d"])
    assert said in item.reason
    for n in range(3):
        array = read_series(item, volume=n).array
        np.testing.assert_array_equal(array[0], [plane(10 * n + z) for z in range(4)])


def test_volumes_in_several_objects_are_one_item(tmp_path):
    for n in (2, 1, 0):
        per_frame = [groups((0, 0, z), AXIAL, (1, 1), temporal=n + 1) for z in range(3)]
        write_object(tmp_path / f"{9 - n}.dcm", [plane(10 * n + z) for z in range(3)], per_frame)
    item = the_item(tmp_path)
    assert (item.volumes, len(item.paths)) == (3, 3)
    np.testing.assert_array_equal(read_series(item, volume=1).array[0], [plane(10 + z) for z in range(3)])


def test_volumes_that_cannot_be_told_apart_are_refused(tmp_path):
    marks = {(0, 0): 0, (1, 0): 0, (0, 1): 0, (1, 1): 700}
    per_frame = [groups((0, 0, z), AXIAL, (1, 1), b=b) for (_, z), b in marks.items()]
    write_object(tmp_path / "it", [plane(n) for n in range(4)], per_frame)
    item = the_item(tmp_path)
    assert (item.status, codes(item)) == ("refused", ["duplicate-position"])
    assert "not with the same b-values" in item.reason


def test_a_missing_frame_may_be_made_up(tmp_path):
    per_frame = [groups((0, 0, z), AXIAL, (1, 1), temporal=t) for z in (0, 2, 6, 8) for t in (1, 2)]
    write_object(tmp_path / "it", [plane(n) for n in range(8)], per_frame)
    item = the_item(tmp_path)
    assert (item.status, item.volumes, sorted(codes(item))) == ("repairable", 2, ["four-d", "missing-slice"])
    assert item.geometry is None
    assert item.source.irregular.stations == (0, 1, 3, 4)


@pytest.mark.parametrize(
    ("second", "code", "words"),
    [
        ({"position": (0, 0, 0), "orientation": CORONAL, "spacing": (1, 1)}, "mixed-orientation", "orientations"),
        ({"position": (0, 0, 1), "orientation": AXIAL, "spacing": (2, 2)}, "mixed-size", "pixel spacings"),
        ({"orientation": AXIAL, "spacing": (1, 1)}, "no-geometry", "others have none"),
    ],
)
def test_several_grids_in_one_object_are_one_refused_item(second, code, words, tmp_path):
    per_frame = [groups((0, 0, 0), AXIAL, (1, 1)), groups((0, 0, 1), AXIAL, (1, 1)), groups(**second)]
    write_object(tmp_path / "it", [plane(n) for n in range(3)], per_frame)
    item = the_item(tmp_path)
    assert (item.status, codes(item), item.paths) == ("refused", [code], ("it",))
    assert words in item.reason


@pytest.mark.parametrize(
    ("per_frame", "shared", "words"),
    [
        (None, None, "without functional groups"),
        (None, groups((0, 0, 0), AXIAL, (1, 1)), "describe 0"),
        ([groups((0, 0, 0), AXIAL, (1, 1))] * 2, None, "describe 2"),
        ([groups((0, 0, z), AXIAL) for z in range(3)], None, "without a usable PixelSpacing"),
        ([groups((0, 0, z), spacing=(1, 1)) for z in range(3)], None, "without a usable ImageOrientationPatient"),
        ([groups(None, AXIAL, (1, 1)) for _ in range(3)], None, "without a usable ImagePositionPatient"),
    ],
)
def test_what_is_absent_is_named(per_frame, shared, words, tmp_path):
    write_object(tmp_path / "it", [plane(n) for n in range(3)], per_frame, shared)
    item = the_item(tmp_path)
    assert (item.status, codes(item), item.shape) == ("refused", ["no-geometry"], (3, 4, 6))
    assert words in item.reason


def test_a_single_frame_of_an_enhanced_object_is_a_slice(tmp_path):
    write_object(tmp_path / "it", [plane(7)], None, groups((1, 2, 3), AXIAL, (0.5, 0.25)))
    item = the_item(tmp_path)
    assert (item.status, codes(item), item.spacing_mm) == ("ok", ["single-slice"], (2.0, 0.5, 0.25))


def test_one_frame_in_a_classic_object_is_not_multi_frame(tmp_path):
    d = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [1, 1]}
    write_object(tmp_path / "it", [plane(7)], None, SOPClassUID=pydicom.uid.MRImageStorage, **d)
    assert (the_item(tmp_path).status, codes(the_item(tmp_path))) == ("ok", ["single-slice"])


def test_frames_over_time_stay_refused(tmp_path):
    us = {"SOPClassUID": UltrasoundMultiFrameImageStorage, "Modality": "US"}
    write_object(tmp_path / "us", [plane(n) for n in range(3)], None, **us)
    cine = {"SOPClassUID": pydicom.uid.MRImageStorage, "SeriesInstanceUID": "1.2.9"}
    write_object(tmp_path / "mr", [plane(n) for n in range(3)], None, **cine)
    for item in inspect_folder(tmp_path).items:
        assert (item.status, "multi-frame" in codes(item)) == ("refused", True)


def test_values_of_another_type_than_the_standards_are_read(tmp_path):
    per_frame = [groups((0, 0, z), AXIAL, (1, 1)) for z in range(3)]
    path = write_object(tmp_path / "it", [plane(z) for z in range(3)], per_frame)
    d = pydicom.dcmread(path)
    for z, frame in enumerate(d.PerFrameFunctionalGroupsSequence):
        item = frame.PlanePositionSequence[0]
        item["ImagePositionPatient"] = pydicom.DataElement("ImagePositionPatient", "FD", [0.0, 0.0, 3.0 * z])
    d.save_as(path)
    assert the_item(tmp_path).spacing_mm == (3.0, 1.0, 1.0)


def test_a_promise_of_endless_frames_costs_nothing(tmp_path):
    per_frame = [groups((0, 0, z), AXIAL, (1, 1)) for z in range(3)]
    planes = [plane(z) for z in range(3)]
    for n, count in enumerate((4, MOST_FRAMES + 1, 2**31 - 1)):
        write_object(tmp_path / f"{n}", planes, per_frame, NumberOfFrames=count, SeriesInstanceUID=f"1.2.{n}")
    items = inspect_folder(tmp_path).items
    assert [item.status for item in items] == ["refused"] * 3
    assert all({"truncated", "no-geometry"} == set(codes(item)) for item in items)


def test_sequences_nested_without_end_are_no_crash(tmp_path):
    path = write_object(tmp_path / "it", [plane(0)], [groups((0, 0, 0), AXIAL, (1, 1))])
    raw = path.read_bytes()
    tag = b"\x00\x52\x30\x92SQ\x00\x00"
    at = raw.index(tag)
    opened = b"\x20\x00\x13\x91SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    for depth in (10, 100_000):
        path.write_bytes(raw[:at] + tag + b"\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" + opened * depth)
        item = the_item(tmp_path)
        assert (item.status, item.kind) == ("refused", "unreadable")


@pytest.mark.parametrize("length", [0, 7, 2**31, 2**32 - 2, 2**32 - 1])
def test_absurd_lengths_of_the_groups_are_no_crash(length, tmp_path):
    path = write_object(tmp_path / "it", [plane(0)] * 2, [groups((0, 0, z), AXIAL, (1, 1)) for z in range(2)])
    raw = bytearray(path.read_bytes())
    at = raw.index(b"\x00\x52\x30\x92SQ\x00\x00") + 8
    raw[at : at + 4] = length.to_bytes(4, "little")
    path.write_bytes(raw)
    assert the_item(tmp_path).status in {"refused", "ignored"}


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    path = write_object(tmp_path / "it", [plane(0)], [groups((0, 0, 0), AXIAL, (1, 1))])
    raw = path.read_bytes()
    at = raw.index(b"\x28\x00\x02\x00US")
    items = b"\xfe\xff\x00\xe0" + bytes(4)
    sequence = b"\x20\x00\x22\x92SQ\x00\x00\xff\xff\xff\xff" + items * 300_000 + b"\xfe\xff\xdd\xe0" + bytes(4)
    path.write_bytes(raw[:at] + sequence + raw[at:])
    item = the_item(tmp_path)
    assert (item.status, codes(item)) == ("refused", ["unreadable", "single-slice"])


def test_damaged_groups_are_no_crash(tmp_path):
    rng = np.random.default_rng(17)
    per_frame = [groups((0, 0, z), AXIAL, (1, 1), temporal=1, b=0) for z in range(3)]
    raw = write_object(tmp_path / "it", [plane(z) for z in range(3)], per_frame).read_bytes()
    start = raw.index(b"\x00\x52\x30\x92")
    end = raw.rindex(b"\xe0\x7f\x10\x00")
    (tmp_path / "it").unlink()
    for n in range(120):
        damaged = bytearray(raw)
        for at in rng.integers(start, end, rng.integers(1, 12)):
            damaged[at] = rng.integers(0, 256)
        (tmp_path / f"{n:03}").write_bytes(damaged)
    inventory = inspect_folder(tmp_path)
    assert inventory.files == 120
    assert all(f.message for item in inventory.items for f in item.findings)


@pytest.mark.parametrize("count", [None, 2])
def test_frames_beyond_their_number_are_not_dropped_in_silence(count, tmp_path):
    per_frame = [groups(position=(0, 0, z)) for z in range(3)]
    shared = groups(orientation=AXIAL, spacing=(1, 1))
    write_object(tmp_path / "it", [plane(z) for z in range(3)], per_frame, shared, NumberOfFrames=count)
    item = the_item(tmp_path)
    assert (item.status, codes(item)) == ("refused", ["no-geometry"])
    assert "describe more of them" in item.reason


def test_a_secondary_capture_whose_frames_have_a_place_is_a_volume(tmp_path):
    per_frame = [groups(position=(0, 0, z)) for z in range(3)]
    shared = groups(orientation=AXIAL, spacing=(1, 1))
    sop_class = pydicom.uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    write_object(tmp_path / "it", [plane(z) for z in range(3)], per_frame, shared, SOPClassUID=sop_class)
    assert (the_item(tmp_path).status, the_item(tmp_path).shape) == ("ok", (3, 4, 6))


def test_heart_phases_stand_in_order_from_the_r_wave_on(tmp_path):
    per_frame = []
    for phase in (50.0, 0.0):
        for z in range(2):
            frame = groups(position=(0, 0, z))
            frame.CardiacSynchronizationSequence = one(NominalCardiacTriggerDelayTime=phase)
            frame.TemporalPositionSequence = one(TemporalPositionTimeOffset=5.0)
            per_frame.append(frame)
    shared = groups(orientation=AXIAL, spacing=(1, 1))
    write_object(tmp_path / "it", [plane(n) for n in range(4)], per_frame, shared)
    item = the_item(tmp_path)
    assert "times after the R wave in ms 0, 50" in item.reason
    np.testing.assert_array_equal(read_series(item, volume=0).array[0], [plane(2), plane(3)])
