"""The help window: docs/napari.md, from the checkout or from the wheel, which brings a copy. No network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QTextBrowser

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

_HERE = Path(__file__).resolve().parent
PAGES = (_HERE.parent / "docs" / "napari.md", _HERE / "napari.md")
"""Where the page lies in a checkout, and in a wheel (hatch_build.py)."""


class HelpWindow(QTextBrowser):
    """A window of its own that shows the page."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowFlag(Qt.WindowType.Window)
        self.setWindowTitle("medseg in napari")
        self.resize(760, 720)
        self.setOpenExternalLinks(True)
        page = next((path for path in PAGES if path.is_file()), None)
        if page is None:
            self.setPlainText("The page docs/napari.md is not installed.")
            return
        self.setSearchPaths([str(page.parent)])
        self.setMarkdown(page.read_text(encoding="utf-8"))
