"""What is done in the background: a model loaded, a scan segmented, probabilities laid over it. No Qt, no viewer.

A `Task` holds everything a run needs when it begins: the voxels, their place and what the mask will belong to. What a
person opens, moves, switches to or deletes meanwhile cannot misplace its result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medseg.progress import Step
from medseg.volume import Segmentation, id_type
from napari_plugin.bridge import labels_layer, overlay_layer, stacked
from napari_plugin.measures import rows_of
from napari_plugin.preview import Preview

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Box
    from medseg.inference import Result, Segmenter
    from medseg.labels import Label
    from medseg.volume import Volume
    from napari_plugin.bridge import LayerData
    from napari_plugin.measures import Row
    from napari_plugin.source import Source


class Desk(Protocol):
    """Where work reports its steps (raises `Cancelled` where it is to stop) and hands out parts of its result."""

    def __call__(self, step: Step, /) -> None:
        """Report."""

    def hand(self, part: Any) -> None:
        """Hand out."""


@dataclass(frozen=True, slots=True)
class Choices:
    """How a model is run.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda``.
    mirrored : bool
        Predict each window mirrored, too.
    fast : bool
        On a coarser grid, with worse masks.
    """

    device: str = "auto"
    mirrored: bool = False
    fast: bool = False


PLAIN = Choices()


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory, and the choices it was loaded with."""

    folder: Path
    segmenter: Segmenter
    choices: Choices


@dataclass(frozen=True, eq=False)
class Task:
    """One run, complete.

    Attributes
    ----------
    name : str
        Of the mask.
    scans : tuple of Volume
        The scan, or one for each channel of the model.
    source : Source
        What the mask belongs to.
    region : Box or None
        Where to segment, in the scan's voxels.
    choices : Choices
    """

    name: str
    scans: tuple[Volume, ...]
    source: Source
    region: Box | None = None
    choices: Choices = PLAIN


@dataclass(frozen=True, eq=False)
class Shown:
    """The layer of a mask, growing or finished; `number` tells one run's from another's."""

    number: int
    layer: LayerData


@dataclass(frozen=True, eq=False)
class Finished:
    """What a run gave."""

    number: int
    task: Task
    result: Result
    layer: LayerData
    rows: tuple[Row, ...]


def loaded(folder: Path, choices: Choices, desk: Desk) -> Loaded:
    """Return the model in a folder, ready to run; torch is imported here, at the earliest.

    Raises
    ------
    ModelError
        Where the folder is damaged, or the device is not to be had.
    """
    desk(Step("load"))
    from medseg.inference import Segmenter

    segmenter = Segmenter.load(folder, device=choices.device, mirrored=choices.mirrored)
    desk(Step("load", 1, 1))
    return Loaded(folder, segmenter, choices)


def segmented(number: int, task: Task, model: Loaded, desk: Desk) -> tuple[Finished, Loaded]:
    """Do a run, in the background's thread; return its model too, which is loaded anew where the choices ask for it."""
    if _needs_load(model.choices, task.choices):
        model = loaded(model.folder, task.choices, desk)
    segmenter = model.segmenter.fast() if task.choices.fast else model.segmenter
    desk(Step("prepare"))
    volume = stacked(task.scans)
    labels = segmenter.plan.labels
    preview = Preview(volume.geometry, id_type(labels), task.region)
    layer = labels_layer(Segmentation(preview.array, volume.geometry, labels), name=task.name, of=task.source)

    def grow(slab: Segmentation) -> None:
        preview.add(slab)
        desk.hand(Shown(number, layer))

    result = segmenter.segment(volume, region=task.region, progress=desk, on_slab=grow)
    desk(Step("measure"))
    rows = rows_of(result.segmentation)
    np.copyto(preview.array, result.segmentation.array)
    mask = Segmentation(preview.array, volume.geometry, labels)
    return Finished(number, task, replace(result, segmentation=mask), layer, rows), model


def _needs_load(now: Choices, wanted: Choices) -> bool:
    return (now.device, now.mirrored) != (wanted.device, wanted.mirrored)


def overlaid(task: Task, label: Label | None, model: Loaded, desk: Desk) -> LayerData:
    """Return the layer of a label's probability, or without a label of how unsure the model is, in percent.

    Unsure is what the largest probability leaves: 1 minus it. Neither is calibrated unless the model's card says so.
    """
    segmenter = model.segmenter.fast() if task.choices.fast else model.segmenter
    volume = stacked(task.scans)
    chances = segmenter.probabilities(volume, progress=desk)
    number = None if label is None else 1 + segmenter.plan.labels.ids.index(label.id)
    percent = np.empty(volume.geometry.shape, np.uint8)
    for z, plane_yx in enumerate(percent):
        plane_yx[...] = _percent(chances.array[:, z], number)
    name = f"{'uncertainty' if label is None else f'probability of {label.name}'}, {task.name}"
    return overlay_layer(percent, volume.geometry, name=name)


def _percent(chances_kyx: NDArray[np.float32], number: int | None) -> NDArray[np.float32]:
    wanted = 1.0 - chances_kyx.max(axis=0) if number is None else chances_kyx[number]
    rounded: NDArray[np.float32] = np.rint(100.0 * wanted)
    return rounded
