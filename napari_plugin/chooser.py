"""The dialog that asks which of several series in a folder to open; it lists the whole inventory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QWidget

    from napari_plugin.opening import Offer


class SeriesChooser(QDialog):
    """A list of what a folder holds; what is ticked is opened.

    Parameters
    ----------
    offers : sequence of Offer
        All that was found; those with an obstacle are shown with it, and cannot be ticked.
    parent : QWidget, optional
        The window it belongs to.
    """

    def __init__(self, offers: Sequence[Offer], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Open which series?")
        self.resize(720, 360)
        self._offers = tuple(offers)
        self.table = QTreeWidget()
        self.table.setHeaderLabels(["Series", "What it is"])
        self.table.setRootIsDecorated(False)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.header().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        for offer in offers:
            self.table.addTopLevelItem(_row(offer))
        self.table.itemChanged.connect(self._mind_ticks)
        self.table.itemActivated.connect(self._take_one)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        hint = QLabel("Tick one or more (space bar), or double-click one. Greyed lines cannot be opened; they say why.")
        hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        for widget in (hint, self.table, self.buttons):
            layout.addWidget(widget)
        first = next((row for row in self._rows() if row.flags() & Qt.ItemFlag.ItemIsUserCheckable), None)
        if first is not None:
            self.table.setCurrentItem(first)
        self._mind_ticks()

    @property
    def chosen(self) -> tuple[Offer, ...]:
        """The offers that are ticked, in order."""
        rows = zip(self._rows(), self._offers, strict=True)
        return tuple(offer for row, offer in rows if row.checkState(0) == Qt.CheckState.Checked)

    def _rows(self) -> list[QTreeWidgetItem]:
        rows = (self.table.topLevelItem(i) for i in range(self.table.topLevelItemCount()))
        return [row for row in rows if row is not None]

    def _mind_ticks(self) -> None:
        self.buttons.button(QDialogButtonBox.StandardButton.Open).setEnabled(bool(self.chosen))

    def _take_one(self, row: QTreeWidgetItem) -> None:
        if row.flags() & Qt.ItemFlag.ItemIsUserCheckable:
            for other in self._rows():
                other.setCheckState(0, Qt.CheckState.Checked if other is row else Qt.CheckState.Unchecked)
            self.accept()


def choose(offers: Sequence[Offer]) -> Sequence[Offer]:
    """Ask a person which of several series to open; nothing where the dialog is closed."""
    viewer = napari.current_viewer()
    dialog = SeriesChooser(offers, None if viewer is None else viewer.window._qt_window)
    return dialog.chosen if dialog.exec() == QDialog.DialogCode.Accepted else ()


def _row(offer: Offer) -> QTreeWidgetItem:
    words = offer.obstacle or offer.words
    row = QTreeWidgetItem([offer.name, words])
    row.setToolTip(1, words)
    if offer.obstacle:
        row.setFlags(Qt.ItemFlag.ItemIsSelectable)
    else:
        row.setFlags(Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
        row.setCheckState(0, Qt.CheckState.Unchecked)
    return row
