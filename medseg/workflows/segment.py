"""segment: a model over files and folders."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from medseg.batch import BatchOptions, run_batch
from medseg.errors import PlanError
from medseg.inference import Look, Segmenter
from medseg.planning import parse_size
from medseg.progress import Progress, ignore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.batch import Manifest
    from medseg.batch.objects import AskedInstances
    from medseg.batch.options import OnIrregular, OnMosaic, OnNonfinite, SegType
    from medseg.inference import NumericPath


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """What to write, what to compute with, and what to take; as `BatchOptions` where the names are the same.

    `crf` switches the CRF on, by the plan's values or the defaults, or off; None leaves it to the plan. `max_ram` is
    the memory that the process and its children may hold, such as ``8GB``; None for what is free. With a limit no case
    is read ahead. `look` and `within` (``MODEL`` or ``MODEL:LABEL,LABEL``) say where the network looks, as in
    `medseg.inference.region`; with `within` it is that model which looks as `look` says.

    Raises
    ------
    PlanError
        Where `look` is no way of looking.
    """

    formats: tuple[str, ...] = ("nifti",)
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    tta: bool = False
    fast: bool = False
    look: Look = "whole"
    within: str | None = None
    crf: bool | None = None
    max_ram: str | None = None
    select: str | None = None
    channels: tuple[tuple[str, str], ...] = ()
    assume_registered: bool = False
    volume: int | None = None
    on_irregular: OnIrregular = "refuse"
    mosaic: OnMosaic = "refuse"
    on_nonfinite: OnNonfinite = "refuse"
    any_modality: bool = False
    seg_type: SegType = "binary"
    all_frames: bool = False
    instances: AskedInstances | None = None
    resume: bool = False
    overwrite: bool = False
    ahead: int = 1

    def __post_init__(self) -> None:
        """Check what `BatchOptions` does not."""
        if self.look not in get_args(Look):
            raise PlanError(f"--look was given {self.look!r}", expected=" or ".join(get_args(Look)))

    @property
    def options(self) -> BatchOptions:
        """The part that concerns the batch."""
        asked = {field.name: getattr(self, field.name) for field in fields(BatchOptions)}
        return BatchOptions(**asked | ({"ahead": 0} if self.max_ram else {}))


def segment(
    model: Path, inputs: Sequence[Path], out: Path, request: SegmentRequest, *, progress: Progress = ignore
) -> Manifest:
    """Segment everything under `inputs` with the model in folder `model`; leave results and manifest in `out`.

    Raises
    ------
    PlanError
        Where a rule of selection, of a channel or a size of memory cannot be understood, or a choice is not offered.
    ModelError
        Where a model cannot be used, device, precision or backend are not to be had, or the model to look within has
        no label so called.
    MissingExtraError
        Where the backend's library is not installed.
    InputError
        Where an input is not there.
    OutputError
        Where `out` holds something and neither resume nor overwrite was asked for.
    """
    options = request.options
    opened = partial(Segmenter.load, device=request.device, precision=request.precision, backend=request.backend)
    max_ram = parse_size(request.max_ram) if request.max_ram else None

    def load(path: NumericPath | None) -> Segmenter:
        segmenter = opened(model, mirrored=request.tta, path=path).with_max_ram(max_ram)
        segmenter = segmenter.fast() if request.fast else segmenter
        segmenter = segmenter if request.crf is None else segmenter.with_crf(on=request.crf)
        if request.within is None:
            return segmenter.looking_at(request.look)
        folder, names = model_and_labels(request.within)
        other = opened(folder).with_max_ram(max_ram)
        return segmenter.looking_within(other.looking_at(request.look), names)

    return run_batch(load, inputs, out=out, options=options, progress=progress)


def model_and_labels(text: str) -> tuple[Path, tuple[str, ...]]:
    """Return the model's folder and the labels of ``MODEL:LABEL,LABEL``; a folder's own name may hold a colon.

    Examples
    --------
    >>> model_and_labels("organs/model:liver,spleen")[1], model_and_labels("organs/model")[1]
    (('liver', 'spleen'), ())
    """
    place, colon, names = text.rpartition(":")
    if not colon or Path(text).is_dir():
        return Path(text), ()
    return Path(place), tuple(name.strip() for name in names.split(",") if name.strip())
