"""napari on a folder under review: what ``medseg review FOLDER`` starts as ``python -m napari_plugin.review``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import napari

from napari_plugin.review import ReviewDock

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the window, wait until it is closed, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m napari_plugin.review", description="Review the masks of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reviewer", required=True)
    parser.add_argument("--images", type=Path, action="append", default=[])
    asked = parser.parse_args(arguments)
    viewer = napari.Viewer(title=f"medseg review – {asked.folder.name}")
    dock = ReviewDock(viewer, asked.folder, who=asked.reviewer, images=asked.images)
    viewer.window.add_dock_widget(dock, name="Review", area="right")
    napari.run()
    dock.close_review()
    return 0
