"""The mask on the desk as a Labels layer: every stroke is kept while it is painted, and undone by the desk. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medseg.errors import OutputError
from medseg.volume import Segmentation
from napari_plugin.bridge import image_layers, labels_layer
from napari_plugin.planes import RANGE
from napari_plugin.strokes import edit_of, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Labels

    from medseg.review import Desk, OpenCase
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
        add = viewer.add_labels if made.kind == "labels" else viewer.add_image
        return add(made.array, **arguments)
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
    case : OpenCase
        The case on the desk. Its mask is shown and painted on, not copied.
    made : LayerData
        The layer of its mask.
    layer : Labels, optional
        A layer to show it in; by default one is added.
    changed : callable
        Told after every edit.

    Attributes
    ----------
    limits : tuple of float or None
        Only intensities between these are painted.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        desk: Desk,
        case: OpenCase,
        *,
        made: LayerData,
        layer: Labels | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.layer: Labels = shown_in(viewer, made, layer)
        if not np.shares_memory(self.layer.data, case.mask):  # pragma: no cover - edits would go astray
            raise OutputError("napari copied the mask", where=case.case.id, remedy="Install another version of napari")
        self._desk = desk
        self._case = case
        self._changed = changed
        self._kept: list[Any] = []
        self.limits: tuple[float, float] | None = None
        self.layer.selected_label = next(iter(case.labels.ids), 1)
        self.layer.n_edit_dimensions = 2
        self.layer.events.labels_update.connect(self._on_update)
        self.layer.events.paint.connect(self._on_stroke)

    def release(self) -> None:
        """Keep no more of what happens to the layer: another case is shown in it."""
        self.layer.mode = "pan_zoom"
        self.layer.editable = False
        self.layer.events.labels_update.disconnect(self._on_update)
        self.layer.events.paint.disconnect(self._on_stroke)

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

    def _on_update(self, event: Any = None) -> None:
        """Keep what the stroke has painted so far; napari tells of it when the button is let go."""
        staged = list(getattr(self.layer, "_staged_history", ()))
        if len(staged) < len(self._kept):  # the stroke was given up, and napari took it back
            self._desk.keep(self._edit(self._kept, everywhere=True))
            self._kept = []
        new = staged[len(self._kept) :]
        if new:
            self._desk.keep(self._edit(new))
            self._kept = staged

    def _on_stroke(self, event: Any) -> None:
        """Take a whole stroke as one edit that can be undone."""
        atoms = list(event.value)
        rest = atoms[len(self._kept) :]
        if rest:
            self._desk.keep(self._edit(rest))
        self._kept = []
        edit = self._edit(atoms)
        if self.limits is not None:
            edit, back = within(edit, image_zyx=self._case.scan.array[0], low=self.limits[0], high=self.limits[1])
            back.apply(self._case.mask)
            self._desk.keep(back)
            self.layer.refresh()
        self._desk.edit(edit, is_made=True, is_kept=True)
        self._forget()
        self._changed()

    def _edit(self, atoms: list[Any], *, everywhere: bool = False) -> Any:
        return edit_of(atoms, mask=self._case.mask, shown=self.layer.data, everywhere=everywhere)

    def _forget(self) -> None:
        """Let napari forget its own list of strokes: the desk's is bounded in bytes, and knows of the tools."""
        for name in ("_undo_history", "_redo_history"):
            history = getattr(self.layer, name, None)
            if history is not None:
                history.clear()
