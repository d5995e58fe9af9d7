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
