"""What a layer shows: the scan or mask behind it, its grid in the patient, and whether the layer is still where it was.

No Qt. A layer that medseg made carries a `Source` in its metadata; of any other layer one is made from its own place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from napari_plugin.display import Display

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray

    from medseg.io.dicom import SourceSeries
    from medseg.labels import LabelSet

KEY = "medseg"
"""The key in a layer's metadata under which its `Source` stands."""

_MOVED_MM = 1e-2
_NO_LENGTH = {"pixel", "dimensionless", ""}


@dataclass(frozen=True, eq=False)
class Source:
    """The scan or mask a layer shows.

    Attributes
    ----------
    name : str
        What it is called: a file's name or a series' id, never a patient's.
    geometry : Geometry
        The grid of its array, before it was turned to be shown.
    modality : str
        DICOM's word; empty where nothing says it.
    series : SourceSeries or None
        The DICOM series it is, or was made from.
    labels : LabelSet or None
        Of a mask: what its values mean.
    """

    name: str
    geometry: Geometry
    modality: str = ""
    series: SourceSeries | None = field(default=None, repr=False)
    labels: LabelSet | None = None

    @property
    def display(self) -> Display:
        """How its grid is shown."""
        return Display(self.geometry)


def source_of(layer: Layer) -> Source:
    """Return what an image or labels layer shows.

    Raises
    ------
    GeometryError
        Where a layer of ours was moved or its array exchanged, so that nothing says where its voxels lie now; where
        another layer's place makes no grid.
    InputError
        Where the layer has neither two nor three dimensions.
    """
    source = layer.metadata.get(KEY)
    if not isinstance(source, Source):
        return Source(layer.name, _own_geometry(layer))
    display = source.display
    shape = display.view(np.broadcast_to(np.False_, source.geometry.shape)).shape
    if tuple(_spatial_shape(layer)) != shape:
        raise GeometryError(
            f"the layer has shape {_spatial_shape(layer)}",
            expected=f"{shape}, as its scan has",
            where=layer.name,
            remedy="Work on the layer that was opened, or delete 'medseg' from the layer's metadata",
        )
    if np.abs(_placement(layer) - display.affine).max() > _MOVED_MM:
        raise GeometryError(
            "the layer was moved away from its scan's place",
            where=layer.name,
            remedy="Undo the layer's scale, translation and rotation, or open the scan again",
        )
    return source


def array_of(layer: Layer, source: Source) -> NDArray[Any]:
    """Return a layer's voxels on the grid of its source, as a view."""
    data = layer.data if layer.ndim == 3 else layer.data[None]
    return source.display.unview(data)


def _spatial_shape(layer: Layer) -> tuple[int, ...]:
    shape = tuple(int(n) for n in layer.data.shape[: layer.ndim])
    return shape if layer.ndim == 3 else (1, *shape)


def _own_geometry(layer: Layer) -> Geometry:
    if layer.ndim not in {2, 3}:
        raise InputError(
            f"the layer has {layer.ndim} dimensions",
            expected="2 or 3",
            where=layer.name,
            remedy="Split it into one layer a volume",
        )
    affine = _placement(layer)
    affine[:3] = affine[2::-1]
    try:
        z, y, x = _spatial_shape(layer)
        return Geometry((z, y, x), affine)
    except GeometryError as error:
        raise error.at(layer.name) from error


def _placement(layer: Layer) -> NDArray[np.float64]:
    """Return the map (4, 4) from a layer's index to napari's world in mm; pixels count as millimetres."""
    ndim = layer.ndim
    corner = np.asarray(layer.data_to_world(np.zeros(ndim)), dtype=np.float64)[-ndim:]
    affine = np.eye(4)
    for axis in range(ndim):
        step = np.asarray(layer.data_to_world(np.eye(ndim)[axis]), dtype=np.float64)[-ndim:] - corner
        affine[3 - ndim : 3, 3 - ndim + axis] = step
    affine[3 - ndim : 3, 3] = corner
    lengths = [1.0] * (3 - ndim) + [_millimetres(unit) for unit in layer.units]
    affine[:3] *= np.array(lengths)[:, None]
    return affine


def _millimetres(unit: Any) -> float:
    if str(unit) in _NO_LENGTH:
        return 1.0
    try:
        return float((1 * unit).to("mm").magnitude)
    except (AttributeError, TypeError, ValueError) as error:
        raise GeometryError(f"the layer's unit {unit} is no length", expected="mm, cm, um or pixel") from error
