"""The table of awkward DICOM in docs/dicom.md is what `inspect` says today.

``MEDSEG_WRITE_DOCS=1 pytest tests/end_to_end/test_dicom_table.py`` writes it anew.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from medseg.io.dicom import inspect_folder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dicom.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

# What is awkward about each case, and what a good reader makes of it.
CASES = {
    "coronal": ("coronal slices of 0.6 mm", "the reference's affine"),
    "colour_secondary_capture": ("RGB pixels, with full geometry", "refused: colour is no scan"),
    "cr_no_preamble": ("no preamble, no file meta, no extension", "found all the same, as a 2-D image"),
    "ct_localizer": ("a scout image", "left out, and said"),
    "dicomdir": ("a medium of two patients with its DICOMDIR", "the same items with and without the directory"),
    "duplicate_instance": ("one slice there twice", "the copy dropped, and said"),
    "dwi_4d": ("four positions, two b-values", "two volumes on one grid, never eight slices"),
    "enhanced_ct": ("enhanced CT with a supplemental palette", "grid from the functional groups"),
    "enhanced_mr_philips": ("enhanced MR, eight frames", "grid from the functional groups, as the reference"),
    "enhanced_mr_siemens": ("enhanced MR, another vendor", "grid from the functional groups, as the reference"),
    "enhanced_small_compressed": ("enhanced MR without functional groups", "refused: no place in the patient"),
    "float_pixel_data": ("a parametric map of floats", "left out, and said"),
    "fmri_4d": ("four positions, two times", "two volumes on one grid"),
    "gantry_tilt": ("slices sheared by 14 degrees, no tilt tag", "a sheared grid, from positions"),
    "missing_slice": ("gaps of 5, 5 and 10 mm", "refused, or resampled on request"),
    "mixed_folder": ("four series, SR, SEG, a text, an empty file", "four series, the rest named"),
    "mosaic": ("Siemens mosaic: a volume a file", "refused, or taken apart on request"),
    "no_file_meta": ("no file meta, an RT plan, a few attributes", "each left out, and named"),
    "no_geometry_ct": ("a capture without a place", "left out, and said"),
    "non_ascii_names": ("names in five character sets", "read; no name is shown"),
    "not_images": ("SR, RT dose, RT plan, ECG", "each left out, and named"),
    "oblique_38deg": ("38.7 degrees off sagittal, NumberOfFrames 1", "the full direction matrix; not multi-frame"),
    "per_slice_rescale": ("a slope in every slice, pixels of 4.0 x 6.4 mm", "rescaled slice by slice"),
    "rtstruct_with_images": ("two slices and their RTSTRUCT", "one series; the contours are no image"),
    "sagittal_oblique": ("3 degrees oblique, no SliceThickness", "the reference's affine"),
    "same_position_repeats": ("four files at one position", "four time points, never four slices"),
    "seg_multiframe_source": ("a CT as three files and as one", "the same volume twice"),
    "seg_samples": ("SEG objects of all kinds", "none taken for an image"),
    "seg_with_images": ("three slices and their SEG", "one series; the SEG is no image"),
    "single_slice": ("a series of one slice", "depth 1, from the tags, with a warning"),
    "trailing_padding": ("bytes behind the pixel data", "ignored"),
    "truncated": ("pixel data end early", "refused; the rest goes on"),
    "ts_big_endian": ("Explicit VR Big Endian and its twin", "the same voxels"),
    "ts_htj2k_rgb": ("HTJ2K, RGB", "left out, and said"),
    "ts_implicit_le": ("Implicit VR Little Endian", "the reference's voxels"),
    "ts_jpeg2000_lossless": ("JPEG 2000 lossless", "the reference's voxels"),
    "ts_jpeg_lossless": ("JPEG Lossless, process 14", "the same voxels"),
    "ts_jpegls_lossless": ("JPEG-LS lossless", "the same voxels"),
    "ts_reference_uncompressed": ("Explicit VR Little Endian", "the reference's voxels"),
    "ts_rle": ("RLE", "the same voxels"),
    "ts_single_ct_slice": ("one slice in five syntaxes under one UID", "copies dropped, never five slices"),
    "two_slices": ("a series of two slices", "a volume of two slices"),
    "ultrasound_palette": ("palette colour, no pixel spacing", "refused: colour is no scan"),
    "xray_monochrome1": ("MONOCHROME1 X-rays, one with a table", "2-D images, bright is dense"),
}


def row(folder: Path) -> str:
    """Return the line of one case: what `inspect` says, counted over its items."""
    items = [item for item in inspect_folder(folder).items if item.kind != "volume"]  # references lie beside
    kinds = Counter((item.kind, item.status) for item in items)
    statuses = ", ".join(f"{count} {kind} {status}" for (kind, status), count in sorted(kinds.items()))
    codes = ", ".join(sorted({f"`{f.code}`" for item in items for f in item.findings})) or "none"
    special, good = CASES[folder.name]
    return f"| {folder.name} | {special} | {good} | {statuses} | {codes} |"


def test_the_table_says_what_inspect_says(test_data):
    root = test_data / "dicom_edge"
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == sorted(CASES)
    head = ["| case | what is special | what a good reader does | items | findings |", "|---|---|---|---|---|"]
    table = "\n".join([*head, *map(row, folders)]) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    written, after = rest.split(END)
    if os.environ.get("MEDSEG_WRITE_DOCS"):
        PAGE.write_text(before + BEGIN + table + END + after, encoding="utf-8")
        return
    assert written == table
