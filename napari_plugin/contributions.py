"""What the manifest points at: reader, writers and sample data. Imports Qt only where a window is there to ask in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.io import write_segmentation
from napari_plugin.bridge import image_layers, labels_layer, segmentation_of
from napari_plugin.opening import may_be_ours, open_paths
from napari_plugin.planes import keep_upright
from napari_plugin.source import source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.phantom import Phantom
    from medseg.progress import Step
    from napari_plugin.bridge import LayerData
    from napari_plugin.opening import Offer

Paths = str | list[str]
_SAMPLE_SEED = 7
_SAMPLE_MM = (4.0, 2.5, 2.5)


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Return the reader of a file, of several or of a folder; None where nothing is ours to open."""
    paths = [Path(p) for p in ([path] if isinstance(path, str) else path)]
    return read if paths and all(may_be_ours(p) for p in paths) else None


def read(path: Paths) -> list[LayerData]:
    """Return the layers of files or of a folder; in a window, a dialog asks which of several series.

    Raises
    ------
    InputError
        Where nothing can be opened; the sentence says why.
    """
    from napari.utils import progress

    paths = [Path(p) for p in ([path] if isinstance(path, str) else path)]
    _prepare_viewer()
    with progress(total=0, desc=f"Reading {paths[0].name}") as bar:

        def tell(step: Step) -> None:
            if step.total and bar.total != step.total:
                bar.reset(total=step.total)
            bar.n = step.done - 1
            bar.update()

        layers = open_paths(paths, choose=_dialog(), progress=tell)
    _say_notes(layers)
    return layers or [(None,)]  # type: ignore[list-item]  # napari's word for: ours, and nothing was chosen


def write_mask(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Labels layer on its scan's own grid, in the format the name ends in.

    Raises
    ------
    GeometryError, InputError, OutputError
        Where the layer was moved, or the file cannot be written.
    """
    write_segmentation(segmentation_of(_as_layer(data, attributes)), Path(path))
    return [path]


def write_dicom_seg(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Labels layer as DICOM SEG of the series it was made from.

    Raises
    ------
    InputError
        Where the layer does not know its series, or that cannot be referred to.
    OutputError
        Where the file cannot be written.
    """
    from medseg.io.dicom import write_seg

    layer = _as_layer(data, attributes)
    source = source_of(layer)
    if source.series is None:
        raise InputError(
            "the mask was not made from a DICOM series that medseg opened",
            expected="a mask from the Segment dock on a DICOM scan",
            where=layer.name,
            remedy="Save it as NIfTI instead",
        )
    write_seg(segmentation_of(layer), Path(path), source=source.series)
    return [path]


def sample_ct() -> list[LayerData]:
    """Return a generated torso CT and its truth."""
    from medseg.phantom import torso_ct

    return _sample(torso_ct(_SAMPLE_SEED, spacing_mm=_SAMPLE_MM), "torso CT")


def sample_mr() -> list[LayerData]:
    """Return a generated head MR and its truth."""
    from medseg.phantom import head_mr

    return _sample(head_mr(_SAMPLE_SEED), "head MR")


def _sample(phantom: Phantom, name: str) -> list[LayerData]:
    _prepare_viewer()
    return [*image_layers(phantom.volume, name=name), labels_layer(phantom.segmentation, name=f"{name} truth")]


def _as_layer(data: Any, attributes: dict[str, Any]) -> Any:
    from napari.layers import Layer

    return Layer.create(data, attributes, "labels")


def _prepare_viewer() -> None:
    """See that the window there is, if any, shows slices upright."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        keep_upright(viewer)


def _dialog() -> Callable[[Sequence[Offer]], Sequence[Offer]] | None:
    """Return who asks a person; None without a window."""
    import napari

    if napari.current_viewer() is None:
        return None
    from napari_plugin.chooser import choose

    return choose


def _say_notes(layers: Sequence[LayerData]) -> None:
    from napari.utils.notifications import show_info

    for layer in layers:
        note = layer.arguments["metadata"].get("note")
        if note:
            show_info(f"{layer.arguments['name']} is {note}.")
