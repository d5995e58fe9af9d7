"""Which model: those used lately, a folder, or one dropped here; and what its card says."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSettings, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QGridLayout, QLabel, QPushButton, QSizePolicy, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from medseg.model import Card
    from medseg.plan import Plan

_RECENT = "models/recent"
_KEPT = 8
_NAMED = 6  # labels on the card; all are in its tooltip


class ModelBox(QWidget):
    """A row to choose a model by, and its card beneath.

    Attributes
    ----------
    chosen : Signal
        The model's folder.
    """

    chosen = Signal(object)

    def __init__(self, settings: QSettings) -> None:
        super().__init__()
        self._settings = settings
        self.recent = QComboBox()
        self.recent.setToolTip("Models used lately. A model folder may also be dropped on this dock.")
        self.recent.setAccessibleName("Model")
        self.recent.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.recent.activated.connect(self._take_recent)
        self.folder = QPushButton("&Folder…")
        self.folder.setToolTip("Choose a model folder: RUN/model of a training, an imported or an exported model")
        self.folder.clicked.connect(self._ask)
        self.card = QLabel("Choose a model folder, or drop one here.")
        self.card.setWordWrap(True)
        self.card.setObjectName("medseg-card")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.recent, 0, 0)
        layout.addWidget(self.folder, 0, 1)
        layout.addWidget(self.card, 1, 0, 1, 2)
        layout.setColumnStretch(0, 1)
        self._list()

    def remember(self, folder: Path) -> None:
        """Put a model on top of those used lately."""
        kept = [folder, *(path for path in self._kept() if path != folder)][:_KEPT]
        self._settings.setValue(_RECENT, [str(path) for path in kept])
        self._list()
        self.recent.setCurrentIndex(1)

    def show_card(self, plan: Plan, card: Card) -> None:
        """Show what to know about a model."""
        self.card.setText(card_html(plan, card))
        self.card.setToolTip(html.escape(", ".join(plan.labels.names)))

    def _kept(self) -> list[Path]:
        stored = self._settings.value(_RECENT) or []
        return [Path(path) for path in ([stored] if isinstance(stored, str) else stored)]

    def _list(self) -> None:
        self.recent.clear()
        self.recent.addItem("Choose a model", None)
        for path in self._kept():
            self.recent.addItem(f"{path.name} ({path.parent.name})", str(path))
        self.recent.setEnabled(self.recent.count() > 1)

    def _take_recent(self, index: int) -> None:
        path = self.recent.itemData(index)
        if path:
            self.chosen.emit(Path(path))

    def _ask(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "A model folder")
        if path:
            self.chosen.emit(Path(path))


def folder_in(event: QDragEnterEvent | QDropEvent) -> Path | None:
    """Return the one local folder that is dragged; None for anything else."""
    urls = event.mimeData().urls()
    path = Path(urls[0].toLocalFile()) if len(urls) == 1 and urls[0].isLocalFile() else None
    return path if path is not None and path.is_dir() else None


def card_html(plan: Plan, card: Card) -> str:
    """Return a model's card: labels, modality, voxel size, Dice, and what it is not for."""
    names = plan.labels.names
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    spacing = " × ".join(f"{mm:.3g}" for mm in plan.preprocess.spacing_mm[::-1])
    lines = [
        f"<b>{html.escape(card.name)}</b> {html.escape(card.version)}",
        f"For {html.escape(', '.join(card.modalities))}, voxels of {spacing} mm, "
        f"{plan.network.dimensions}-D, {len(names)} labels: {html.escape(', '.join(names[:_NAMED]))}{more}",
        _dice(card),
        html.escape(f"{card.intended_use} {card.limits}"),
    ]
    return "<br>".join(line for line in lines if line)


def _dice(card: Card) -> str:
    scores = {name: values.get("dice") for name, values in card.metrics.items() if name not in {"all", "mean"}}
    known = [value for value in scores.values() if value is not None]
    if not known:
        return "Dice not stated"
    lowest = min((name for name, value in scores.items() if value is not None), key=lambda name: scores[name] or 0.0)
    return f"Dice {sum(known) / len(known):.2f} on held-out cases, least {html.escape(lowest)} ({min(known):.2f})"
