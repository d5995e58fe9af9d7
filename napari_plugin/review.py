"""The Review dock: one case after another, the least confident first; every key, tool and decision of a reviewer.

Reading, saving, comparing and the tools run in a thread; what a person paints is kept while they paint. The dock shows
what `medseg.review.Desk` has on it and calls it, no more.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from medseg.errors import MedsegError
from medseg.review import Desk, compare, mask_elsewhere
from napari_plugin.background import Background
from napari_plugin.difference import difference_layer, said_of
from napari_plugin.painting import PaintedMask, ShownCase, shown_in
from napari_plugin.planes import keep_upright
from napari_plugin.review_panel import KEYS, Panel
from napari_plugin.review_tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    import napari.viewer
    from napari.layers import Image, Labels
    from qtpy.QtGui import QKeyEvent

    from medseg.review import Comparison, Entry, OpenCase

_FLUSH_MS = 1000
_CLOCK_MS = 1000


class ReviewDock(QWidget):
    """Judge the masks of a folder, case by case.

    Parameters
    ----------
    viewer : napari.Viewer
        Where scans and masks are shown.
    folder : Path, optional
        What to review; a button opens another.
    who : str
        The reviewer.
    images : sequence of Path
        Where the scans are, where the folder does not tell.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, folder: Path | None = None, who: str = "", images: Sequence[Path] = ()
    ) -> None:  # napari looks for the annotation just so
        super().__init__()
        self.viewer = viewer
        self.desk: Desk | None = None
        self.painted: PaintedMask | None = None
        self._who = who
        self._is_busy = False
        self._unflushed = False
        self._ahead: tuple[str, Future[Any]] | None = None
        self._images: list[Image] = []
        self._mask: Labels | None = None
        self._difference: Labels | None = None
        self._jobs = Background("review", self)
        self._reader = Background("review-ahead", self)
        self._flusher = Background("review-flush", self)
        self.panel = Panel(self)
        self._connect()
        keep_upright(viewer)
        for key, name in KEYS.items():
            viewer.bind_key(key, self._on_key(name), overwrite=True)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._timer.start(_CLOCK_MS)
        if folder is not None:
            self.open_folder(folder, images)

    # -- folder and cases -----------------------------------------------------------------------------------
    def open_folder(self, folder: Path, images: Sequence[Path] = ()) -> None:
        """Open a folder under review and its most urgent case."""
        self._put_away()
        who = self._who or self.panel.who.text().strip()

        def opened() -> Desk:
            return Desk(folder, who=who, images=images)

        def then(desk: Desk) -> None:
            self.desk = desk
            self.panel.show_folder(folder, desk.who)
            self.open_case(desk.queue.first().case.id)

        self._do(f"Opening {folder.name} ...", opened, then)

    def open_case(self, case_id: str) -> None:
        """Put a case on the desk and show it; its unsaved edits are brought back."""
        desk = self.desk
        if desk is None:
            return
        ahead, self._ahead = self._ahead, None

        def opened() -> ShownCase:
            read = ahead[1].result() if ahead and ahead[0] == case_id and ahead[1].exception() is None else None
            case = desk.open(case_id, read.case if read else None)
            return read if read and read.case is case else ShownCase.of(case)

        self._do(f"Reading {case_id} ...", opened, self._show)

    def next_case(self) -> None:
        """Go to the next open case."""
        self._go(1)

    def previous_case(self) -> None:
        """Go to the open case before this one."""
        self._go(-1)

    # -- decisions ------------------------------------------------------------------------------------------
    def accept(self) -> None:
        """Accept the case and go on; a mask that was edited is saved as fixed."""
        self._decide(lambda desk: desk.accept(self._comment()))

    def fix(self) -> None:
        """Save the edited mask as fixed and go on."""
        self._decide(lambda desk: desk.fix(self._comment()))

    def reject(self) -> None:
        """Reject the case and go on; without a reason, ask for it first."""
        reason = self.panel.reason.currentText().strip()
        if not reason:
            self.panel.ask_reason()
            self._say("Why? Choose or type a reason, then press Enter.")
            return
        self._decide(lambda desk: desk.reject(reason, self._comment()))

    def undo(self) -> None:
        """Take the last edit back."""
        self._step(back=True)

    def redo(self) -> None:
        """Make the edit taken back again."""
        self._step(back=False)

    # -- looking --------------------------------------------------------------------------------------------
    def toggle_mask(self) -> None:
        """Show or hide the mask."""
        if self.painted is not None:
            self.painted.layer.visible = not self.painted.layer.visible

    def toggle_outline(self) -> None:
        """Show the mask's outline, or the whole of it."""
        if self.painted is not None:
            self.painted.layer.contour = 0 if self.painted.layer.contour else 1

    def compare(self) -> None:
        """Show where the mask differs from the version chosen, and the Dice of both; again to hide it."""
        if self._difference is not None and self._difference.visible:
            self._difference.visible = False
            return
        current = self._case()
        if current is None or self.desk is None:
            return
        versions = self.desk.versions(current.case)
        chosen = self.panel.version.currentData() or 0

        def compared() -> Comparison:
            if isinstance(chosen, int):
                other = versions.read(chosen, labels=current.labels, onto=current.scan.geometry)
            else:
                other = mask_elsewhere(current.case, Path(chosen), current.scan)
            return compare(current.segmentation, other).turned()

        self._do("Comparing ...", compared, self._show_difference)

    def use(self, tool: str) -> None:
        """Use a tool of `TOOLS` on the label that is selected."""
        current = self._case()
        if current is None or self.painted is None or self.desk is None:
            return
        desk, label, settings = self.desk, int(self.painted.layer.selected_label), self.panel.settings()

        def done() -> int:
            edit = TOOLS[tool].edit(current, label, settings)
            desk.edit(edit)
            return edit.n_voxels

        def then(voxels: int) -> None:
            self._edited()
            if self.painted is not None:
                self.painted.refresh()
            self._say(f"{TOOLS[tool].title}: {voxels} voxels changed.")

        self._do(f"{TOOLS[tool].title} ...", done, then)

    def close_review(self) -> None:
        """Put everything away: unsaved edits are on the disk and come back."""
        if not self._timer.isActive():
            return
        self._timer.stop()
        for key in KEYS:
            self.viewer.bind_key(key, None)
        for background in (self._jobs, self._reader, self._flusher):
            background.stop()
        self._put_away()

    # -- Qt -------------------------------------------------------------------------------------------------
    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let the keys work where the dock has the focus, too."""
        name = KEYS.get(event.text())
        if name is None or event.modifiers() not in (Qt.KeyboardModifier.NoModifier,):
            super().keyPressEvent(event)
            return
        getattr(self, name)()

    def closeEvent(self, event: Any) -> None:
        """Put everything away with the window."""
        self.close_review()
        super().closeEvent(event)

    # -- inside ---------------------------------------------------------------------------------------------
    def _connect(self) -> None:
        panel = self.panel
        for name, button in panel.buttons.items():
            button.clicked.connect(getattr(self, name))
        for name, button in panel.tools.items():
            button.clicked.connect(lambda _=False, tool=name: self.use(tool))
        panel.open.clicked.connect(self._choose_folder)
        panel.other.clicked.connect(self._choose_other)
        panel.queue.cellDoubleClicked.connect(lambda row, _: self.open_case(panel.case_in(row)))
        panel.reason_given.connect(self.reject)
        panel.limits_changed.connect(self._limit)

    def _on_key(self, name: str) -> Callable[[Any], None]:
        return lambda _viewer: getattr(self, name)()

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A folder under review")
        if folder:
            scans = QFileDialog.getExistingDirectory(self, "Where the scans are (cancel where the folder tells)")
            self.open_folder(Path(folder), [Path(scans)] if scans else ())

    def _choose_other(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Masks of a second model, or of another reviewer")
        if folder:
            self.panel.add_other(Path(folder))

    def _case(self) -> OpenCase | None:
        """Return the case a person may act on: none while something is done, or in the middle of a stroke."""
        if self.painted is not None:
            self.painted.settle()
        is_held = self._is_busy or (self.painted is not None and self.painted.is_painting)
        return None if self.desk is None or is_held else self.desk.open_case

    def _go(self, step: int) -> None:
        current = self._case()
        if current is not None and self.desk is not None:
            self.open_case(self.desk.queue.next(current.case.id, step=step).case.id)

    def _decide(self, decision: Callable[[Desk], Entry]) -> None:
        current, desk = self._case(), self.desk
        if current is None or desk is None:
            return

        def then(entry: Entry) -> None:
            self._say(f"{entry.case.id}: {entry.status}.")
            following = desk.queue.next(entry.case.id)
            if following.status != "open":
                self._refresh()
                show_info("No case is open any more.")
                return
            self.open_case(following.case.id)

        self._do("Saving ...", lambda: decision(desk), then)

    def _step(self, *, back: bool) -> None:
        if self._case() is None or self.painted is None:
            return
        if not (self.painted.undo() if back else self.painted.redo()):
            self._say("Nothing to undo." if back else "Nothing to redo.")
        self._edited()

    def _do(self, what: str, job: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do a job in the thread; the mask is not painted on meanwhile."""
        if self._is_busy:
            return
        self._set_busy(what)

        def ended(result: Any) -> None:
            self._set_busy("")
            then(result)

        def failed(error: BaseException) -> None:
            self._set_busy("")
            if self.desk is None or self.desk.open_case is None:
                self._hide()
            self._refresh()
            self._say(str(error))
            show_error(str(error) if isinstance(error, MedsegError) else f"{type(error).__name__}: {error}")

        self._jobs.run(job, ended, failed)

    def _set_busy(self, what: str) -> None:
        self._is_busy = bool(what)
        self.panel.set_busy(bool(what))
        if self.painted is not None and self.painted.layer in self.viewer.layers:
            self.painted.hold(is_held=bool(what))
        if what:
            self._say(what)

    def _show(self, shown: ShownCase) -> None:
        if self.desk is None:  # pragma: no cover - put away meanwhile
            return
        case = shown.case
        self._hide()
        before = [*self._images, *[None] * len(shown.images)]
        self._images = [shown_in(self.viewer, *pair) for pair in zip(shown.images, before, strict=False)]
        self.painted = PaintedMask(
            self.viewer, self.desk, shown, layer=self._mask, changed=self._edited, told=self._say
        )
        self._mask = self.painted.layer
        self.viewer.layers.selection.active = self._mask
        for key, name in {"Control-Z": "undo", "Control-Shift-Z": "redo"}.items():
            self._mask.bind_key(key, self._on_key(name), overwrite=True)
        self._limit()
        self.painted.show_largest_slice(self.viewer)
        brought = f" {case.recovered} unsaved edits were brought back." if case.recovered else ""
        self._say(f"{case.case.id}.{brought}")
        if brought:
            show_info(f"{case.case.id}:{brought}")
        self._refresh()
        self._read_ahead(case.case.id)

    def _show_difference(self, found: Comparison) -> None:
        if self.painted is None:
            return
        self._difference = difference_layer(self.viewer, found, self.painted.layer, self._difference)
        self.viewer.layers.selection.active = self.painted.layer
        self._say(said_of(found))

    def _read_ahead(self, case_id: str) -> None:
        """Read the case that comes next while this one is looked at."""
        desk = self.desk
        if desk is not None:
            following = desk.queue.next(case_id).case.id
            if following != case_id:
                self._ahead = (following, self._reader.start(lambda: ShownCase.of(desk.read(following))))

    def _edited(self) -> None:
        self._unflushed = True
        if self._difference is not None:  # it tells of the mask as it was
            self._difference.visible = False

    def _tick(self) -> None:
        if self.desk is None:
            return
        self.panel.show_seconds(self.desk.seconds if self.desk.open_case else 0.0)
        if self._unflushed:
            self._unflushed = False
            self._flusher.start(self.desk.sync)

    def _limit(self, limits: Any = None) -> None:
        if self.painted is not None:
            self.painted.limits = self.panel.limits()

    def _refresh(self) -> None:
        if self.desk is not None:
            self.panel.show_queue(self.desk.queue, self.desk.open_case, self.desk.versions)

    def _comment(self) -> str:
        return str(self.panel.comment.text()).strip()

    def _say(self, text: str) -> None:
        self.panel.status.setText(text)

    def _hide(self) -> None:
        """Show none of the case any more; its layers wait for the next one."""
        if self.painted is not None:
            self.painted.release()
            self.painted = None
        for layer in (*self._images, self._mask, self._difference):
            if layer is not None:
                layer.visible = False

    def _put_away(self) -> None:
        self._ahead = None
        if self.desk is not None:
            self._hide()
            self.desk.close()
            self.desk = None


if __name__ == "__main__":
    from napari_plugin.review_program import main

    sys.exit(main())
