"""The labels of a mask: shown or hidden, colour, volume, and a jump to where each is largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QColorDialog, QHeaderView, QTableWidget, QTableWidgetItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels

    from napari_plugin.measures import Row

_NAME, _COLOUR, _VOLUME = range(3)
_SWATCH = 14


class LabelTable(QTableWidget):
    """One row a label. Tick: shown. Double-click or Enter on a name: its largest slice; on a colour: choose another.

    Attributes
    ----------
    wanted : Signal
        The `Row` to jump to.
    """

    wanted = Signal(object)

    def __init__(self) -> None:
        super().__init__(0, 3)
        self.setHorizontalHeaderLabels(["Label", "Colour", "ml"])
        self.horizontalHeader().setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column in (_COLOUR, _VOLUME):
            self.horizontalHeader().setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.verticalHeader().hide()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setMinimumHeight(120)
        self.setMinimumWidth(200)
        self.setToolTip("Tick: show. Double-click or Enter: go to the largest slice. Double-click a colour: change it.")
        self.setAccessibleName("Labels of the mask")
        self.rows: tuple[Row, ...] = ()
        self._layer: Labels | None = None
        self.itemChanged.connect(self._show_or_hide)
        self.itemActivated.connect(self._activate)

    def show_rows(self, rows: Sequence[Row], layer: Labels) -> None:
        """Show the labels of a layer."""
        self.rows, self._layer = tuple(rows), layer
        self.blockSignals(True)  # noqa: FBT003 - Qt's signature
        self.setRowCount(len(self.rows))
        for number, row in enumerate(self.rows):
            name = QTableWidgetItem(row.label.name)
            name.setFlags(name.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            name.setCheckState(Qt.CheckState.Checked)
            colour = QTableWidgetItem(_swatch(row.label.color), "")
            volume = QTableWidgetItem(f"{row.volume_ml:.1f}" if row.largest_world else "none")
            volume.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for column, item in ((_NAME, name), (_COLOUR, colour), (_VOLUME, volume)):
                self.setItem(number, column, item)
        self.blockSignals(False)  # noqa: FBT003 - Qt's signature

    def forget(self) -> None:
        """Show nothing."""
        self.rows, self._layer = (), None
        self.setRowCount(0)

    def _activate(self, item: QTableWidgetItem) -> None:
        row = self.rows[item.row()]
        if item.column() != _COLOUR:
            self.wanted.emit(row)
            return
        chosen = QColorDialog.getColor(QColor(*self._colour_of(row)), self, f"Colour of {row.label.name}")
        if chosen.isValid():
            item.setIcon(_swatch((chosen.red(), chosen.green(), chosen.blue())))
            self._paint(row, [chosen.redF(), chosen.greenF(), chosen.blueF(), self._alpha(item.row())])

    def _show_or_hide(self, item: QTableWidgetItem) -> None:
        if item.column() == _NAME:
            row = self.rows[item.row()]
            self._paint(row, [*(c / 255 for c in self._colour_of(row)), self._alpha(item.row())])

    def _alpha(self, number: int) -> float:
        item = self.item(number, _NAME)
        return 1.0 if item is not None and item.checkState() == Qt.CheckState.Checked else 0.0

    def _colour_of(self, row: Row) -> tuple[int, ...]:
        if self._layer is None:
            return row.label.color
        return tuple(round(255 * float(c)) for c in self._layer.colormap.color_dict[row.label.id][:3])

    def _paint(self, row: Row, colour_rgba: Sequence[float]) -> None:
        if self._layer is None:
            return
        from napari.utils.colormaps import DirectLabelColormap

        colours = self._layer.colormap.color_dict.copy()
        colours[row.label.id] = np.array(colour_rgba)
        self._layer.colormap = DirectLabelColormap(color_dict=colours)


def _swatch(color: Sequence[int]) -> QIcon:
    pixmap = QPixmap(_SWATCH, _SWATCH)
    pixmap.fill(QColor(*color[:3]))
    return QIcon(pixmap)
