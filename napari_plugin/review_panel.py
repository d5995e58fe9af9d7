"""What the Review dock looks like: its fields and buttons, and how the queue is written into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_plugin.review_tools import TOOLS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.review import OpenCase, Queue, ReviewCase, Versions

# None of these is a key of napari's Labels layer (brush, eraser, fill, picker, brush size, label up and down).
KEYS = {
    "a": "accept",
    "r": "reject",
    "s": "fix",
    ".": "next_case",
    ",": "previous_case",
    "t": "toggle_mask",
    "o": "toggle_outline",
    "d": "compare",
}
REASONS = ("wrong organ", "large parts missing", "leaks into neighbours", "left and right exchanged", "scan unusable")
_BUTTONS = {
    "accept": ("Accept", "The mask is right; edits are saved, and the case counts as fixed"),
    "reject": ("Reject", "The mask is of no use; needs a reason"),
    "fix": ("Save as fixed", "Save the edited mask as a new version that is right"),
    "previous_case": ("Previous", "The open case before this one"),
    "next_case": ("Next", "The next open case; unsaved edits wait for you"),
    "toggle_mask": ("Mask", "Show or hide the mask"),
    "toggle_outline": ("Outline", "The outline of the mask, or the whole of it"),
    "compare": ("Compare", "Where the mask differs from the version chosen, and the Dice"),
    "undo": ("Undo", "Take the last edit back (Ctrl+Z)"),
    "redo": ("Redo", "Make it again (Ctrl+Shift+Z)"),
}
_COLUMNS = ("case", "status", "confidence", "flags")
_FOCUS = Qt.FocusPolicy.TabFocus  # a click leaves the keys to the picture


class Panel(QWidget):
    """The fields of the dock; it knows nothing of what they do.

    Parameters
    ----------
    dock : QWidget
        What it fills.
    """

    reason_given = Signal()
    limits_changed = Signal()

    def __init__(self, dock: QWidget) -> None:
        super().__init__(dock)
        self.buttons = {name: self._button(name) for name in _BUTTONS}
        self.tools = {name: _plain_button(tool.title, tool.tip) for name, tool in TOOLS.items()}
        self.open = _plain_button("Open folder ...", "An output folder of medseg segment, or images beside masks")
        self.who = QLineEdit()
        self.who.setPlaceholderText("your name")
        self.folder = QLabel("No folder is open.")
        self.folder.setWordWrap(True)
        self.queue = _table()
        self.case = QLabel("–")
        self.clock = QLabel("0:00")
        self.comment = QLineEdit()
        self.comment.setPlaceholderText("for the log; no patient's name")
        self.reason = QComboBox()
        self.reason.setEditable(True)
        self.reason.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.reason.addItems(["", *REASONS])
        self._typed = QLineEdit()
        self.reason.setLineEdit(self._typed)
        self._typed.returnPressed.connect(self.reason_given)
        self.version = QComboBox()
        self.version.setToolTip("The version to compare with; 0 is the prediction")
        self.other = _plain_button(
            "Other ...", "Compare with the masks of another folder: a second model's, a colleague's"
        )
        self.others: list[Path] = []
        self.sigma = _number(1.5, low=0.1, high=50, tip="Width of the smoothing")
        self.sigma.setSuffix(" mm")
        self.only = QCheckBox("Paint only from")
        self.only.setToolTip("Brush and eraser change only voxels whose intensity lies between the limits")
        self.low, self.high = (_number(n, low=-1e6, high=1e6, tip="Intensity, HU for CT") for n in (0.0, 200.0))
        for signal in (self.only.toggled, self.low.valueChanged, self.high.valueChanged):
            signal.connect(lambda _=None: self.limits_changed.emit())
        self.status = QLabel("")
        self.status.setWordWrap(True)
        self.status.setMinimumHeight(3 * self.status.fontMetrics().lineSpacing())
        self._lay_out(dock)

    # -- what the dock reads --------------------------------------------------------------------------------
    def settings(self) -> Settings:
        """Return what the tools are told."""
        return Settings(sigma_mm=float(self.sigma.value()))

    def limits(self) -> tuple[float, float] | None:
        """Return between which intensities is painted; ``None`` for all."""
        low, high = sorted((float(self.low.value()), float(self.high.value())))
        return (low, high) if self.only.isChecked() else None

    def case_in(self, row: int) -> str:
        """Return the id of the case in a row of the queue."""
        item = self.queue.item(row, 0)
        return "" if item is None else str(item.text())

    # -- what the dock writes -------------------------------------------------------------------------------
    def show_folder(self, folder: Path, who: str) -> None:
        """Say what is under review, and by whom."""
        self.folder.setText(f"{folder.name}, reviewed by {who}")
        self.folder.setToolTip(str(folder))
        self.who.setText(who)
        self.who.setVisible(False)

    def show_queue(self, queue: Queue, current: OpenCase | None, versions: Callable[[ReviewCase], Versions]) -> None:
        """Write the queue and the open case into the fields."""
        self.queue.setRowCount(len(queue))
        for row, entry in enumerate(queue):
            confidence = "–" if entry.case.confidence is None else f"{entry.case.confidence:.3f}"
            cells = (entry.case.id, entry.status, confidence, ", ".join(entry.flags))
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setToolTip(entry.reason or text)
                self.queue.setItem(row, column, item)
            if current is not None and entry.case.id == current.case.id:
                self.queue.selectRow(row)
        if current is None:
            return
        counts = queue.counts
        self.case.setText(f"{current.case.id}   ({counts['open']} of {len(queue)} open)")
        self.comment.clear()
        self.reason.setCurrentIndex(0)
        self.version.clear()
        for version in versions(current.case).all():
            text = "0: prediction" if version.number == 0 else f"{version.number}: {version.who}"
            self.version.addItem(text, version.number)
        for folder in self.others:
            self.version.addItem(folder.name, str(folder))

    def add_other(self, folder: Path) -> None:
        """Offer the masks of another folder to compare with, and choose them."""
        self.others.append(folder)
        self.version.addItem(folder.name, str(folder))
        self.version.setCurrentIndex(self.version.count() - 1)

    def show_seconds(self, seconds: float) -> None:
        """Show the time spent on the case."""
        self.clock.setText(f"{int(seconds) // 60}:{int(seconds) % 60:02d}")

    def set_busy(self, is_busy: bool) -> None:  # noqa: FBT001 - a state
        """Let nothing be pressed while something is done."""
        for button in (*self.buttons.values(), *self.tools.values(), self.open):
            button.setEnabled(not is_busy)

    def ask_reason(self) -> None:
        """Put the cursor where the reason goes."""
        self.reason.setFocus()
        self._typed.selectAll()

    # -- inside ---------------------------------------------------------------------------------------------
    def _button(self, name: str) -> QPushButton:
        title, tip = _BUTTONS[name]
        key = next((key for key, action in KEYS.items() if action == name), "")
        return _plain_button(f"{title} ({key.upper()})" if key else title, tip)

    def _lay_out(self, dock: QWidget) -> None:
        whole = QVBoxLayout(dock)
        whole.setContentsMargins(6, 6, 6, 6)
        top = QHBoxLayout()
        top.addWidget(self.folder, 1)
        top.addWidget(self.who)
        top.addWidget(self.open)
        whole.addLayout(top)
        whole.addWidget(self.queue, 1)
        header = QHBoxLayout()
        header.addWidget(self.case, 1)
        header.addWidget(self.clock)
        whole.addLayout(header)
        whole.addLayout(
            _grid([self.buttons[name] for name in ("accept", "fix", "reject", "previous_case", "next_case")])
        )
        words = QFormLayout()
        words.addRow("Reason", self.reason)
        words.addRow("Comment", self.comment)
        whole.addLayout(words)
        whole.addWidget(self._looking())
        whole.addWidget(self._editing())
        whole.addWidget(self.status)

    def _looking(self) -> QGroupBox:
        box = QGroupBox("Look")
        rows = QVBoxLayout(box)
        rows.addLayout(_grid([self.buttons[name] for name in ("toggle_mask", "toggle_outline", "compare")]))
        line = QHBoxLayout()
        for widget, stretch in ((QLabel("with"), 0), (self.version, 1), (self.other, 0)):
            line.addWidget(widget, stretch)
        rows.addLayout(line)
        return box

    def _editing(self) -> QGroupBox:
        box = QGroupBox("Edit the selected label")
        rows = QVBoxLayout(box)
        rows.addLayout(_grid([*self.tools.values(), self.buttons["undo"], self.buttons["redo"]], columns=2))
        line = QHBoxLayout()
        for widget in (QLabel("Smooth by"), self.sigma):
            line.addWidget(widget)
        rows.addLayout(line)
        limits = QHBoxLayout()
        for part in (self.only, self.low, QLabel("to"), self.high):
            limits.addWidget(part)
        rows.addLayout(limits)
        return box


def _plain_button(title: str, tip: str) -> QPushButton:
    button = QPushButton(title)
    button.setToolTip(tip)
    button.setFocusPolicy(_FOCUS)
    return button


def _grid(buttons: list[Any], *, columns: int = 3) -> QGridLayout:
    grid = QGridLayout()
    grid.setSpacing(4)
    for n, button in enumerate(buttons):
        grid.addWidget(button, n // columns, n % columns)
    return grid


def _number(value: float, *, low: float, high: float, tip: str) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setRange(low, high)
    field.setDecimals(1)
    field.setValue(value)
    field.setToolTip(tip)
    return field


def _table() -> QTableWidget:
    table = QTableWidget(0, len(_COLUMNS))
    table.setHorizontalHeaderLabels(list(_COLUMNS))
    table.verticalHeader().setVisible(False)
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    table.horizontalHeader().setStretchLastSection(True)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setFocusPolicy(_FOCUS)
    table.setMinimumHeight(120)
    table.setToolTip("The least confident case first; double-click opens one")
    return table
