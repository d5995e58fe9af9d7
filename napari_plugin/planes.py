"""The planes a person looks at: axial with the patient's right on the left, coronal and sagittal head up. No Qt.

napari draws its second last dimension downwards. For axial slices that is right (posterior is below); in coronal and
sagittal ones it would turn the patient head down. In 3-D, its own default shows LPS as in a mirror: z, drawn out of the
screen, makes left of right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.components.camera import Camera

Plane = Literal["axial", "coronal", "sagittal"]
ORDERS: dict[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
PLANE = "medseg_plane"
"""The key in a layer's metadata under which the plane of its slices stands."""
RANGE = "medseg_range"
"""The key under which the ends of its contrast slider stand, which napari takes from the window otherwise."""


def keep_upright(viewer: ViewerModel) -> None:
    """See that slices stand upright whatever plane is shown, and that the first layer is shown in its own plane.

    Calling it twice for one viewer changes nothing.

    Examples
    --------
    >>> from napari.components import ViewerModel
    >>> viewer = ViewerModel(ndisplay=2, order=())
    >>> keep_upright(viewer)
    >>> _ = viewer.add_points([[1.0, 2.0, 3.0]])
    >>> show_plane(viewer, "coronal")
    >>> [str(direction) for direction in camera_of(viewer).orientation2d]
    ['up', 'right']
    """
    if any(isinstance(callback, _Turn) for callback in viewer.dims.events.order.callbacks):
        return
    turn = _Turn(viewer)
    viewer.dims.events.order.connect(turn)
    viewer.dims.events.ndisplay.connect(turn)
    viewer.layers.events.inserted.connect(_TakeLayer(viewer))
    turn()


def camera_of(viewer: ViewerModel) -> Camera:
    """Return a viewer's camera, which napari 0.9 moved."""
    camera: Camera = getattr(viewer, "scene", viewer).camera
    return camera


def show_plane(viewer: ViewerModel, plane: Plane) -> None:
    """Show axial, coronal or sagittal slices."""
    offset = viewer.dims.ndim - 3
    viewer.dims.order = (*range(offset), *(axis + offset for axis in ORDERS[plane]))
    viewer.reset_view()


def directions_of(order: Sequence[int]) -> tuple[str, str, str]:
    """Return where the axes drawn into the screen, down and across it run, so that nobody's left is on the right.

    Parameters
    ----------
    order : sequence of int
        The last dimensions of the viewer as they are drawn: z, y, x by rising number. z goes up, others go down.

    Examples
    --------
    >>> directions_of((0, 1, 2)), directions_of((2, 0, 1))
    (('away', 'down', 'right'), ('towards', 'up', 'right'))
    """
    if len(order) < 3:
        return "away", "down", "right"
    is_odd = sum(a > b for n, a in enumerate(order) for b in order[n + 1 :]) % 2 == 1
    is_up = order[1] == min(order)
    return "away" if is_odd == is_up else "towards", "up" if is_up else "down", "right"


class _Turn:
    """Turns the camera by the dimension drawn downwards. An object, as napari holds methods weakly."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer

    def __call__(self, event: Any = None) -> None:
        """Take note of a change."""
        camera, wanted = camera_of(self._viewer), directions_of(self._viewer.dims.order[-3:])
        if tuple(str(direction) for direction in camera.orientation) != wanted:
            camera.orientation = wanted


class _TakeLayer:
    """Shows the first layer's own plane, and lets a window be widened."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer

    def __call__(self, event: Any) -> None:
        """Take note of a new layer."""
        plane, ends = (event.value.metadata.get(key) for key in (PLANE, RANGE))
        if ends is not None and hasattr(event.value, "contrast_limits_range"):
            event.value.contrast_limits_range = ends
        if len(self._viewer.layers) == 1 and plane in ORDERS and self._viewer.dims.ndim == 3:
            show_plane(self._viewer, plane)
