"""Volume and layer data, Segmentation and Labels layer: pure, no Qt.

Arrays are handed on as views: a scan that is shown takes no memory beside its own, and what is painted on a mask is
painted on the scan's grid. `napari_plugin.display` says where voxels are shown, `napari_plugin.source` what a layer
shows.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medseg.errors import InputError, MedsegError
from medseg.io.voxels import mask_values
from medseg.labels import Label, LabelSet, distinct_color
from medseg.volume import Segmentation, Volume, id_type, values_in
from napari_plugin.contrast import contrast_window
from napari_plugin.planes import PLANE, RANGE
from napari_plugin.source import KEY, Source, array_of, source_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels
    from napari.utils.colormaps import DirectLabelColormap
    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.io.dicom import SourceSeries

_COLOURS = ("red", "green", "blue")


class LayerData(NamedTuple):
    """What napari makes a layer of: array, keyword arguments and kind."""

    array: Any
    arguments: dict[str, Any]
    kind: str


def image_layers(
    volume: Volume, *, name: str, modality: str = "", series: SourceSeries | None = None
) -> list[LayerData]:
    """Return a layer for each channel of a scan; one for a colour picture.

    Parameters
    ----------
    volume : Volume
        The scan. Its array is shown, not copied.
    name : str
        What it is called.
    modality : str
        DICOM's word, where known; by default what the channels are called, where that is one.
    series : SourceSeries, optional
        The DICOM series it was read from, which a DICOM SEG of it will refer to.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> scan = Volume(np.zeros((1, 2, 3, 4), np.int16), Geometry((2, 3, 4), np.eye(4)[:, [2, 1, 0, 3]]), ("CT",))
    >>> (layer,) = image_layers(scan, name="a")
    >>> layer.kind, layer.arguments["name"], layer.arguments["contrast_limits"]
    ('image', 'a', (-160.0, 240.0))
    """
    if volume.channels == _COLOURS and volume.array.dtype == np.uint8:
        source = Source(name, volume.geometry)
        pixels = np.stack([source.display.view(channel) for channel in volume.array], axis=-1)
        return [LayerData(pixels, {**_placed(source), "rgb": True}, "image")]
    several = len(volume.channels) > 1
    layers = []
    for channel, array in zip(volume.channels, volume.array, strict=True):
        word = modality or ("" if channel.startswith("image") else channel)
        source = Source(f"{name} {channel}" if several else name, volume.geometry, word, series)
        window, ends = contrast_window(array, word)
        arguments = {**_placed(source), "contrast_limits": window, "colormap": "gray", "multiscale": False}
        arguments["metadata"][RANGE] = ends
        layers.append(LayerData(source.display.view(array), arguments, "image"))
    return layers


def labels_layer(segmentation: Segmentation, *, name: str, of: Source | None = None) -> LayerData:
    """Return the Labels layer of a mask, with its labels' names and colours.

    Parameters
    ----------
    segmentation : Segmentation
        The mask. Its array is shown and painted on; only one that cannot be written to is copied.
    name : str
        What it is called.
    of : Source, optional
        The scan it was made from.
    """
    array = segmentation.array if segmentation.array.flags.writeable else segmentation.array.copy()
    source = Source(
        name,
        segmentation.geometry,
        of.modality if of else "",
        of.series if of else None,
        segmentation.labels,
    )
    arguments = {
        **_placed(source),
        "colormap": colormap_of(segmentation.labels),
        "features": features_of(segmentation.labels),
        "opacity": 0.5,
        "multiscale": False,
    }
    return LayerData(source.display.view(array), arguments, "labels")


def overlay_layer(percent_zyx: NDArray[np.uint8], geometry: Geometry, *, name: str) -> LayerData:
    """Return the layer of numbers from 0 to 100 that is laid over a scan: what is low is dark and adds nothing."""
    source = Source(name, geometry)
    arguments = {**_placed(source), "contrast_limits": (0.0, 100.0), "colormap": "magma", "blending": "additive"}
    return LayerData(source.display.view(percent_zyx), {**arguments, "multiscale": False}, "image")


def colormap_of(labels: LabelSet) -> DirectLabelColormap:
    """Return the colours of a label set as napari takes them; ids that are not in it get one that stands out."""
    from napari.utils.colormaps import DirectLabelColormap

    colours: defaultdict[int | None, Any] = defaultdict(lambda: np.array([1.0, 0.0, 1.0, 1.0]))
    colours[None] = np.array([1.0, 0.0, 1.0, 1.0])
    colours[0] = np.zeros(4)
    for label in labels:
        colours[label.id] = np.array([*(c / 255 for c in label.color), 1.0])
    return DirectLabelColormap(color_dict=colours)


def features_of(labels: LabelSet) -> dict[str, list[Any]]:
    """Return what napari's status line says of each value: `index` and `name`.

    Examples
    --------
    >>> features_of(LabelSet.from_names({2: "liver"}))
    {'index': [0, 2], 'name': ['background', 'liver']}
    """
    return {"index": [0, *labels.ids], "name": ["background", *labels.names]}


def scans_of(layers: Sequence[Image]) -> tuple[Volume, ...]:
    """Return the scans that layers show, as views: quick, whatever their size. See `stacked` for making one of them.

    Raises
    ------
    GeometryError
        Where a layer is no longer where its scan is.
    InputError
        Where there is no layer, or its values are no numbers.
    """
    if not layers:
        raise InputError("no image was chosen", expected="an image layer")
    return tuple(_colours(layer) if layer.rgb else _channel(layer) for layer in layers)


def stacked(scans: Sequence[Volume]) -> Volume:
    """Return one scan whose channels are those of several, put onto the first one's grid."""
    first = scans[0]
    if len(scans) == 1:
        return first
    from medseg.resample import resample

    others = [s if s.geometry.same_grid(first.geometry) else resample(s, onto=first.geometry) for s in scans[1:]]
    array = np.concatenate([s.array for s in (first, *others)])
    return Volume(array, first.geometry, tuple(str(i) for i in range(len(array))))


def volume_of(layers: Sequence[Image]) -> Volume:
    """Return the scan that layers show, one channel each; further ones are put onto the first one's grid.

    Raises
    ------
    GeometryError, InputError
        As `scans_of`.
    """
    return stacked(scans_of(layers))


def segmentation_of(layer: Labels) -> Segmentation:
    """Return the mask a Labels layer shows, on its scan's own grid; values without a name get one.

    Raises
    ------
    GeometryError
        Where the layer is no longer where its scan is.
    InputError
        Where values are no label ids.
    """
    source = source_of(layer)
    try:
        array = mask_values(array_of(layer, source))
    except InputError as error:
        raise error.at(layer.name) from error
    labels = with_values(source.labels or _named_by_features(layer), values_in(array))
    return Segmentation(array.astype(id_type(labels), copy=False), source.geometry, labels)


def with_values(labels: LabelSet | None, values: Sequence[int]) -> LabelSet:
    """Return a label set that has every value of a mask.

    Examples
    --------
    >>> with_values(LabelSet.from_names({1: "liver"}), (0, 1, 7)).names
    ('liver', 'label_7')
    """
    known = tuple(labels) if labels else ()
    ids = {label.id for label in known}
    new = [Label(v, f"label_{v}", distinct_color(v)) for v in values if v and v not in ids]
    return LabelSet((*known, *new))


def _channel(layer: Image) -> Volume:
    source = source_of(layer)
    array = array_of(layer, source)
    if array.dtype.kind not in "iuf":
        raise InputError(f"the voxels are of type {array.dtype}", expected="numbers", where=layer.name)
    return Volume(array[None], source.geometry, (source.modality or "image",))


def _colours(layer: Image) -> Volume:
    source = source_of(layer)
    channels = [source.display.unview(layer.data[..., i].reshape(_three(layer))) for i in range(len(_COLOURS))]
    return Volume(np.stack(channels), source.geometry, _COLOURS)


def _three(layer: Image) -> tuple[int, ...]:
    return tuple(layer.data.shape[:3]) if layer.ndim == 3 else (1, *layer.data.shape[:2])


def _named_by_features(layer: Labels) -> LabelSet | None:
    """Return the names in the features of a layer that is not ours, where they make a label set."""
    table = layer.features
    if "index" not in table or "name" not in table:
        return None
    try:
        return LabelSet.from_names({int(i): str(name) for i, name in zip(table["index"], table["name"], strict=True)})
    except (ValueError, TypeError, MedsegError):
        return None


def _placed(source: Source) -> dict[str, Any]:
    metadata: dict[str, Any] = {KEY: source, PLANE: source.geometry.orientation}
    if source.display.note:
        metadata["note"] = source.display.note
    return {
        "name": source.name,
        "affine": source.display.affine,
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
        "metadata": metadata,
    }
