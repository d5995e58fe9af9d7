"""segment: a model over files and folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.batch import BatchOptions, run_batch
from medseg.inference import Segmenter
from medseg.progress import Progress, ignore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.batch import Manifest
    from medseg.inference import NumericPath


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """What to write, what to compute with, and what to take."""

    formats: tuple[str, ...] = ("nifti",)
    device: str = "auto"
    precision: str = "auto"
    tta: bool = False
    volume: int | None = None
    any_modality: bool = False
    resume: bool = False
    overwrite: bool = False

    @property
    def options(self) -> BatchOptions:
        """The part that concerns the batch."""
        return BatchOptions(
            formats=self.formats,
            volume=self.volume,
            any_modality=self.any_modality,
            resume=self.resume,
            overwrite=self.overwrite,
        )


def segment(
    model: Path, inputs: Sequence[Path], out: Path, request: SegmentRequest, *, progress: Progress = ignore
) -> Manifest:
    """Segment everything under `inputs` with the model in folder `model`; leave results and manifest in `out`.

    Raises
    ------
    ModelError
        Where the model cannot be used, or device or precision are not to be had.
    InputError
        Where an input is not there.
    OutputError
        Where `out` holds something and neither resume nor overwrite was asked for.
    """

    def load(path: NumericPath | None) -> Segmenter:
        return Segmenter.load(
            model, device=request.device, precision=request.precision, mirrored=request.tta, path=path
        )

    return run_batch(load, inputs, out=out, options=request.options, progress=progress)
