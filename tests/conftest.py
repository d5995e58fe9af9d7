"""What every test may rely on: the real data, one thread a process, and a plain answer where a display is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Read by torch and OpenMP on their first import, here or in a child process: tests run side by side, one core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real scans (MEDSEG_TEST_DATA, else ../shared/data beside the checkout); skips without it."""
    folder = Path(os.environ.get("MEDSEG_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder} (set MEDSEG_TEST_DATA)")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of windows where there is no display; in continuous integration that is a failure."""
    if item.get_closest_marker("gui") is None or _has_display():
        return
    reason = "no display for a test of windows (run scripts/system-packages.sh gui, then make test)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _has_display() -> bool:
    if sys.platform in {"darwin", "win32"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@pytest.fixture
def draw_boxes():
    """Return a function that writes an RTSTRUCT of named boxes (z, y, x slices) of a grid, with pydicom alone."""
    import numpy as np
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    def contour(grid, z, y, x):
        corners = [
            (z, y.start, x.start),
            (z, y.stop - 1, x.start),
            (z, y.stop - 1, x.stop - 1),
            (z, y.start, x.stop - 1),
        ]
        item = Dataset()
        item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", 4
        item.ContourData = [f"{v:.6f}" for v in np.ravel([grid.to_lps(corner) for corner in corners])]
        return item

    def draw(path, grid, boxes, *, frame="1.2.3"):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
        file = Dataset()
        file.file_meta, file.Modality = meta, "RTSTRUCT"
        file.SOPClassUID, file.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
        file.StructureSetROISequence, file.ROIContourSequence = [], []
        for number, (name, (z, y, x)) in enumerate(boxes, start=1):
            roi, drawn = Dataset(), Dataset()
            roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = (
                number,
                name,
                grid.frame_of_reference_uid or frame,
            )
            drawn.ReferencedROINumber = number
            drawn.ContourSequence = [contour(grid, k, y, x) for k in range(z.start, z.stop)]
            file.StructureSetROISequence.append(roi)
            file.ROIContourSequence.append(drawn)
        path.parent.mkdir(parents=True, exist_ok=True)
        file.save_as(path, enforce_file_format=True)
        return path

    return draw
