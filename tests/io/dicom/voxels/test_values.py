from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from medseg.errors import InputError
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.series import read_series
from medseg.io.dicom.voxels.padding import Padding
from medseg.io.dicom.voxels.rescale import Line
from medseg.io.dicom.voxels.suv import Uptake
from medseg.io.dicom.voxels.tables import Table
from medseg.io.dicom.voxels.values import ValueMap, physical, value_map, value_notes


def header(modality="CT", *, bits=16, signed=0, **elements):
    found = Dataset()
    found.Modality, found.PhotometricInterpretation = modality, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.PixelRepresentation = (8 if bits <= 8 else 16), bits, signed
    for keyword, value in elements.items():
        setattr(found, keyword, value)
    return found


def sequence(**elements):
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return Sequence([item])


def written(dataset, path):
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def notes(dataset, tmp_path):
    with quiet():
        return {f.code: f.message for f in value_notes(written(dataset, tmp_path / "a.dcm"))}


def test_an_empty_header_changes_nothing():
    stored = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    assert physical(stored, [value_map(Dataset())], modality="MR") is stored


@pytest.mark.parametrize(
    ("dtype", "values", "slope", "intercept", "read_as"),
    [
        ("u2", [0, 4095], 1, -1024, "i2"),
        ("u2", [0, 65535], 1, -1024, "i4"),
        ("i2", [-2000, 3000], 1, -1024, "i2"),
        ("i2", [-32768, 3000], 1, -1024, "i4"),
        ("u2", [0, 65535], 1, 0, "u2"),
        ("u1", [0, 255], 2, -10, "i2"),
        ("i4", [-5, 70000], 3, 1, "i4"),
        ("u2", [0, 60000], 1e6, 0, "f4"),
        ("u2", [0, 4095], 0.5, -1024, "f4"),
        ("f4", [0.5, 1.5], 1, 0, "f4"),
        ("f8", [0.5, 1.5], 1, 0, "f4"),
        (">i2", [-7, 9], 1, 0, "i2"),
        (">u2", [0, 4095], 1, -1024, "i2"),
    ],
)
def test_values_and_type(dtype, values, slope, intercept, read_as):
    stored = np.array([[values]], dtype)
    out = physical(stored.copy(), [value_map(header(RescaleSlope=slope, RescaleIntercept=intercept))], modality="CT")
    assert out.dtype == np.dtype(read_as)
    np.testing.assert_allclose(out[0, 0], np.array(values, np.float64) * slope + intercept, rtol=1e-6)


@given(
    stored=st.sampled_from(["i1", "u1", "i2", "u2", "i4"]),
    lines=st.lists(st.tuples(st.integers(-3, 3).filter(bool), st.integers(-2000, 2000)), min_size=1, max_size=4),
    is_real=st.booleans(),
    padding=st.none() | st.tuples(st.integers(-5, 5), st.integers(0, 4)),
    modality=st.sampled_from(["CT", "MR", "PT", "DX"]),
    seed=st.integers(0, 20),
)
def test_any_slices_equal_a_slow_reckoning(stored, lines, is_real, padding, modality, seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(-6 if stored[0] == "i" else 0, 12, (len(lines), 4, 5)).astype(stored)
    lines = [(s * 0.37, i) if is_real else (s, i) for s, i in lines]
    pad = None if padding is None else Padding(float(padding[0]), float(padding[0] + padding[1]))
    maps = [ValueMap(Line(float(s), float(i)), padding=pad) for s, i in lines]
    slow = np.array(
        [[[float(v) * s + i for v in row] for row in p] for p, (s, i) in zip(array.tolist(), lines, strict=True)]
    )
    mask = np.zeros(array.shape, bool) if pad is None else (array >= pad.low) & (array <= pad.high)
    air = {"CT": -1000.0, "MR": 0.0, "PT": 0.0}.get(modality)
    if air is None:
        air = slow[~mask].min() if not mask.all() else 0.0
    slow[mask] = air
    out = physical(array.copy(), maps, modality=modality)
    np.testing.assert_array_equal(out, slow.astype(np.float32) if out.dtype.kind == "f" else slow)
    assert out.dtype.kind == ("f" if is_real or modality == "PT" else "i") or out.dtype == array.dtype


def test_pydicom_says_the_same():
    case = header(RescaleSlope="0.684", RescaleIntercept="200")
    stored = np.random.default_rng(0).integers(0, 4096, (1, 8, 9)).astype(np.uint16)
    expected = apply_modality_lut(stored, case).astype(np.float32)
    np.testing.assert_array_equal(physical(stored, [value_map(case)], modality="MR"), expected)


def test_each_slice_has_its_own_scale():
    stored = np.full((3, 1, 2), 10, np.int16)
    whole = [ValueMap(Line(s, i)) for s, i in ((1.0, 0.0), (2.0, 0.0), (3.0, 5.0))]
    np.testing.assert_array_equal(physical(stored.copy(), whole, modality="MR")[:, 0, 0], [10, 20, 35])
    real = [ValueMap(Line(s)) for s in (0.1, 0.2, 1.0)]
    np.testing.assert_allclose(physical(stored.copy(), real, modality="MR")[:, 0, 0], [1, 2, 10], rtol=1e-6)


def test_stored_values_are_reused_where_they_fit():
    stored = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    assert np.shares_memory(physical(stored, [ValueMap(Line(1, -1024))], modality="CT"), stored)


def test_read_only_values_are_left_alone():
    stored = np.array([[[3, 7]]], np.int16)
    stored.flags.writeable = False
    for m in (ValueMap(Line(1, -1)), ValueMap(padding=Padding(3, 3)), ValueMap(Line(0.5))):
        assert physical(stored, [m], modality="CT")[0, 0, 1] == m.of(7)
    assert stored.tolist() == [[[3, 7]]]


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": 0},
        {"RescaleSlope": "NaN"},
        {"RescaleIntercept": "inf"},
        {"RescaleSlope": "1e999"},
    ],
)
def test_a_scale_that_says_nothing_is_refused(elements, tmp_path):
    with quiet():
        case = header(**elements)
        with pytest.raises(InputError) as caught:
            value_map(case)
    assert caught.value.code == "bad-rescale"
    assert set(notes(case, tmp_path)) == {"bad-rescale"}
    with quiet(), pytest.raises(InputError, match=r"^a\.dcm: RescaleSlope"):
        value_map(pydicom.dcmread(tmp_path / "a.dcm"))


def test_empty_scales_are_none():
    assert value_map(header(RescaleSlope=None, RescaleIntercept=None)).line.is_identity


# multi-frame objects


def test_each_frame_has_its_own_scale_then_all_then_the_header():
    case = header(RescaleSlope=9)
    case.SharedFunctionalGroupsSequence = sequence(
        PixelValueTransformationSequence=sequence(RescaleSlope=2, RescaleIntercept=-5)
    )
    own = sequence(PixelValueTransformationSequence=sequence(RescaleSlope=3, RescaleIntercept=7))[0]
    case.PerFrameFunctionalGroupsSequence = Sequence([own, Dataset()])
    assert [value_map(case, frame).line for frame in (0, 1, 2)] == [Line(3, 7), Line(2, -5), Line(2, -5)]
    del case.SharedFunctionalGroupsSequence
    assert value_map(case, 1).line == Line(9, 0)


def test_a_bad_scale_of_a_later_frame_is_noted(tmp_path):
    frames = [sequence(PixelValueTransformationSequence=sequence(RescaleSlope=s))[0] for s in (1, 0)]
    assert set(notes(header(PerFrameFunctionalGroupsSequence=Sequence(frames)), tmp_path)) == {"bad-rescale"}


# padding


def test_padding_of_ct_becomes_air(tmp_path):
    case = header(signed=1, RescaleSlope=1, RescaleIntercept=-1024)
    case.add_new("PixelPaddingValue", "SS", -2000)
    out = physical(np.array([[[-2000, 0, 1064]]], np.int16), [value_map(case)], modality="CT")
    assert (out.dtype, out.tolist()) == (np.int16, [[[-1000, -1024, 40]]])
    assert "-1000 HU" in notes(case, tmp_path)["padding"]


def test_padding_does_not_widen_the_type():
    case = ValueMap(Line(1, -1024), padding=Padding(-32768, -32768))
    stored = np.array([[[-32768, 0, 1064]], [[-32768] * 3]], np.int16)
    out = physical(stored, [case, case], modality="CT")
    assert (out.dtype, out.tolist()) == (np.int16, [[[-1000, -1024, 40]], [[-1000] * 3]])


def test_padding_that_no_voxel_has_changes_no_type():
    out = physical(np.array([[[3, 7]]], np.uint16), [ValueMap(padding=Padding(9, 9))], modality="CT")
    assert (out.dtype, out.tolist()) == (np.uint16, [[[3, 7]]])


def test_air_that_the_stored_type_does_not_hold():
    out = physical(np.array([[[3, 7]]], np.uint16), [ValueMap(padding=Padding(3, 3))], modality="CT")
    assert (out.dtype, out.tolist()) == (np.int16, [[[-1000, 7]]])


def test_padding_is_looked_for_before_the_scale():
    out = physical(np.array([[[5, 10]]], np.int16), [ValueMap(Line(2, 0), padding=Padding(10, 10))], modality="MR")
    assert out.tolist() == [[[10, 0]]]


def test_zero_padding_of_mr_goes_unseen(tmp_path):
    case = header("MR", signed=0)
    case.add_new("PixelPaddingValue", "US", 0)
    stored = np.array([[[0, 7]]], np.uint16)
    assert physical(stored.copy(), [value_map(case)], modality="MR").tolist() == stored.tolist()
    assert notes(case, tmp_path) == {}


def test_water_is_not_taken_for_padding(tmp_path):
    case = header(signed=1, RescaleSlope=1, RescaleIntercept=0)
    case.add_new("PixelPaddingValue", "SS", 0)
    stored = np.array([[[0, -1000]]], np.int16)
    assert physical(stored.copy(), [value_map(case)], modality="CT").tolist() == stored.tolist()
    assert "not taken for padding" in notes(case, tmp_path)["padding"]


def test_padding_of_an_x_ray_becomes_its_darkest_value():
    case = header("DX", bits=12, PhotometricInterpretation="MONOCHROME1")
    case.add_new("PixelPaddingValue", "US", 4095)
    out = physical(np.array([[[4095, 100, 3000]]], np.uint16), [value_map(case)], modality="DX")
    assert out.tolist() == [[[1095, 3995, 1095]]]


def test_an_image_of_padding_alone_is_zero():
    out = physical(np.full((1, 2, 2), 9, np.uint8), [ValueMap(padding=Padding(9, 9))], modality="DX")
    assert not out.any()


# tables


def test_a_table_goes_before_the_scale(tmp_path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [3, 10, 16])
    item.add_new("LUTData", "OW", np.array([500, 7, 9], "<u2").tobytes())
    case = header("CR", RescaleSlope=2, RescaleIntercept=1, ModalityLUTSequence=Sequence([item]))
    stored = np.array([[[0, 11, 99]]], np.uint16)
    out = physical(stored.copy(), [value_map(case)], modality="CR")
    assert out.tolist() == [[[500, 7, 9]]]
    assert (out.dtype, stored.tolist()) == (np.uint16, [[[0, 11, 99]]])
    assert set(notes(case, tmp_path)) == {"modality-lut"}
    case.PhotometricInterpretation = "MONOCHROME1"
    assert physical(stored.copy(), [value_map(case)], modality="CR").tolist() == [[[7, 500, 498]]]


def test_tables_and_scales_in_one_series():
    table = ValueMap(table=Table(np.array([40000, 3], np.uint16), first=-1))
    stored = np.array([[[-5, 4]], [[-5, 4]]], np.int16)
    out = physical(stored, [table, ValueMap()], modality="CR")
    assert (out.dtype, out.tolist()) == (np.int32, [[[40000, 3]], [[-5, 4]]])


def test_a_damaged_table_is_noted(tmp_path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [0, 0, 16])
    item.add_new("LUTData", "OW", bytes(20))
    found = notes(header("CR", ModalityLUTSequence=Sequence([item])), tmp_path)
    assert "10 entries, where its descriptor says 65536" in found["bad-rescale"]


# MONOCHROME1


@pytest.mark.parametrize(
    ("bits", "signed", "dtype", "stored", "bright"),
    [
        (8, 0, "u1", [0, 255, 1], [255, 0, 254]),
        (10, 0, "u2", [0, 1023, 1], [1023, 0, 1022]),
        (12, 1, "i2", [-2048, 2047, 0], [2047, -2048, -1]),
        (16, 0, "u2", [0, 65535, 1], [65535, 0, 65534]),
    ],
)
def test_dark_and_bright_change_places_within_the_stored_bits(bits, signed, dtype, stored, bright, tmp_path):
    case = header("DX", bits=bits, signed=signed, PhotometricInterpretation="MONOCHROME1")
    out = physical(np.array([[stored]], dtype), [value_map(case)], modality="DX")
    assert (out.dtype, out.tolist()) == (np.dtype(dtype), [[bright]])
    assert set(notes(case, tmp_path)) == {"inverted"}


@pytest.mark.parametrize("slope", [0.684, -2.0])
def test_the_range_of_scaled_values_stays(slope):
    stored = np.array([[[0, 4095, 7]]], np.uint16)
    plain = header("CR", bits=12, RescaleSlope=slope, RescaleIntercept=200)
    dark = header("CR", bits=12, RescaleSlope=slope, RescaleIntercept=200, PhotometricInterpretation="MONOCHROME1")
    a, b = (physical(stored.copy(), [value_map(h)], modality="CR") for h in (plain, dark))
    np.testing.assert_allclose(a + b, np.full(a.shape, slope * 4095 + 400), rtol=1e-6)


@pytest.mark.parametrize("modality", ["CT", "PT", "NM"])
def test_measured_values_stay_whatever_is_shown_bright(modality, tmp_path):
    case = header(modality, RescaleSlope=1, RescaleIntercept=-1024, PhotometricInterpretation="MONOCHROME1")
    assert value_map(case).line == Line(1, -1024)
    assert "inverted" not in notes(case, tmp_path)


# PET


def test_pet_is_real_even_where_it_is_whole():
    out = physical(np.array([[[3, 7]]], np.int16), [ValueMap()], modality="PT")
    assert (out.dtype, out.tolist()) == (np.float32, [[[3.0, 7.0]]])


def test_activity_becomes_uptake_slice_by_slice():
    case = header("PT", Units="BQML", DecayCorrection="ADMIN", CorrectedImage=["ATTN", "DECY"], PatientWeight=80)
    case.RadiopharmaceuticalInformationSequence = sequence(RadionuclideTotalDose=4e8)
    maps = []
    for slope in (0.5, 2.0):
        case.RescaleSlope, case.RescaleIntercept = slope, 10
        maps.append(value_map(case))
    out = physical(np.full((2, 1, 1), 1000, np.int16), maps, modality="PT")
    np.testing.assert_allclose(out.ravel(), np.array([510, 2010]) * 80e3 / 4e8, rtol=1e-6)


def test_what_is_said_of_pet(tmp_path):
    case = header("PT", Units="BQML", DecayCorrection="ADMIN", CorrectedImage=["ATTN", "DECY"])
    case.RadiopharmaceuticalInformationSequence = sequence(RadionuclideTotalDose=412345678)
    assert "PatientWeight missing" in notes(case, tmp_path)["no-suv"]
    case.PatientWeight = 81.25
    found = notes(case, tmp_path)
    assert set(found) == {"suv"}
    assert "81" not in found["suv"]
    assert "412" not in found["suv"]
    case.Units = "GML"
    assert "as stored" in notes(case, tmp_path)["suv"]
    case.Units = "CNTS"
    case.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.0004")
    assert set(notes(case, tmp_path)) == {"suv"}


def test_patients_are_in_no_text_of_a_map():
    assert "0.123" not in repr(ValueMap(uptake=Uptake(0.123)))


# real files


def real(path):
    with quiet():
        dataset = pydicom.dcmread(path, force=True)
        if not hasattr(dataset.file_meta, "TransferSyntaxUID"):
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        stored = dataset.pixel_array[None].copy()
        out = physical(stored.copy(), [value_map(dataset)], modality=str(dataset.Modality))
        return dataset, stored, out, {f.code for f in value_notes(path)}


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("xray_monochrome1/dx_image.dcm", {"inverted"}),
        ("xray_monochrome1/CR-ModalitySequenceLUT.dcm", {"inverted", "modality-lut"}),
        ("cr_no_preamble/CR-MONO1-10-chest", {"inverted"}),
        ("dicomdir/77654033/CR1/6154", {"inverted"}),
    ],
)
def test_x_rays_are_bright_where_they_are_shown_bright(name, codes, test_data):
    dataset, stored, out, found = real(test_data / "dicom_edge" / name)
    with quiet():
        dark = apply_modality_lut(stored, dataset).astype(np.float64)
    assert found == codes
    np.testing.assert_allclose(np.ptp(dark + out), 0, atol=1e-3)
    assert out.min() >= dark.min() - dark.max()


@pytest.mark.parametrize("name", ["trailing_padding/CT_small.dcm", "ts_single_ct_slice/CTImage.dcm"])
def test_padding_of_real_ct(name, test_data):
    dataset, stored, out, found = real(test_data / "dicom_edge" / name)
    expected = np.where(stored == dataset.PixelPaddingValue, -1000, stored.astype(int) - 1024)
    np.testing.assert_array_equal(out, expected)
    assert (out.dtype, found) == (np.int16, {"padding"})


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("enhanced_ct/eCT_Supplemental.dcm", {Line(1, -1024)}),
        ("enhanced_mr_siemens/IM-0001-0001-0001.dcm", {Line(1, 0)}),
        ("enhanced_mr_philips/IM-0001-0170-0001.dcm", {Line(4.25885225885225, 0)}),
        ("enhanced_small_compressed/emri_small.dcm", {Line(1, 0)}),
    ],
)
def test_frames_of_real_objects(name, lines, test_data):
    with quiet():
        dataset = pydicom.dcmread(test_data / "dicom_edge" / name, stop_before_pixels=True)
        found = {value_map(dataset, frame).line for frame in range(int(dataset.NumberOfFrames))}
    assert found == lines


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="damaged"):
        value_notes(tmp_path / "none.dcm")


def test_activity_of_a_real_series_becomes_its_own_uptake(test_data, tmp_path):
    """A series in SUV, rewritten in Bq/ml by weight, dose and decay from injection to scan, is read as it was."""
    folder = test_data / "dicom" / "sarcoma" / "STS_002" / "dicom" / "PET" / "image"
    decay = 2 ** (-3000 / 6588)
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        drug = dataset.RadiopharmaceuticalInformationSequence[0]
        dataset.PatientWeight, drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 64, 4e8, 6588
        dataset.Units, dataset.DecayCorrection = "BQML", "START"
        dataset.SeriesTime, dataset.AcquisitionTime, drug.RadiopharmaceuticalStartTime = "120000", "121000", "111000"
        dataset.RescaleSlope = DSfloat(float(dataset.RescaleSlope) / 64e3 * 4e8 * decay, auto_format=True)
        dataset.save_as(tmp_path / path.name)
    ours, theirs = read_series(tmp_path), read_series(folder)
    assert ours.array.dtype == np.float32
    np.testing.assert_allclose(ours.array, theirs.array, rtol=1e-6)
