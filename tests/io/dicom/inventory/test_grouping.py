"""Which files make one volume, and in which order several volumes on one grid stand."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundImageStorage, generate_uid

from medseg.io.dicom import inspect_folder, read_series, write_series

GE, SIEMENS = (0x0043, "GEMS_PARM_01", 0x39, "IS"), (0x0019, "SIEMENS MR HEADER", 0x0C, "IS")
PHILIPS = (0x2001, "Philips Imaging DD 001", 0x03, "FL")


def private(owner, value, *, with_creator=True):
    """Return a change that adds a vendor's private element."""
    group, name, element, vr = owner

    def change(d):
        d.private_block(group, name, create=True).add_new(element, vr, value)
        if not with_creator:
            del d[group, 0x0010]

    return change


def public(**elements):
    """Return a change that sets elements."""

    def change(d):
        for keyword, value in elements.items():
            setattr(d, keyword, value)

    return change


@pytest.fixture
def write_volumes(tmp_path, make_image):
    """Return a function that writes volumes on one grid as one series, in an order that says nothing; gives them."""

    def write(changes, **grid):
        images, files = [], []
        for n, change in enumerate(changes):
            image = make_image(shape=(3, 4, 5), seed=n, **grid)
            images.append(image)
            for path in write_series(image, tmp_path / f"made{n}", name="s", modality="MR"):
                d = pydicom.dcmread(path)
                path.unlink()
                d.SeriesInstanceUID, d.FrameOfReferenceUID, d.SOPInstanceUID = "1.2.2", "1.2.3", generate_uid()
                d.InstanceNumber = 1  # says nothing
                change(d)
                files.append(d)
        for name, n in enumerate(np.random.default_rng(7).permutation(len(files))):
            files[n].save_as(tmp_path / f"{name:03}")
        return images

    return write


def codes(item):
    return [f.code for f in item.findings]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([public(TemporalPositionIdentifier=n) for n in (1, 2, 10)], "3 time points"),
        ([public(DiffusionBValue=float(b)) for b in (0, 50, 800)], "b-values 0, 50, 800"),
        ([private(GE, [b, 8, 0, 0]) for b in (0, 1000000300, 1000)], "b-values 0, 300, 1000"),
        ([private(GE, [b, 8], with_creator=False) for b in (0, 300, 1000)], "b-values 0, 300, 1000"),
        ([private(SIEMENS, b) for b in (0, 300, 1000)], "b-values 0, 300, 1000"),
        ([private(PHILIPS, b) for b in (0, 300, 1000)], "b-values 0, 300, 1000"),
        ([public(EchoTime=e) for e in ("2.5", "10", "20")], "echo times in ms 2.5, 10, 20"),
        ([public(TriggerTime=t) for t in ("0", "90", "450.5")], ""),
        ([public(FrameReferenceTime=t) for t in ("5", "90", "450.5")], ""),
        ([public(AcquisitionNumber=t) for t in (2, 9, 10)], ""),
        ([public(InstanceNumber=t) for t in (2, 9, 10)], ""),
    ],
)
def test_volumes_stand_in_the_order_of_what_differs(changes, said, tmp_path, write_volumes):
    images = write_volumes([_made_by(change) for change in changes])
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, item.volumes, codes(item)) == ("repairable", 3, ["four-d"])
    assert said in item.reason
    for n, image in enumerate(images):
        np.testing.assert_array_equal(read_series(item, volume=n).array, image.array)


def _made_by(change):
    def both(d):
        d.Manufacturer = "GE MEDICAL SYSTEMS"
        change(d)

    return both


def test_time_goes_before_b_value_and_that_before_echo(tmp_path, write_volumes):
    marks = [(1, 0, 20), (1, 700, 10), (1, 700, 20), (2, 0, 10)]
    images = write_volumes(
        [public(TemporalPositionIdentifier=t, DiffusionBValue=float(b), EchoTime=e) for t, b, e in marks]
    )
    (item,) = inspect_folder(tmp_path).items
    for n, image in enumerate(images):
        np.testing.assert_array_equal(read_series(item, volume=n).array, image.array)


def test_image_types_are_items_of_their_own(tmp_path, write_volumes):
    write_volumes([public(ImageType=["ORIGINAL", "PRIMARY", part]) for part in ("M", "P")])
    items = inspect_folder(tmp_path).items
    assert [(item.status, item.volumes, codes(item)) for item in items] == [("ok", 1, ["mixed-type"])] * 2


def test_uneven_slices_repeated_know_the_grid_they_may_be_put_on(tmp_path, write_volumes):
    write_volumes([public(TemporalPositionIdentifier=n) for n in (1, 2)])
    for path in tmp_path.iterdir():
        if path.is_file():
            d = pydicom.dcmread(path)
            if float(d.ImagePositionPatient[2]) > 37:  # the uppermost of three slices 3 mm apart
                d.ImagePositionPatient[2] = float(d.ImagePositionPatient[2]) + 3
                d.save_as(path)
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, item.volumes, sorted(codes(item))) == ("repairable", 2, ["four-d", "missing-slice"])
    assert item.source.irregular.stations == (0, 1, 3)
    assert item.source.irregular.geometry.shape == (4, 4, 5)


@pytest.mark.parametrize(
    ("column", "status", "expected"),
    [
        ((0, 1, 0), "ok", []),
        ((1e-5, 1, 0), "ok", []),
        ((0.004, 1, 0), "ok", ["not-orthonormal", "oblique"]),
        ((0, 1.003, 0), "ok", ["not-orthonormal"]),
        ((0.05, 1, 0), "refused", ["no-geometry"]),
        ((0, 0, 0), "refused", ["no-geometry"]),
    ],
)
def test_directions_slightly_off_are_put_right(column, status, expected, tmp_path, write_volumes):
    write_volumes([public(ImageOrientationPatient=[1, 0, 0, *column])])
    (item,) = inspect_folder(tmp_path).items
    assert item.status == status
    assert [c for c in codes(item) if c != "oblique"] == [c for c in expected if c != "oblique"]
    if status == "ok":
        directions = item.geometry.directions_lps
        np.testing.assert_allclose(directions[:, 1] @ directions[:, 2], 0, atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, atol=1e-9)
    else:
        assert "not at right angles" in item.reason


def test_directions_are_turned_by_the_same_angle(tmp_path, write_volumes):
    write_volumes([public(ImageOrientationPatient=[1, 0, 0, 0.004, 1, 0])])
    (item,) = inspect_folder(tmp_path).items
    row, column = item.geometry.directions_lps[:, 2], item.geometry.directions_lps[:, 1]
    np.testing.assert_allclose((row[1], column[0]), (-0.002, 0.002), atol=1e-5)


def write_flat(path, **elements):
    """Write a small two-dimensional image."""
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID, d.SeriesInstanceUID = UltrasoundImageStorage, generate_uid(), "1.2.2"
    d.Modality, d.Rows, d.Columns = "US", 4, 5
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = 8
    d.HighBit, d.PixelRepresentation, d.PixelData = 7, 0, bytes(20)
    d["PixelData"].VR = "OB"
    for keyword, value in elements.items():
        setattr(d, keyword, value)
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.save_as(path, enforce_file_format=True)


def region(dx=0.02, dy=0.03, *, form=1, unit=3):
    d = Dataset()
    d.RegionSpatialFormat, d.PhysicalUnitsXDirection, d.PhysicalUnitsYDirection = form, unit, unit
    d.PhysicalDeltaX, d.PhysicalDeltaY = dx, dy
    return d


@pytest.mark.parametrize(
    ("elements", "spacing", "words"),
    [
        ({"SequenceOfUltrasoundRegions": [region()]}, (1.0, 0.3, 0.2), "calibrated regions"),
        ({"SequenceOfUltrasoundRegions": [region(0.02, -0.03)] * 2}, (1.0, 0.3, 0.2), "calibrated regions"),
        ({"SequenceOfUltrasoundRegions": [region(), region(9, 9, form=3, unit=4)]}, (1.0, 0.3, 0.2), "calibrated"),
        ({"SequenceOfUltrasoundRegions": [region(), region(0.01, 0.01)]}, None, "no pixel spacing"),
        ({"SequenceOfUltrasoundRegions": [region(unit=4)]}, None, "no pixel spacing"),
        ({"SequenceOfUltrasoundRegions": [region(0.0, 0.0)]}, None, "no pixel spacing"),
        ({"SequenceOfUltrasoundRegions": [region()], "PixelSpacing": [2, 3]}, (1.0, 2.0, 3.0), "two-dimensional"),
        ({"ImagerPixelSpacing": [2, 3]}, (1.0, 2.0, 3.0), "measured at the detector"),
        ({}, None, "no pixel spacing"),
    ],
)
def test_the_pixel_size_of_flat_images(elements, spacing, words, tmp_path):
    write_flat(tmp_path / "it", **elements)
    (item,) = inspect_folder(tmp_path).items
    assert (item.kind, item.status) == ("image", "ok")
    assert item.spacing_mm == (spacing if spacing is None else pytest.approx(spacing))
    assert words in " ".join(f.message for f in item.findings)


def test_a_compressed_object_with_fewer_frames_than_it_says_is_truncated(tmp_path):
    path = pydicom.data.get_testdata_file("MR_small_RLE.dcm")
    d = pydicom.dcmread(path)
    d.NumberOfFrames = 2
    d.save_as(tmp_path / "it")
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, "truncated" in codes(item)) == ("refused", True)


def test_two_heart_phases_begin_at_the_r_wave(tmp_path, write_volumes):
    images = write_volumes([public(TriggerTime=t, FrameReferenceTime="500") for t in ("0", "100")])
    (item,) = inspect_folder(tmp_path).items
    for n, image in enumerate(images):
        np.testing.assert_array_equal(read_series(item, volume=n).array, image.array)
    assert "times after the R wave in ms 0, 100" in item.reason


def test_reconstructions_with_two_kernels_are_no_one_volume(tmp_path, write_volumes):
    images = write_volumes([public(ConvolutionKernel=kernel, InstanceNumber=n) for n, kernel in enumerate("ab")])
    for path in tmp_path.iterdir():
        if path.is_file() and (d := pydicom.dcmread(path)).ConvolutionKernel == "b":
            d.ImagePositionPatient[2] = float(d.ImagePositionPatient[2]) + 1.5  # half a slice: one even row
            d.save_as(path)
    items = inspect_folder(tmp_path).items
    assert [(item.status, item.shape, codes(item)) for item in items] == [("ok", (3, 4, 5), ["mixed-type"])] * 2
    found = sorted(int(read_series(item).array[0, 0, 0, 0]) for item in items)
    assert found == sorted(int(image.array[0, 0, 0, 0]) for image in images)


def test_one_series_uid_in_two_studies_is_two_series(tmp_path, write_volumes):
    images = write_volumes([public(StudyInstanceUID=uid) for uid in ("1.2.8", "1.2.9")])
    items = inspect_folder(tmp_path).items
    assert [(item.status, item.shape) for item in items] == [("ok", (3, 4, 5))] * 2
    for item in items:
        array = read_series(item).array
        assert any(np.array_equal(array, image.array) for image in images)


def test_volumes_that_nothing_tells_apart_are_refused_but_not_those_in_folders(tmp_path, write_volumes):
    images = write_volumes([public(SeriesNumber=n) for n in (1, 2)])
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, codes(item)) == ("refused", ["duplicate-position"])
    assert "folder of its own" in item.findings[0].remedy
    for path in [p for p in tmp_path.iterdir() if p.is_file()]:
        folder = tmp_path / str(pydicom.dcmread(path).SeriesNumber)
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, item.volumes, codes(item)) == ("repairable", 2, ["four-d"])
    for n, image in enumerate(images):
        np.testing.assert_array_equal(read_series(item, volume=n).array, image.array)


def test_slices_without_the_rescale_of_the_others_are_refused(tmp_path, write_volumes):
    write_volumes([public(RescaleSlope=1, RescaleIntercept=-1024)])
    path = next(p for p in tmp_path.iterdir() if p.is_file())
    d = pydicom.dcmread(path)
    d.RescaleSlope = d.RescaleIntercept = None
    d.save_as(path)
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, codes(item)) == ("refused", ["bad-rescale"])
    assert f"1 of 3 slices lack the RescaleSlope and RescaleIntercept of the others, {path.name} first" in item.reason


def test_images_beside_a_series_that_say_no_place_are_told_of(tmp_path, write_volumes):
    write_volumes([public(AcquisitionNumber=1)])
    path = next(p for p in tmp_path.iterdir() if p.is_file())
    d = pydicom.dcmread(path)
    del d.ImageOrientationPatient
    d.save_as(path)
    whole, lone = sorted(inspect_folder(tmp_path).items, key=lambda item: -len(item.paths))
    assert "mixed-orientation" not in codes(whole)
    assert "1 of the series' images do not say where they lie" in " ".join(f.message for f in whole.findings)
    assert lone.status == "refused"


def test_thin_projections_are_no_slices(tmp_path, write_volumes):
    write_volumes([public(ImageType=["DERIVED", "SECONDARY", "MIP"])])
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, codes(item)) == ("ignored", ["derived-object"])


def test_pixels_of_no_size_are_refused(tmp_path, write_volumes):
    write_volumes([public(Rows=0)])
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, codes(item)) == ("refused", ["no-pixel-data"])
    assert "without its size" in item.reason
