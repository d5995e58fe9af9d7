"""The Segment dock: choose a model and a scan, run, look on while the mask grows, and look at what came out."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSettings, QStandardPaths, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from medseg.errors import MedsegError
from napari_plugin.help import HelpWindow
from napari_plugin.image_box import ImageBox
from napari_plugin.label_table import LabelTable
from napari_plugin.model_box import ModelBox, folder_in
from napari_plugin.planes import keep_upright
from napari_plugin.runs import Choices
from napari_plugin.session import Session
from napari_plugin.worker import Worker

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels
    from qtpy.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent

    from napari_plugin.bridge import LayerData
    from napari_plugin.measures import Row
    from napari_plugin.runs import Finished, Shown

_BETWEEN_S = 0.4  # between two looks at a growing mask: a refresh draws the slice anew
_SPARSE = 3.0  # and as many times as long as the last one took
_STAGES = {
    "": "Starting",
    "load": "Loading the model",
    "prepare": "Preparing the scan",
    "network": "Segmenting",
    "crf": "Refining",
    "restore": "Back onto the scan's grid",
    "measure": "Measuring",
}


class SegmentDock(QWidget):
    """The dock.

    Parameters
    ----------
    viewer : Viewer
        The window it is in.
    settings : QSettings, optional
        Where models used lately are kept.
    """

    def __init__(self, viewer: napari.viewer.Viewer, settings: QSettings | None = None) -> None:
        super().__init__()
        self._viewer = viewer
        self.worker = Worker()
        self.session = Session(self.worker)
        self._layers: dict[int, Labels] = {}
        self._last: Finished | None = None
        self._refreshed, self._took = 0.0, 0.0
        self.setAcceptDrops(True)
        self.models = ModelBox(settings or _own_settings())
        self.images = ImageBox(viewer)
        self.options = _Options()
        self.run = QPushButton("&Segment")
        self.cancel = QPushButton("&Cancel")
        self.bar = QProgressBar()
        self.status = QLabel()
        self.table = LabelTable()
        self.scores = QComboBox()
        self.overlay = QPushButton("&Overlay")
        self.help = QPushButton("&Help")
        self._explain()
        self._compose()
        self._connect()
        self._order_tabs()
        keep_upright(viewer)
        self._update()

    def load(self, folder: Path) -> None:
        """Load the model in a folder, in the background."""
        self.session.load(folder, self.options.choices)

    def start(self) -> None:
        """Segment what is chosen; a sentence where that cannot be."""
        try:
            task = self.images.task(self.options.choices)
        except MedsegError as error:
            _tell(error)
            return
        self.table.forget()
        self.session.run(task)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take a folder that is dragged over the dock."""
        if folder_in(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Load the model in a folder that is dropped."""
        folder = folder_in(event)
        if folder is not None:
            event.acceptProposedAction()
            self.load(folder)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop what goes on: nobody would see it."""
        self.session.cancel()
        super().closeEvent(event)

    # -- how it looks ---------------------------------------------------------------------------------------
    def _compose(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 4, 4, 4)
        for title, widget in (("Model", self.models), ("Scan", self.images), ("How", self.options)):
            group = QGroupBox(title)
            inside = QVBoxLayout(group)
            inside.setContentsMargins(6, 6, 6, 6)
            inside.addWidget(widget)
            column.addWidget(group)
        column.addLayout(_beside(self.run, self.cancel))
        for below in (self.bar, self.status, self.table):
            column.addWidget(below)
        column.addLayout(_beside(self.scores, self.overlay))
        column.addWidget(self.help)
        column.setStretchFactor(self.table, 1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(inner.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width())

    def _explain(self) -> None:
        self.run.setToolTip("Segment the scan. The window stays usable; the mask shows as it grows.")
        self.cancel.setToolTip("Stop the run; its part of a mask is taken away.")
        self.bar.setAccessibleName("Progress")
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.scores.setToolTip("What to lay over the scan, in percent: uncertainty, or the probability of a label")
        self.scores.setAccessibleName("Overlay")
        self.scores.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.overlay.setToolTip("Run the model once more and lay this over the scan. Uncalibrated, on the whole scan.")
        self.help.setToolTip("What this dock does, and what it does not")

    def _order_tabs(self) -> None:
        """Let Tab go from top to bottom; the channels of another model are new widgets."""
        images, options = self.images, self.options
        order = [self.models.recent, self.models.folder, *images.channels, images.region, images.brightness]
        order += [options.device, options.speed, options.mirrored, options.anyway, self.run, self.cancel, self.table]
        for before, after in pairwise([*order, self.scores, self.overlay, self.help]):
            QWidget.setTabOrder(before, after)

    def _connect(self) -> None:
        self.models.chosen.connect(self.load)
        self.images.changed.connect(self._update)
        self.options.anyway.toggled.connect(self._update)
        self.run.clicked.connect(self.start)
        self.cancel.clicked.connect(self.session.cancel)
        self.table.wanted.connect(self._jump)
        self.help.clicked.connect(lambda: HelpWindow(self).show())
        self.overlay.clicked.connect(self._ask_overlay)
        self.destroyed.connect(partial(_abandon, self.worker))
        self.session.changed.connect(self._update)
        self.session.grown.connect(self._grow)
        self.session.finished.connect(self._finish)
        self.session.overlaid.connect(self._overlay)
        self.session.stopped.connect(self._drop)
        self.session.failed.connect(self._fail)

    def _update(self) -> None:
        session = self.session
        self._take_model()
        unfit = self.images.verdict_is() == "unfit" and not self.options.anyway.isChecked()
        ready = session.model is not None and len(self.images.chosen()) == len(self.images.channels)
        self.run.setEnabled(ready and not session.is_busy and not unfit)
        self.cancel.setEnabled(session.is_busy and session.state != "stopping")
        self.models.setEnabled(not session.is_busy)
        self.overlay.setEnabled(self._last is not None and not session.is_busy)
        self.bar.setVisible(session.is_busy)
        if session.is_busy:
            self._show_progress()

    def _take_model(self) -> None:
        model = self.session.model
        if model is None or model is self.images.model:
            return
        known = self.images.model
        self.images.take_model(model)
        self._order_tabs()
        if known is None or known.folder != model.folder:
            self.models.remember(model.folder)
            if model.segmenter.model is not None:
                self.models.show_card(model.segmenter.plan, model.segmenter.model.card)
            self.status.setText("The model is ready.")

    def _show_progress(self) -> None:
        session = self.session
        step, left = session.step, session.seconds_left
        self.bar.setRange(0, step.total)
        self.bar.setValue(step.done)
        if session.state == "stopping":
            self.status.setText("Stopping at the next step.")
            return
        words = _STAGES.get(step.stage, step.stage)
        if step.stage == "network" and left is not None:
            words += f", about {_time(left)} left"
        self.status.setText(f"{words} ({_time(session.seconds)} so far).")

    # -- masks ----------------------------------------------------------------------------------------------
    def _grow(self, shown: Shown) -> None:
        layer = self._layers.get(shown.number)
        if layer is None:
            self._layers[shown.number] = self._add(shown.layer)
            return
        now = time.monotonic()
        if now - self._refreshed < max(_BETWEEN_S, _SPARSE * self._took):
            return
        layer.refresh(thumbnail=False, extent=False)
        self._refreshed = time.monotonic()
        self._took = self._refreshed - now

    def _finish(self, finished: Finished) -> None:
        layer = self._layers.pop(finished.number, None)
        if layer is None or layer not in self._viewer.layers:
            layer = self._add(finished.layer)
        layer.refresh(extent=False)
        self._last = finished
        self.table.show_rows(finished.rows, layer)
        self.scores.clear()
        self.scores.addItem("Uncertainty", None)
        for row in finished.rows:
            self.scores.addItem(f"Probability of {row.label.name}", row.label)
        self.status.setText(_result_words(finished, self.session.seconds))

    def _drop(self, number: int) -> None:
        layer = self._layers.pop(number, None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        self.status.setText("Stopped; nothing was kept.")

    def _ask_overlay(self) -> None:
        if self._last is not None:
            self.session.overlay(self._last.task, self.scores.currentData())

    def _overlay(self, data: LayerData) -> None:
        self._viewer.add_image(data.array, **data.arguments)
        self.status.setText(f"{data.arguments['name']}: 0 to 100 percent, uncalibrated.")

    def _add(self, data: LayerData) -> Labels:
        return self._viewer.add_labels(data.array, **data.arguments)

    def _jump(self, row: Row) -> None:
        if row.largest_world is None:
            return
        dims = self._viewer.dims
        for axis in dims.not_displayed:
            spatial = axis - (dims.ndim - 3)
            if spatial >= 0:
                dims.set_point(axis, row.largest_world[spatial])

    def _fail(self, error: Exception) -> None:
        self.status.setText(str(error))
        _tell(error)


class _Options(QWidget):
    """Device, speed, and whether to run on a scan that does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.device = QComboBox()
        self.device.addItems(["auto", "cpu", "cuda"])
        self.device.setToolTip("Where to compute: auto takes a GPU where there is one")
        self.speed = QComboBox()
        self.speed.addItems(["As trained", "Fast, worse masks"])
        self.speed.setToolTip("Fast sees the scan on a grid 1.5 times as coarse, about a third of the work in 3-D")
        self.mirrored = QCheckBox("&Mirror, too (slower)")
        self.mirrored.setToolTip("Test-time mirroring along the axes the model allows")
        self.anyway = QCheckBox("Run though it does not &fit")
        self.anyway.setToolTip("For a scan of another modality than the model's. The mask may mean nothing.")
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("&Device", self.device)
        form.addRow("S&peed", self.speed)
        form.addRow(self.mirrored)
        form.addRow(self.anyway)

    @property
    def choices(self) -> Choices:
        """What is chosen."""
        return Choices(self.device.currentText(), self.mirrored.isChecked(), self.speed.currentIndex() == 1)


def _beside(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget, 1)
    return row


def _abandon(worker: Worker, dock: object = None) -> None:
    """Let go of work nobody will see."""
    worker.abandon()


def _own_settings() -> QSettings:
    folder = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericConfigLocation)
    return QSettings(str(Path(folder) / "medseg" / "napari.ini"), QSettings.Format.IniFormat)


def _tell(error: Exception) -> None:
    """Show an error as napari does: a sentence, or the trace of what nobody foresaw."""
    from napari.utils.notifications import notification_manager, show_error

    if isinstance(error, MedsegError):
        show_error(str(error))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _result_words(finished: Finished, seconds: float) -> str:
    result = finished.result
    words = [f"{finished.task.name}: done in {_time(seconds)}."]
    if result.confidence is not None:
        words.append(f"Confidence {result.confidence:.2f} (mean largest probability, uncalibrated).")
    if "empty" in result.flags:
        words.append("Nothing was found.")
    if "touches-edge" in result.flags:
        words.append("The mask touches the edge of the scan and may be cut.")
    return " ".join(words)
