"""The mask on the desk as a Labels layer: every stroke is kept while it is painted, and undone by the desk. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from napari.layers import Image, Labels

from medseg.errors import OutputError
from medseg.volume import Segmentation
from napari_plugin.bridge import image_layers, labels_layer
from napari_plugin.planes import RANGE
from napari_plugin.strokes import as_it_is, edit_of, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from medseg.review import Desk, Edit, OpenCase
    from napari_plugin.bridge import LayerData


_LOOKED_AT = 64  # slices


class ShownCase(NamedTuple):
    """A case and the layers it makes, made in any thread: they look at every voxel.

    Attributes
    ----------
    case : OpenCase
    images : list of LayerData
        A layer for each channel of the scan.
    mask : LayerData
        The layer of the mask, whose array is a view of the case's.
    """

    case: OpenCase
    images: list[LayerData]
    mask: LayerData

    @classmethod
    def of(cls, case: OpenCase) -> ShownCase:
        """Return the layers of a case."""
        mask = Segmentation(case.mask, case.scan.geometry, case.labels)
        return cls(case, image_layers(case.scan, name=case.case.id), labels_layer(mask, name=f"mask {case.case.id}"))


def shown_in(viewer: ViewerModel, made: LayerData, layer: Any = None) -> Any:
    """Show what was made in a layer that is there already, or in a new one where that cannot be; return the layer.

    Layers are used again from case to case: to remove one may leave OpenGL drawing from memory that is gone (napari
    issues 6472 and 8471).
    """
    arguments = made.arguments
    if layer is None or layer not in viewer.layers or getattr(layer, "rgb", False) != arguments.get("rgb", False):
        new = (Labels if made.kind == "labels" else Image)(made.array, **arguments)
        viewer.add_layer(new)  # the layer itself is kept: what a viewer in a plugin's hands returns hides parts of it
        return new
    layer.data = made.array
    for name in ("affine", "name", "metadata", "colormap", "features"):
        if name in arguments and (name != "colormap" or made.kind == "labels"):
            setattr(layer, name, arguments[name])
    if "contrast_limits" in arguments:
        layer.contrast_limits_range = arguments["metadata"].get(RANGE) or arguments["contrast_limits"]
        layer.contrast_limits = arguments["contrast_limits"]
    layer.visible = layer.editable = True
    return layer


class PaintedMask:
    """The layer of the open case's mask.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer is added.
    desk : Desk
        What keeps the edits.
    shown : ShownCase
        The case on the desk. Its mask is shown and painted on, not copied.
    layer : Labels, optional
        A layer to show it in; by default one is added.
    changed : callable
        Told after every edit.
    told : callable
        Told in a sentence why a stroke was taken back.

    Attributes
    ----------
    limits : tuple of float or None
        Only intensities between these are painted.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        desk: Desk,
        shown: ShownCase,
        *,
        layer: Labels | None = None,
        changed: Callable[[], None] = lambda: None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.layer: Labels = shown_in(viewer, shown.mask, layer)
        case = shown.case
        if not np.shares_memory(self.layer.data, case.mask):  # pragma: no cover - edits would go astray
            raise OutputError("napari copied the mask", where=case.case.id, remedy="Install another version of napari")
        self._desk = desk
        self._case = case
        self._changed = changed
        self._told = told
        self._kept: list[Any] = []
        self._pending: Edit | None = None
        self._mode = "pan_zoom"
        self.limits: tuple[float, float] | None = None
        self.layer.selected_label = next(iter(case.labels.ids), 1)
        self.layer.n_edit_dimensions = 2
        self.layer.events.labels_update.connect(self._on_update)
        self.layer.events.paint.connect(self._on_stroke)

    def release(self) -> None:
        """Keep no more of what happens to the layer: another case is shown in it."""
        self.settle()
        self.layer.mode = "pan_zoom"
        self.layer.editable = False
        self.layer.events.labels_update.disconnect(self._on_update)
        self.layer.events.paint.disconnect(self._on_stroke)

    def hold(self, *, is_held: bool) -> None:
        """Let nobody paint while something is done to the mask elsewhere; the brush comes back afterwards."""
        if is_held:
            self._mode = str(self.layer.mode)
        self.layer.editable = not is_held
        if not is_held:
            self.layer.mode = self._mode

    def refresh(self) -> None:
        """Show what was done to the mask elsewhere."""
        self.layer.refresh()
        self._changed()

    def show_largest_slice(self, viewer: ViewerModel) -> None:
        """Go to where the mask is largest, more or less, or to the middle of the scan where it is empty."""
        shown = self.layer.data
        step = max(1, len(shown) // _LOOKED_AT)
        sizes = np.array([np.count_nonzero(slice_yx) for slice_yx in shown[::step]])
        index = int(sizes.argmax()) * step if sizes.any() else len(shown) // 2
        viewer.dims.set_point(viewer.dims.ndim - 3, self.layer.data_to_world((index, 0, 0))[0])

    def undo(self) -> bool:
        """Take the last edit back; tell whether there was one."""
        return self._stepped(self._desk.undo() is not None)

    def redo(self) -> bool:
        """Make the last edit taken back again; tell whether there was one."""
        return self._stepped(self._desk.redo() is not None)

    def _stepped(self, is_done: bool) -> bool:  # noqa: FBT001 - what undo and redo have in common
        if is_done:
            self.refresh()
        return is_done

    @property
    def is_painting(self) -> bool:
        """Whether the mouse button is held in the middle of a stroke."""
        return bool(getattr(self.layer, "_staged_history", ()))

    def settle(self) -> None:
        """Bring the journal in line with the mask: some strokes are told of early, and those given up not at all."""
        self._finish_pending()
        self._keep(list(getattr(self.layer, "_staged_history", ())))

    def _on_update(self, event: Any = None) -> None:
        """Keep what a stroke has painted so far; napari tells of it when the button is let go."""
        self.settle()

    def _keep(self, atoms: list[Any]) -> None:
        """Keep the part of a stroke that is not kept yet; what was kept of one given up is taken back."""
        goes_on = len(atoms) >= len(self._kept) and all(a is b for a, b in zip(self._kept, atoms, strict=False))
        if not goes_on:
            self._desk.keep(as_it_is(self._kept, mask=self._case.mask, shown=self.layer.data), is_open=False)
            self._kept = []
        new = atoms[len(self._kept) :]
        if new:
            self._desk.keep(self._edit(new))
        self._kept = atoms

    def _on_stroke(self, event: Any) -> None:
        """Take a whole stroke as one edit, once the mask holds it."""
        self._finish_pending()
        atoms = list(event.value)
        self._keep(atoms)
        self._kept = []
        edit = self._edit(atoms)
        if np.array_equal(self._case.mask.reshape(-1)[edit.indices], edit.after):
            self._finish(edit)
        else:  # a polygon
            self._pending = edit

    def _finish_pending(self) -> None:
        if self._pending is not None:
            edit, self._pending = self._pending, None
            self._finish(edit)

    def _finish(self, edit: Edit) -> None:
        unknown = np.setdiff1d(edit.after, [0, *self._case.labels.ids])
        if len(unknown):
            self._take_back(edit.inverse())
            names = ", ".join(f"{label.id} ({label.name})" for label in self._case.labels)
            self._told(f"The label {unknown[0]} is none of the mask's, and nothing was painted; choose one of {names}.")
            return
        if self.limits is not None:
            edit, back = within(edit, image_zyx=self._case.scan.array[0], low=self.limits[0], high=self.limits[1])
            self._take_back(back)
        self._desk.edit(edit, is_made=True, is_kept=True)
        self._forget()
        self._changed()

    def _take_back(self, back: Edit) -> None:
        back.apply(self._case.mask)
        self._desk.keep(back, is_open=False)
        self._forget()
        self.layer.refresh()

    def _edit(self, atoms: list[Any]) -> Edit:
        return edit_of(atoms, mask=self._case.mask, shown=self.layer.data)

    def _forget(self) -> None:
        """Let napari forget its own list of strokes: the desk's is bounded in bytes, and knows of the tools."""
        for name in ("_undo_history", "_redo_history"):
            history = getattr(self.layer, name, None)
            if history is not None:
                history.clear()
