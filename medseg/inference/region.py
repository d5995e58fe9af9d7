"""Where a network looks: at the whole scan, the body's box, where a coarse pass found something, or within a mask.

A region is a box of the scan's voxels. The network sees half a patch around it; outside it the mask is background.
Every way to find one leads to `Segmenter.segment` with that region, and to the same mask as giving the box by hand.

* *body*: a threshold on a few of the voxels. Where it saves no window, the whole scan is looked at.
* *coarse*: the same networks on a grid `COARSER` times as coarse. Where they find nothing, or what they find saves no
  window, the whole scan is looked at.
* *within*: another model, such as one of the organ that a lesion lies in. Only the box of its labels counts, not their
  shape. Where it finds nothing there is nowhere to look: the mask is background, with the flag ``nothing-within``.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy import ndimage

from medseg.errors import ModelError
from medseg.geometry import Box
from medseg.preprocess import working_grid
from medseg.progress import Step
from medseg.selection import DICOM_WORDS
from medseg.tiling import window_count
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.inference.segmenter import Segmenter
    from medseg.plan import Plan
    from medseg.progress import Progress

Look = Literal["whole", "body", "coarse"]

COARSER = 3.0
"""How much coarser the grid of a first pass is along each axis: a twenty-seventh of the windows in 3-D."""
MARGIN_MM = 20.0
"""Kept around what a first pass or another model found: four voxels of a first pass at 1.5 mm."""

_AIR_HU = -500.0  # halfway from air to water
_SAMPLE_MM = 4.0  # between the voxels that are looked at for the body
_BODY_MARGIN_MM = 10.0  # skin and what is dark under it
_DUST = 0.01  # of the largest piece's core, within pieces; arms and second legs are more
_DARK = 0.1  # of the way from the 2nd to the 98th percentile (Smith 2002)
_MR = re.compile(r"(MR|T1|T2|PD|FLAIR|DWI)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Within:
    """Another model, the box of whose labels is where a model looks.

    Parameters
    ----------
    segmenter : Segmenter
        The other model, with how it computes and where it looks itself.
    ids : tuple of int
        The labels that count.
    channels : tuple of int
        Which of the scan's channels the other model takes.
    """

    segmenter: Segmenter
    ids: tuple[int, ...]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, segmenter: Segmenter, names: Sequence[str], *, channels: Sequence[str]) -> Within:
        """Return what `names` mean to a segmenter, without any all of its labels, for scans with these channels.

        Raises
        ------
        ModelError
            Where it has no such label, or takes a channel that the scans do not have.
        """
        labels = segmenter.plan.labels
        unknown = next((name for name in names if name not in labels.names), None)
        if unknown is not None:
            raise ModelError(
                f"the model to look within has no label {unknown!r}", expected=f"some of {', '.join(labels.names)}"
            )
        ids = tuple(labels.by_name(name).id for name in names) or tuple(labels.ids)
        return cls(segmenter, ids, tuple(_place_of(name, channels) for name in segmenter.plan.channels))

    def box(self, volume: Volume, progress: Progress) -> Box | None:
        """Return the box of the labels in a scan, `MARGIN_MM` around them; None where there are none."""
        mask = self.segmenter.segment(self._taken(volume), progress=progress).segmentation
        extent = Extent(mask.geometry.shape)
        for z, labels_yx in enumerate(mask.array):
            extent.add(z, np.isin(labels_yx, self.ids)[None])
        return None if extent.box is None else _with_margin(mask.geometry.crop(extent.box), volume.geometry)

    def to_json(self) -> dict[str, Any]:
        """Return what a mask depends on: the other model, its labels, how it computes and where it looks."""
        one = self.segmenter
        names = [label.name for label in one.plan.labels if label.id in self.ids]
        about = {} if one.model is None else {"name": one.model.card.name, "sha256": one.model.sha256}
        further = one.sight.within
        return {
            **about,
            "labels": names,
            "numeric_path": one.path.to_json(),
            **({"tta": True} if one.is_mirrored else {}),
            **({"fast": True} if one.is_fast else {}),
            **({} if one.plan.infer.crf is None else {"crf": one.plan.infer.crf.model_dump(mode="json")}),
            **({} if further is None else {"within": further.to_json()}),
        }

    def _taken(self, volume: Volume) -> Volume:
        first, count = self.channels[0], len(self.channels)
        in_a_row = self.channels == tuple(range(first, first + count))
        array = volume.array[first : first + count] if in_a_row else volume.array[list(self.channels)]
        return Volume(array, volume.geometry, self.segmenter.plan.channels)


@dataclass(frozen=True, slots=True)
class Sight:
    """How it is found where to look: with `within` that model looks as `look` says, and this one within its labels."""

    look: Look = "whole"
    within: Within | None = None


class Found(NamedTuple):
    """Where to look (None: everywhere), whether there is nowhere, and the seconds it took to find out."""

    region: Box | None = None
    is_nowhere: bool = False
    seconds: float | None = None


class Extent:
    """The smallest box around what is found, slices at a time.

    Examples
    --------
    >>> extent = Extent((4, 3, 3))
    >>> extent.add(1, np.eye(3, dtype=bool)[None, :2])
    >>> extent.box
    Box(start=(1, 0, 0), stop=(2, 2, 2))
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._first: list[int] = list(shape)
        self._stop = [0, 0, 0]

    def add(self, start: int, is_found_zyx: NDArray[np.bool_]) -> None:
        """Take note of slices, the first of which has the index `start`."""
        for axis, offset in enumerate((start, 0, 0)):
            others = tuple(other for other in range(3) if other != axis)
            hits = np.flatnonzero(is_found_zyx.any(axis=others)) + offset
            if len(hits):
                self._first[axis] = min(self._first[axis], int(hits[0]))
                self._stop[axis] = max(self._stop[axis], int(hits[-1]) + 1)

    @property
    def box(self) -> Box | None:
        """None where nothing was found."""
        return Box(_three(self._first), _three(self._stop)) if self._stop[0] else None


def find_region(segmenter: Segmenter, volume: Volume, *, progress: Progress) -> Found:
    """Return where a segmenter looks in a scan, as its `sight` says.

    Parameters
    ----------
    segmenter : Segmenter
        Whose networks will look there.
    volume : Volume
        The scan.
    progress : Progress
        Told stage ``look``, per batch of windows where a network looks first; raises `Cancelled` to stop.

    Raises
    ------
    InputError
        Where a first pass does not fit into the memory allowed (code ``memory``), or the scan is none for it.
    """
    sight, report, started = segmenter.sight, _as_look(progress), time.perf_counter()
    if len(volume.array) != len(segmenter.plan.channels):
        return Found()  # which is refused when it is prepared
    if sight.within is not None:
        box = sight.within.box(volume, report)
        words = "found nothing to look within"
    elif sight.look == "whole":
        return Found()
    else:
        found = _body(segmenter, volume) if sight.look == "body" else _coarse(segmenter, volume, report)
        box = found if found is not None and _is_saving(segmenter, volume.geometry, found) else None
        words = "looks at the whole scan"
    report(Step("look", message=words if box is None else f"looks at {' x '.join(map(str, box.shape))} voxels"))
    return Found(box, sight.within is not None and box is None, time.perf_counter() - started)


def body_box(volume: Volume, channels: Sequence[str]) -> Box | None:
    """Return the box of the body in a scan; None where nothing tells body from air.

    Body is what exceeds -500 HU in the channel that is CT, or, where all channels are MR, a tenth of the way from the
    2nd to the 98th percentile in any of them: the threshold between head and background of Smith (2002, Human Brain
    Mapping 17:143, "BET", section on estimating the intensity). Voxels some 4 mm apart are looked at. A piece
    is body where it is thicker than two of them somewhere, which the shells of a table are not, and no dust beside the
    largest piece; a table that touches the body stays. The box is 10 mm larger on every side.

    Parameters
    ----------
    volume : Volume
        The scan, HU where it is CT.
    channels : sequence of str
        What its channels are, as the plan names them.

    Returns
    -------
    Box or None
        In the scan's voxels.

    Examples
    --------
    >>> from medseg.phantom import torso_ct
    >>> torso = torso_ct(7, spacing_mm=(12, 9, 9)).volume
    >>> body_box(torso, ["CT"]).shape <= torso.geometry.shape
    True
    """
    kinds = [_kind(name) for name in channels]
    seen = [kinds.index("CT")] if "CT" in kinds else [c for c, kind in enumerate(kinds) if kind == "MR"]
    if not seen or ("CT" not in kinds and len(seen) < len(kinds)):
        return None
    spacing, shape = volume.geometry.spacing_mm, volume.geometry.shape
    steps = [max(1, int(_SAMPLE_MM // mm)) for mm in spacing]
    view_czyx = volume.array[:, :: steps[0], :: steps[1], :: steps[2]]
    is_body = np.zeros(view_czyx.shape[1:], dtype=bool)
    for channel in seen:
        is_body |= view_czyx[channel] > (_AIR_HU if "CT" in kinds else _dark_below(view_czyx[channel]))
    found = _main_pieces(is_body)
    if found is None:
        return None
    margin = [math.ceil(_BODY_MARGIN_MM / mm) for mm in spacing]  # beyond the samples next to those that are body
    start = [max(0, (a - 1) * step + 1 - m) for a, step, m in zip(found.start, steps, margin, strict=True)]
    stop = [min(n, b * step + m) for b, step, m, n in zip(found.stop, steps, margin, shape, strict=True)]
    return Box(_three(start), _three(stop))


def seen_box(target: Geometry, working: Geometry, plan: Plan) -> Box:
    """Return the voxels of the working grid that a network sees for a region: half a patch around it, as far as any."""
    return box_around(target, working, margin=[n // 2 for n in plan.train.patch_size])


def box_around(target: Geometry, grid: Geometry, *, margin: Sequence[int]) -> Box:
    """Return the voxels of a grid that cover `target` and `margin` voxels more, as far as there are any.

    The grids may be oblique to each other: the box covers all of the target's corners.
    """
    faces = [[-0.5, n - 0.5] for n in target.shape]
    corners = grid.to_index(target.to_lps(np.stack(np.meshgrid(*faces, indexing="ij"), axis=-1).reshape(-1, 3)))
    low = np.floor(corners.min(axis=0)).astype(int) - np.array(margin)
    high = np.ceil(corners.max(axis=0)).astype(int) + np.array(margin) + 1
    start = [max(0, min(int(a), n - 1)) for a, n in zip(low, grid.shape, strict=True)]
    stop = [max(1, min(int(b), n)) for b, n in zip(high, grid.shape, strict=True)]
    return Box(_three(start), _three(stop))


def _body(segmenter: Segmenter, volume: Volume) -> Box | None:
    """Return the body's box; of a model that crops scans itself, none, as it would not be that model any more."""
    first = segmenter.plan.preprocess.scan_first
    return body_box(volume, segmenter.plan.channels) if first is None else None


def _coarse(segmenter: Segmenter, volume: Volume, report: Progress) -> Box | None:
    """Return the box of what the networks find on a coarse grid, unless looking there takes as many windows."""
    rough = segmenter.rough()
    whole = working_grid(volume.geometry, segmenter.plan).shape
    if window_count(working_grid(volume.geometry, rough.plan).shape, rough.tiling) >= window_count(
        whole, segmenter.tiling
    ):
        return None
    extent = rough.extent(volume, progress=report)
    return None if extent is None else _with_margin(extent, volume.geometry)


def _is_saving(segmenter: Segmenter, scan: Geometry, region: Box) -> bool:
    working = working_grid(scan, segmenter.plan)
    seen = seen_box(scan.crop(region), working, segmenter.plan)
    return window_count(seen.shape, segmenter.tiling) < window_count(working.shape, segmenter.tiling)


def _with_margin(target: Geometry, scan: Geometry) -> Box:
    return box_around(target, scan, margin=[math.ceil(MARGIN_MM / mm) for mm in scan.spacing_mm])


def _dark_below(view_zyx: NDArray[Any]) -> float:
    low, high = (float(value) for value in np.percentile(view_zyx, (2, 98)))
    return low + _DARK * (high - low)


def _main_pieces(is_body_zyx: NDArray[np.bool_]) -> Box | None:
    """Return the box of the pieces that have a core, a voxel with all its neighbours, and no dust of one."""
    pieces, count = ndimage.label(is_body_zyx)
    core = ndimage.binary_erosion(is_body_zyx, border_value=1)
    sizes = np.bincount(pieces[core], minlength=count + 1)[1:]
    if not sizes.any():
        return None
    places = zip(ndimage.find_objects(pieces), sizes, strict=True)
    kept = [place for place, size in places if size >= max(1.0, _DUST * sizes.max())]
    start = [min(place[axis].start for place in kept) for axis in range(3)]
    stop = [max(place[axis].stop for place in kept) for axis in range(3)]
    return Box(_three(start), _three(stop))


def _kind(name: str) -> str:
    """Return what a channel is, by its name: CT, MR, or the name itself."""
    word = DICOM_WORDS.get(name.strip().upper(), name.strip().upper())
    return "MR" if _MR.match(word) else word


def _place_of(name: str, channels: Sequence[str]) -> int:
    """Return which of a scan's channels a model of other channels means: the one so called, or the only one alike."""
    words = [channel.strip().upper() for channel in channels]
    alike = [place for place, channel in enumerate(channels) if _kind(channel) == _kind(name)]
    if name.strip().upper() in words:
        return words.index(name.strip().upper())
    if len(alike) != 1:
        raise ModelError(
            f"the model to look within takes the channel {name}", expected=f"one of this model's: {', '.join(channels)}"
        )
    return alike[0]


def _as_look(progress: Progress) -> Progress:
    """Return a report that tells the steps of a first pass as those of looking."""

    def report(step: Step, /) -> None:
        progress(replace(step, stage="look"))

    return report


def _three(numbers: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = numbers
    return z, y, x
