"""What is written for a case: a table of formats, and a folder that appears as a whole or not at all.

=================  =======================  ==============================================================
format             file                     remarks
=================  =======================  ==============================================================
``nifti``          ``segmentation.nii.gz``  read back and compared before it counts
``dicom-seg``      ``segmentation.dcm``     for DICOM series; otherwise left out, with a finding
``png``            ``preview.png``          outlines on three slices, for people
``measurements``   ``measurements.json``    volume and voxels of every label
=================  =======================  ==============================================================
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, MedsegError, OutputError
from medseg.io import write_segmentation
from medseg.io.atomic import write_bytes, write_text
from medseg.io.dicom import write_seg
from medseg.io.dicom.findings import Finding, finding
from medseg.io.hashing import file_sha256
from medseg.report import overlay_png

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from medseg.batch.job import Job
    from medseg.inference import Result
    from medseg.model import Model
    from medseg.volume import Segmentation, Volume

NOT_APPLICABLE = "format-not-applicable"


@dataclass(frozen=True, eq=False)
class Finished:
    """A segmented case, not yet written: what every format may need."""

    job: Job
    volume: Volume
    result: Result
    model: Model

    @property
    def segmentation(self) -> Segmentation:
        """The mask on the scan's grid."""
        return self.result.segmentation


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table: the file's name in the case folder, and the function that writes it."""

    file: str
    write: Callable[[Finished, Path], None]


@dataclass(frozen=True, slots=True)
class Written:
    """What came to be: outputs by format relative to OUT, their hashes, and what was left out."""

    outputs: dict[str, str]
    hashes: dict[str, str]
    findings: tuple[Finding, ...]


def label_rows(segmentation: Segmentation) -> tuple[dict[str, Any], ...]:
    """Return id, name, colour, volume in ml and voxels of every label."""
    voxels = segmentation.voxel_counts()
    return tuple(
        {
            "id": label.id,
            "name": label.name,
            "color": list(label.color),
            "volume_ml": round(voxels[label.id] * segmentation.geometry.voxel_ml, 6),
            "voxels": voxels[label.id],
        }
        for label in segmentation.labels
    )


def _nifti(finished: Finished, path: Path) -> None:
    write_segmentation(finished.segmentation, path)


def _dicom_seg(finished: Finished, path: Path) -> None:
    source = finished.job.source
    if source is None:
        raise InputError("a DICOM SEG needs a DICOM series to refer to", code=NOT_APPLICABLE)
    if finished.job.volume is not None:
        source = source.pick(finished.job.volume)
    write_seg(finished.segmentation, path, source=source, algorithm=finished.model.card.name)


def _png(finished: Finished, path: Path) -> None:
    placed = all(f.code != "no-geometry" for f in finished.job.findings)
    write_bytes(path, overlay_png(finished.volume, finished.segmentation, letters=placed))


def _measurements(finished: Finished, path: Path) -> None:
    document = {
        "schema": 1,
        "id": finished.job.id,
        "spacing_mm": [round(s, 6) for s in finished.segmentation.geometry.spacing_mm],
        "labels": label_rows(finished.segmentation),
    }
    write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "nifti": Format("segmentation.nii.gz", _nifti),
        "dicom-seg": Format("segmentation.dcm", _dicom_seg),
        "png": Format("preview.png", _png),
        "measurements": Format("measurements.json", _measurements),
    }
)


def write_case(finished: Finished, out: Path, *, formats: Sequence[str]) -> Written:
    """Write a case folder: all formats that apply, or nothing.

    Parameters
    ----------
    finished : Finished
        The case.
    out : Path
        The output folder; an older folder of the case is replaced.
    formats : sequence of str
        Names of `FORMATS`.

    Raises
    ------
    OutputError
        Where a format that applies could not be written; the folder is then as before.
    """
    case_id = finished.job.id
    partial = out / f".{case_id}.partial"
    findings: list[Finding] = []
    outputs: dict[str, str] = {}
    hashes: dict[str, str] = {}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in dict.fromkeys(formats):
            path = partial / FORMATS[name].file
            try:
                FORMATS[name].write(finished, path)
            except MedsegError as error:
                if error.code != NOT_APPLICABLE:
                    raise OutputError(f"{name}: {error.found}", expected=error.expected, where=error.where) from error
                findings.append(finding(NOT_APPLICABLE, f"{name}: {error.found}"))
                continue
            outputs[name] = f"{case_id}/{path.name}"
            hashes[name] = file_sha256(path)
        _put_in_place(partial, out / case_id)
    except OSError as error:
        raise OutputError(f"the case could not be written ({error.strerror or type(error).__name__})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Written(outputs, hashes, tuple(findings))


def is_intact(out: Path, outputs: Mapping[str, str], *, hashes: Mapping[str, str]) -> bool:
    """Tell whether every output is there with the content it was written with."""
    try:
        return all(file_sha256(out / path) == hashes.get(name) for name, path in outputs.items())
    except OSError:
        return False


def _put_in_place(partial: Path, place: Path) -> None:
    """Let the finished folder take its name; an empty one is not kept."""
    if place.exists():
        shutil.rmtree(place)
    if any(partial.iterdir()):
        partial.rename(place)
