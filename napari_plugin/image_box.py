"""Which layers are the model's channels, where in them to segment, and whether they suit the model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSizePolicy, QWidget

from medseg.errors import MedsegError
from napari_plugin.bridge import scans_of
from napari_plugin.contrast import CT_WINDOWS
from napari_plugin.region import in_words, region_of
from napari_plugin.runs import Task
from napari_plugin.source import source_of
from napari_plugin.suitability import Remark, remarks, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Shapes

    from napari_plugin.runs import Choices, Loaded
    from napari_plugin.suitability import Verdict

_WORDS: dict[Verdict, str] = {"fits": "Fits the model.", "doubtful": "Doubtful: ", "unfit": "Does not fit: "}
_WHOLE = "Whole scan"


class ImageBox(QWidget):
    """A choice of layer for each channel of the model, of a region, and of a window for CT.

    Attributes
    ----------
    changed : Signal
        Another layer or region is chosen.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.model: Loaded | None = None
        self.form = QFormLayout(self)
        self.form.setContentsMargins(0, 0, 0, 0)
        self.channels: list[QComboBox] = []
        self.region = _combo("Region", "Segment only inside the rectangles of a Shapes layer")
        self.region.currentIndexChanged.connect(self._say)
        self.brightness = _combo("Window", "Brightness of a CT: the usual windows, in HU")
        self.brightness.addItems([name.capitalize() for name in CT_WINDOWS])
        self.brightness.activated.connect(self._set_window)
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.setObjectName("medseg-verdict")
        self.form.addRow("&Region", self.region)
        self.form.addRow("CT &window", self.brightness)
        self.form.addRow(self.verdict)
        self._set_channels(("Image",))
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._relist)
        self.destroyed.connect(partial(_let_go, viewer, (self._relist, self._say)))

    def take_model(self, model: Loaded) -> None:
        """Ask for the channels of a model."""
        self.model = model
        names = model.segmenter.plan.channels
        colours = len(names) == 3 and [n.strip().lower()[:1] for n in names] == ["r", "g", "b"]
        self._set_channels(("Image",) if len(names) == 1 or colours else names)

    def chosen(self) -> list[Image]:
        """Return the layers chosen, one a channel; fewer where some are gone."""
        layers = {id(layer): layer for layer in self._viewer.layers}
        found = (layers.get(combo.currentData()) for combo in self.channels)
        return [layer for layer in found if layer is not None]

    def remarks(self) -> tuple[Remark, ...]:
        """Return what does not fit of the layers chosen."""
        layers = self.chosen()
        if self.model is None or not layers:
            return ()
        try:
            sources = [source_of(layer) for layer in layers]
        except MedsegError as error:
            return (Remark("unfit", str(error)),)
        if layers[0].rgb:
            sources *= 3
        segmenter = self.model.segmenter
        assert segmenter.model is not None  # noqa: S101 - a segmenter that was loaded comes from a model
        return remarks(sources, segmenter.plan, segmenter.model.card)

    def verdict_is(self) -> Verdict:
        """Return the gravest remark's verdict."""
        return verdict_of(self.remarks())

    def task(self, choices: Choices) -> Task:
        """Return a run of what is chosen, with everything it needs.

        Raises
        ------
        MedsegError
            Where a layer was moved, or the region holds nothing of the scan.
        """
        layers = self.chosen()
        scans = scans_of(layers)
        source = source_of(layers[0])
        shapes = self._shapes()
        region = None if shapes is None else region_of(shapes, source)
        model = self.model
        what = "mask" if model is None or model.segmenter.model is None else model.segmenter.model.card.name
        return Task(f"{what} on {source.name}", scans, source, region, choices)

    def _shapes(self) -> Shapes | None:
        layers = {id(layer): layer for layer in self._viewer.layers}
        return layers.get(self.region.currentData())

    def _set_channels(self, names: tuple[str, ...]) -> None:
        for combo in self.channels:
            self.form.removeRow(combo)
        self.channels = []
        for number, name in enumerate(names):
            combo = _combo(name, f"The layer that is the model's channel {name}")
            combo.currentIndexChanged.connect(self._say)
            self.form.insertRow(number, ("&" if number == 0 else "") + name, combo)
            self.channels.append(combo)
        self._relist()

    def _relist(self, event: object = None) -> None:
        """List the layers there are, and keep what is chosen."""
        images = [layer for layer in self._viewer.layers if type(layer).__name__ == "Image"]
        for number, combo in enumerate(self.channels):
            _fill(combo, images, default=number)
        _fill(self.region, [s for s in self._viewer.layers if type(s).__name__ == "Shapes"], first=_WHOLE)
        for layer in self._viewer.layers:
            layer.events.name.disconnect(self._relist)
            layer.events.name.connect(self._relist)
            if type(layer).__name__ == "Shapes":
                layer.events.data.disconnect(self._say)
                layer.events.data.connect(self._say)
        self._say()

    def _say(self, event: object = None) -> None:
        found = self.remarks()
        words = [_WORDS[verdict_of(found)] + " ".join(remark.words for remark in found)] if self.model else []
        words = words if self.chosen() else ["Open a scan: drop a file or DICOM folder on the window."]
        shapes = self._shapes()
        if shapes is not None and self.chosen():
            try:
                source = source_of(self.chosen()[0])
                words.append(f"Region: {in_words(region_of(shapes, source), source)}.")
            except MedsegError as error:
                words.append(str(error))
        note = self.chosen()[0].metadata.get("note") if self.chosen() else None
        if note:
            words.append(f"The scan is {note}.")
        self.verdict.setText("\n".join(words))
        self.changed.emit()

    def _set_window(self, number: int) -> None:
        low, high = list(CT_WINDOWS.values())[number]
        for layer in self.chosen():
            layer.contrast_limits = (low, high)


def _let_go(viewer: ViewerModel, callbacks: tuple[Callable[..., None], ...], box: object = None) -> None:
    """See that the viewer no longer calls a box whose window is gone."""
    emitters = [viewer.layers.events.inserted, viewer.layers.events.removed]
    for layer in viewer.layers:
        emitters += [layer.events.name, *([layer.events.data] if type(layer).__name__ == "Shapes" else [])]
    for emitter in emitters:
        for callback in callbacks:
            emitter.disconnect(callback)


def _combo(name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setAccessibleName(name)
    combo.setToolTip(tip)
    combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return combo


def _fill(combo: QComboBox, layers: list[Layer], *, first: str = "", default: int = 0) -> None:
    """List layers; what was chosen stays, where it is still there."""
    before = combo.currentData()
    combo.blockSignals(True)  # noqa: FBT003 - Qt's signature
    combo.clear()
    if first:
        combo.addItem(first, None)
    for layer in layers:
        combo.addItem(layer.name, id(layer))
    place = combo.findData(before) if before is not None else -1
    combo.setCurrentIndex(max(place, 0) if place >= 0 or first else min(default, combo.count() - 1))
    combo.blockSignals(False)  # noqa: FBT003 - Qt's signature
