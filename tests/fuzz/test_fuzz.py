"""Damaged DICOM files: whatever is in them, medseg answers in words, soon, and within bounded memory.

The suite looks at a fixed few hundred files; ``make fuzz`` looks at many more, at random, and keeps what it finds.
"""

from __future__ import annotations

import io
import json
import os
import select
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement

from medseg.geometry import Geometry
from medseg.io.dicom import find_series, write_rtstruct, write_seg, write_series
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume

EXAMPLES = int(os.environ.get("MEDSEG_FUZZ_EXAMPLES", "0"))
FEW = 1000
PATIENCE_S = 60
MAX_PEAK_MB = 2000
MAX_BYTES = 300_000  # larger files make the search slower, not better

NAMES = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm"),
    *("MR_small_jpeg_ls_lossless.dcm", "JPEG-LL.dcm", "JPGExtended.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm"),
    *("image_dfl.dcm", "693_J2KI.dcm", "emri_small.dcm", "emri_small_RLE.dcm", "emri_small_jpeg_2k_lossless.dcm"),
    *("liver_1frame.dcm", "liver.dcm", "rtstruct.dcm", "rtdose_1frame.dcm", "DICOMDIR", "no_meta.dcm", "reportsi.dcm"),
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
COUNTS = (0, 1, 3, 255, 4096, 30000, 65535)
TEXTS = ("", "0", "-1", "1e300", "nan", "inf", "9" * 16, "abc", "1\\2", "0\\0\\0", "1\\0\\0\\1\\0\\0", "é" * 8)
NUMBER_TAGS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation")
TEXT_TAGS = (
    *("NumberOfFrames", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"),
    *("RescaleIntercept", "SliceThickness", "PhotometricInterpretation", "ImageType", "Modality", "ContourData"),
)


class Files(tuple[bytes, ...]):
    """The whole files. Hypothesis writes every argument out, and these are megabytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{len(self)} files"


class Examiner:
    """The child process that looks at the files, started again after each death."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "file"
        self.child: subprocess.Popen[str] | None = None

    def examine(self, data: bytes) -> dict[str, object]:
        """Return what became of a file."""
        self.path.write_bytes(data)
        if self.child is None or self.child.poll() is not None:
            program = Path(__file__).with_name("examiner.py")
            self.child = subprocess.Popen(
                [sys.executable, program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self.child.stdin.write(f"{self.path}\n")
        self.child.stdin.flush()
        if not select.select([self.child.stdout], [], [], PATIENCE_S)[0]:
            self.stop()
            return {"fault": f"no answer within {PATIENCE_S} s", "peak_mb": 0}
        answer = self.child.stdout.readline()
        if not answer:
            code = self.child.wait()
            self.child = None
            return {"fault": f"the process died with code {code}", "peak_mb": 0}
        return dict(json.loads(answer))

    def stop(self) -> None:
        """End the child."""
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None


@pytest.fixture(scope="module")
def examiner(tmp_path_factory):
    child = Examiner(tmp_path_factory.mktemp("damaged"))
    yield child
    child.stop()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Whole files: those that come with pydicom, our own, and the awkward real ones where they are."""
    paths = [Path(str(path)) for path in (get_testdata_file(name, download=False) for name in NAMES) if path]
    paths += own_files(tmp_path_factory.mktemp("whole"))
    real = Path(os.environ.get("MEDSEG_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data") / "dicom_edge"
    if real.is_dir():
        paths += [path for path in sorted(real.rglob("*")) if path.is_file() and path.suffix != ".gz"][::4]
    return Files(path.read_bytes() for path in paths if 0 < path.stat().st_size <= MAX_BYTES)


def own_files(folder: Path) -> list[Path]:
    """Write a series, and a SEG and an RTSTRUCT of it."""
    grid = Geometry((3, 12, 14), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]]))
    array = np.random.default_rng(0).integers(-1000, 1000, (1, *grid.shape)).astype(np.int16)
    slices = write_series(Volume(array, grid, ("CT",)), folder / "series")
    mask = np.zeros(grid.shape, np.uint8)
    mask[:, 2:9, 3:10], mask[1, 4:6, 5:7] = 1, 2
    segmentation = Segmentation(mask, grid, LabelSet.from_names({1: "liver", 2: "tumour"}))
    source = find_series(folder / "series")
    write_seg(segmentation, folder / "seg.dcm", source=source)
    write_rtstruct(segmentation, folder / "rtstruct.dcm", source=source)
    return [slices[0], folder / "seg.dcm", folder / "rtstruct.dcm"]


EDITS = st.lists(
    st.tuples(
        st.sampled_from(("set", "number", "cut", "put", "double", "end")),
        st.integers(0, 2**20),
        st.booleans(),  # within the header, or anywhere
        st.sampled_from((("<H", 0xFFFF), ("<I", 0xFFFFFFFF), (">H", 0xFFFF))),
        st.sampled_from(EXTREMES),
        st.binary(min_size=1, max_size=32),
    ),
    max_size=6,
)
ABSURD = st.none() | st.tuples(
    st.sampled_from((*NUMBER_TAGS, *TEXT_TAGS)), st.sampled_from(COUNTS), st.sampled_from(TEXTS)
)


def damaged(whole: bytes, edits, absurd) -> bytes:
    """Return a file with bytes changed, cut out, put in, doubled or cut off, or with an absurd value in its header."""
    content = bytearray(whole if absurd is None else with_absurd_value(whole, *absurd))
    for edit in edits:
        if content:
            change(content, edit)
    return bytes(content)


def change(content: bytearray, edit) -> None:
    """Change the file at one place."""
    kind, place, in_header, form, extreme, some = edit
    at = place % (min(len(content), 4096) if in_header else len(content))
    match kind:
        case "set":
            content[at] = some[0]
        case "number":
            content[at : at + struct.calcsize(form[0])] = struct.pack(form[0], extreme & form[1])
        case "cut":
            del content[at : at + 2 * len(some)]
        case "put":
            content[at:at] = some
        case "double":
            content[at:at] = content[at : at + 16 * len(some)]
        case "end":
            del content[at:]


def with_absurd_value(whole: bytes, keyword: str, count: int, text: str) -> bytes:
    """Return the file with one value replaced by one that is well formed and makes no sense."""
    is_number = keyword in NUMBER_TAGS
    try:
        dataset = pydicom.dcmread(io.BytesIO(whole), force=True)
        tag = tag_for_keyword(keyword)
        dataset[tag] = DataElement(tag, "US" if is_number else "LO", count if is_number else text)
        out = io.BytesIO()
        dataset.save_as(out)
    except Exception:  # noqa: BLE001 - what pydicom cannot write again is damaged by its bytes only
        return whole
    return out.getvalue()


@settings(
    max_examples=EXAMPLES or FEW,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(number=st.integers(0, 2**16), edits=EDITS, absurd=ABSURD)
def test_a_damaged_file_is_answered_in_words(number, edits, absurd, files, examiner, tmp_path_factory):
    content = damaged(files[number % len(files)], edits, absurd)
    answer = examiner.examine(content)
    if answer["fault"]:
        kept = tmp_path_factory.getbasetemp() / "found.dcm"
        kept.write_bytes(content)
        pytest.fail(f"{kept}: {answer['fault']}", pytrace=False)
    assert float(answer["peak_mb"]) < MAX_PEAK_MB


def test_whole_files_are_no_fault(files, examiner):
    for content in files:
        assert not examiner.examine(content)["fault"]
