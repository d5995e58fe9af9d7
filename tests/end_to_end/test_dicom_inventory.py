"""What `inspect` says of real DICOM: every awkward case of the test data, and whole studies."""

from __future__ import annotations

from pathlib import Path

import pydicom.data
import pytest

from medseg.io.dicom import inspect_folder

# case -> for each item that is an image of a scanner, or stands for the case: kind, status, shape, volumes, codes
CASES = {
    "ts_reference_uncompressed": [("series", "ok", (4, 256, 256), 1, set())],
    "ts_implicit_le": [("series", "ok", (4, 256, 256), 1, set())],
    "ts_jpeg2000_lossless": [("series", "ok", (4, 256, 256), 1, set())],
    "ts_jpeg_lossless": [("series", "ok", (4, 256, 256), 1, set())],
    "ts_jpegls_lossless": [("series", "ok", (4, 256, 256), 1, set())],
    "ts_rle": [("series", "ok", (4, 256, 256), 1, set())],
    "ts_single_ct_slice": [
        ("series", "ok", (1, 512, 512), 1, {"single-slice", "mixed-type", "padding"}),
        ("series", "ok", (1, 512, 512), 1, {"single-slice", "mixed-type", "duplicate-instance", "padding"}),
    ],
    "ts_htj2k_rgb": [("other", "ignored", None, 1, {"derived-object", "colour", "no-geometry"})],
    "ts_big_endian": [("series", "ok", (1, 64, 64), 1, {"single-slice", "duplicate-instance"})],
    "gantry_tilt": [("series", "ok", (4, 512, 512), 1, {"gantry-tilt", "oblique"})],
    "missing_slice": [("series", "repairable", (4, 512, 512), 1, {"missing-slice"})],
    "same_position_repeats": [("series", "repairable", (1, 512, 512), 4, {"four-d", "single-slice"})],
    "two_slices": [("series", "ok", (2, 256, 256), 1, set())],
    "single_slice": [("series", "ok", (1, 256, 256), 1, {"single-slice", "oblique"})],
    "sagittal_oblique": [("series", "ok", (4, 256, 256), 1, {"oblique"})],
    "coronal": [("series", "ok", (4, 240, 240), 1, set())],
    "oblique_38deg": [("series", "ok", (4, 64, 64), 1, {"oblique"})],
    "per_slice_rescale": [("series", "ok", (4, 28, 64), 1, set())],
    "dwi_4d": [("series", "repairable", (4, 128, 128), 2, {"four-d"})],
    "fmri_4d": [("series", "repairable", (4, 64, 64), 2, {"four-d"})],
    "mosaic": [("series", "repairable", (5, 72, 72), 2, {"mosaic", "four-d", "slice-gap"})],
    "enhanced_mr_philips": [("series", "ok", (8, 256, 256), 1, set())],
    "enhanced_mr_siemens": [("series", "ok", (8, 256, 256), 1, {"oblique"})],
    "enhanced_ct": [("series", "ok", (2, 512, 512), 1, set())],
    "enhanced_small_compressed": [("series", "refused", (10, 64, 64), 1, {"no-geometry", "duplicate-instance"})],
    "seg_with_images": [
        ("seg", "ignored", None, 1, {"derived-object"}),
        ("series", "ok", (3, 512, 512), 1, {"padding"}),
    ],
    "seg_multiframe_source": [
        ("seg", "ignored", None, 1, {"derived-object"}),
        ("series", "ok", (3, 38, 24), 1, set()),
        ("series", "ok", (3, 38, 24), 1, set()),
    ],
    "seg_samples": [
        *[("seg", "ignored", None, 1, {"derived-object"})] * 5,
        ("series", "ok", (1, 128, 128), 1, {"single-slice", "padding"}),
    ],
    "rtstruct_with_images": [
        ("rtstruct", "ignored", None, 1, {"derived-object"}),
        ("series", "ok", (2, 512, 512), 1, {"padding"}),
    ],
    "xray_monochrome1": [
        ("image", "ok", (1, 169, 211), 1, {"two-dimensional", "inverted"}),
        ("image", "ok", (1, 1576, 1976), 1, {"two-dimensional", "modality-lut", "inverted"}),
    ],
    "cr_no_preamble": [("image", "ok", (1, 440, 440), 1, {"two-dimensional", "no-geometry", "inverted"})],
    "no_geometry_ct": [("other", "ignored", None, 1, {"derived-object", "no-geometry"})],
    "ultrasound_palette": [("image", "refused", (1, 600, 800), 1, {"colour", "two-dimensional"})],
    "ct_localizer": [("series", "ignored", (1, 256, 512), 1, {"localizer", "single-slice"})],
    "no_file_meta": [
        ("other", "ignored", None, 1, {"no-pixel-data"}),
        ("other", "ignored", None, 1, {"not-an-image"}),
        ("other", "ignored", None, 1, {"not-dicom"}),
    ],
    "truncated": [("series", "refused", (1, 64, 64), 1, {"truncated", "single-slice"})],
    "not_images": [
        ("other", "ignored", None, 1, {"derived-object"}),
        *[("other", "ignored", None, 1, {"not-an-image"})] * 5,
    ],
    "non_ascii_names": [("other", "ignored", None, 1, {"derived-object", "no-geometry"})] * 6,
    "colour_secondary_capture": [("series", "refused", (4, 77, 52), 1, {"colour", "oblique"})],
    "float_pixel_data": [("other", "ignored", None, 1, {"derived-object"})],
    "trailing_padding": [
        ("series", "ok", (1, 64, 64), 1, {"single-slice"}),
        ("series", "ok", (1, 128, 128), 1, {"single-slice", "padding"}),
    ],
    "duplicate_instance": [("series", "ok", (4, 256, 256), 1, {"duplicate-instance"})],
    "mixed_folder": [
        ("other", "ignored", None, 1, {"empty-file"}),
        ("other", "ignored", None, 1, {"not-an-image"}),
        ("other", "ignored", None, 1, {"not-dicom"}),
        ("seg", "ignored", None, 1, {"derived-object"}),
        ("series", "ok", (3, 38, 24), 1, set()),
        ("series", "ok", (4, 64, 64), 1, {"oblique"}),
        ("series", "ok", (4, 256, 256), 1, set()),
        ("series", "ok", (4, 256, 256), 1, {"oblique"}),
    ],
}


def summary(item):
    return item.kind, item.status, item.shape, item.volumes, {f.code for f in item.findings}


def key(row):
    kind, status, shape, volumes, codes = row
    return kind, status, shape or (), volumes, sorted(codes)


@pytest.mark.parametrize("case", CASES)
def test_each_awkward_case_is_named(case, test_data):
    inventory = inspect_folder(test_data / "dicom_edge" / case, deep=True)
    found = [summary(item) for item in inventory.items if item.kind != "volume"]
    assert sorted(found, key=key) == sorted(CASES[case], key=key)


def test_a_medium_with_its_directory(test_data):
    items = inspect_folder(test_data / "dicom_edge" / "dicomdir").items
    directory = next(item for item in items if item.paths == ("DICOMDIR",))
    assert (directory.status, directory.findings[0].code) == ("ignored", "dicomdir")
    assert sum(len(item.paths) for item in items) == 32
    whole = next(item for item in items if item.paths[0].startswith("98892001/CT5N"))
    assert (whole.status, whole.shape) == ("ok", (5, 16, 16))  # two acquisitions, end to end
    gap = next(item for item in items if item.paths[0].startswith("77654033/CT2"))
    assert (gap.status, gap.findings[0].code) == ("refused", "missing-slice")  # 4 slices of 165: several scans


@pytest.mark.parametrize("folder", ["dicom", "dicom_edge", "volumes", "images2d", "hippocampus_bad"])
def test_every_file_is_in_exactly_one_item(folder, test_data):
    root = test_data / folder
    inventory = inspect_folder(root)
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert sorted(path for item in inventory.items for path in item.paths) == files
    assert len({item.id.lower() for item in inventory.items}) == len(inventory.items)
    assert all(item.findings for item in inventory.items if item.status != "ok")


def test_every_file_that_comes_with_pydicom_is_in_exactly_one_item():
    root = Path(pydicom.data.__file__).parent
    inventory = inspect_folder(root, deep=True)
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert sorted(path for item in inventory.items for path in item.paths) == files


def test_real_studies(test_data):
    series = [item for item in inspect_folder(test_data / "dicom").items if item.kind == "series"]
    found = {(item.modality, item.shape, item.status) for item in series}
    assert found == {
        ("CT", (20, 512, 512), "ok"),
        ("MR", (22, 512, 512), "ok"),
        ("MR", (32, 51, 35), "ok"),
        ("MR", (35, 48, 36), "ok"),
        ("CT", (48, 143, 161), "ok"),
        ("MR", (35, 90, 115), "ok"),
        ("PT", (48, 27, 30), "ok"),
        ("CT", (47, 138, 149), "ok"),
        ("MR", (25, 55, 75), "ok"),
        ("PT", (47, 34, 37), "ok"),
    }
    assert len(series) == len(found)
    assert not any(item.geometry.is_sheared for item in series)  # the oblique MR is stacked 0.07 degrees off its normal
    codes = {item.shape: {f.code for f in item.findings} for item in series}
    assert codes[20, 512, 512] == {"empty-uid"}
    assert codes[22, 512, 512] == {"oblique"}
