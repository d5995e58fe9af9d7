"""What is written for a case: a table of formats, and a folder that appears as a whole or not at all.

=================  ========================  ======================================================================
format             file                      remarks
=================  ========================  ======================================================================
``nifti``          ``segmentation.nii.gz``   on the scan's grid
``dicom-seg``      ``segmentation.dcm``      for DICOM series; otherwise left out, with a finding
``rtstruct``       ``rtstruct.dcm``          likewise; needs the extra of the same name
``sr``             ``sr.dcm``                volumes as TID 1500, likewise; refers to the SEG, which is written with it
``stl``            ``stl/<id>_<name>.stl``   one closed mesh per label found, LPS mm; needs the extra of the same name
``png``            ``preview.png``           outlines on three slices, for people
``png-mask``       ``segmentation.png``      with ``png`` where a scan has one slice: label ids, in the labels' colours
``measurements``   ``measurements.json``     volume and voxels of every label; counts of objects where they are numbered
``instances``      ``instances.nii.gz``      object numbers on the scan's grid; the next one is written with it
``objects``        ``objects.csv``           label, size and place of every object
``uncertainty``    ``uncertainty.nii.gz``    entropy of the probabilities, 0 to 1, on the scan's grid
``probabilities``  ``probabilities.nii.gz``  of each class, one volume each; the next one is written with it
``channels``       ``probabilities.json``    which class each volume is of
=================  ========================  ======================================================================

All DICOM objects of a case share one `Identity`. Before the folder takes its place, each output is opened again by
another path than its writer's and compared (`medseg.batch.recheck`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medseg.batch.maps import write_channels, write_probabilities, write_uncertainty
from medseg.batch.objects import CaseObjects, drawn_objects, instance_plan, write_numbers, write_table
from medseg.batch.recheck import Recheck
from medseg.errors import InputError, MedsegError, OutputError
from medseg.io import write_segmentation
from medseg.io.atomic import write_bytes, write_text
from medseg.io.dicom import write_seg
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.identity import Identity
from medseg.io.dicom.rtstruct.contours import require_contours
from medseg.io.dicom.rtstruct.writing import write_rtstruct
from medseg.io.dicom.sr import write_sr
from medseg.io.hashing import file_sha256
from medseg.io.images import write_indexed
from medseg.io.mesh import SUFFIX, require_mesh, write_stl
from medseg.report import overlay_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from medseg.batch.job import Job
    from medseg.batch.options import BatchOptions
    from medseg.batch.recheck import Check
    from medseg.inference import Result
    from medseg.io.dicom import SourceSeries
    from medseg.model import Model
    from medseg.volume import Segmentation, Volume

NOT_APPLICABLE = "format-not-applicable"
_BROUGHT_ALONG = {"sr": "dicom-seg", "png": "png-mask", "instances": "objects", "probabilities": "channels"}
_UNPLACED = frozenset({"no-geometry", "two-dimensional"})  # findings of scans without a place in the patient


@dataclass(frozen=True, eq=False)
class Finished:
    """A segmented case, not yet written: what every format may need."""

    job: Job
    volume: Volume
    result: Result
    model: Model
    options: BatchOptions

    @property
    def segmentation(self) -> Segmentation:
        """The mask on the scan's grid."""
        return self.result.segmentation

    @property
    def series(self) -> SourceSeries:
        """The DICOM series the mask was made from.

        Raises
        ------
        InputError
            Where there is none (code ``format-not-applicable``).
        """
        if self.job.source is None:
            raise InputError(
                "a DICOM object needs a DICOM series to refer to",
                remedy="Segment the series itself, or ask for other formats",
                code=NOT_APPLICABLE,
            )
        return self.job.source

    @property
    def is_placed(self) -> bool:
        """Whether the scan has a place in the patient; otherwise nobody knows which side is left."""
        return all(f.code not in _UNPLACED for f in self.job.findings)

    @cached_property
    def identity(self) -> Identity:
        """What all DICOM objects of the case have in common."""
        return Identity.new(self.segmentation.labels)

    @cached_property
    def instances(self) -> CaseObjects | None:
        """The mask's objects, where it is taken apart."""
        plan = instance_plan(self.options.instances, self.model.plan.infer.instances, self.options.formats)
        return None if plan is None else CaseObjects.of(self.segmentation, plan)


def _nothing_needed() -> None:
    """Do without extras."""


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table.

    Attributes
    ----------
    file : str
        The name of its file, or folder, in the case folder.
    write : callable
        Writes it.
    require : callable
        Raises `MissingExtraError` where what it needs is not installed.
    """

    file: str
    write: Callable[[Finished, Path], None]
    require: Callable[[], None] = _nothing_needed


@dataclass(frozen=True, slots=True)
class Written:
    """What came to be: by format, outputs relative to OUT, their hashes and checks; and what was left out."""

    outputs: dict[str, str]
    hashes: dict[str, str]
    checks: dict[str, Check]
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
    write_seg(
        finished.segmentation,
        path,
        source=finished.series,
        kind=finished.options.seg_type,
        all_frames=finished.options.all_frames,
        algorithm=finished.model.card.name,
        identity=finished.identity,
    )


def _rtstruct(finished: Finished, path: Path) -> None:
    write_rtstruct(
        finished.segmentation,
        path,
        source=finished.series,
        algorithm=finished.model.card.name,
        identity=finished.identity,
    )


def _sr(finished: Finished, path: Path) -> None:
    write_sr(
        finished.segmentation,
        path,
        source=finished.series,
        seg=path.with_name(FORMATS["dicom-seg"].file),
        algorithm=finished.model.card.name,
        identity=finished.identity,
    )


def _stl(finished: Finished, path: Path) -> None:
    if not finished.is_placed:
        raise InputError("a mesh needs a scan with a place in the patient", code=NOT_APPLICABLE)
    write_stl(finished.segmentation, path)


def _png(finished: Finished, path: Path) -> None:
    if finished.instances is None:
        drawn = overlay_png(finished.volume, finished.segmentation, letters=finished.is_placed)
    else:
        drawn = drawn_objects(finished.instances, finished)
    write_bytes(path, drawn)


def _png_mask(finished: Finished, path: Path) -> None:
    mask = finished.segmentation
    if mask.array.shape[0] != 1 or max(mask.labels.ids) >= len(mask.labels.palette):
        raise InputError("an indexed PNG holds one slice and ids up to 255", code=NOT_APPLICABLE)
    write_indexed(mask.array[0].astype("uint8"), mask.labels.palette, path)


def _measurements(finished: Finished, path: Path) -> None:
    document = {
        "schema": 1,
        "id": finished.job.id,
        "spacing_mm": [round(s, 6) for s in finished.segmentation.geometry.spacing_mm],
        "labels": label_rows(finished.segmentation),
    }
    if finished.instances is not None:
        document["objects"] = finished.instances.summary
    write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "nifti": Format("segmentation.nii.gz", _nifti),
        "dicom-seg": Format("segmentation.dcm", _dicom_seg),
        "rtstruct": Format("rtstruct.dcm", _rtstruct, require_contours),
        "sr": Format("sr.dcm", _sr),
        "stl": Format("stl", _stl, require_mesh),
        "png": Format("preview.png", _png),
        "png-mask": Format("segmentation.png", _png_mask),
        "measurements": Format("measurements.json", _measurements),
        "instances": Format("instances.nii.gz", write_numbers),
        "objects": Format("objects.csv", write_table),
        "uncertainty": Format("uncertainty.nii.gz", write_uncertainty),
        "probabilities": Format("probabilities.nii.gz", write_probabilities),
        "channels": Format("probabilities.json", write_channels),
    }
)


def require_formats(formats: Sequence[str]) -> None:
    """Make sure before a batch starts that what its formats need is installed.

    Raises
    ------
    MissingExtraError
        Where an extra is missing; the sentence names it.
    """
    for name in formats:
        FORMATS[name].require()


def written_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return what is written where `formats` are asked for, in order of the table: with a report its SEG, and so on.

    Examples
    --------
    >>> written_formats(["png", "sr"]), written_formats(["instances"])
    (('dicom-seg', 'sr', 'png', 'png-mask'), ('instances', 'objects'))
    """
    wanted = {*formats, *(_BROUGHT_ALONG[name] for name in formats if name in _BROUGHT_ALONG)}
    return tuple(name for name in FORMATS if name in wanted)


def write_case(finished: Finished, out: Path) -> Written:
    """Write a case folder: all formats asked for that apply, each opened again and found right, or nothing.

    Parameters
    ----------
    finished : Finished
        The case.
    out : Path
        The output folder; an older folder of the case is replaced.

    Raises
    ------
    OutputError
        Where a format that applies could not be written, or does not hold what was to be written, or the case's folder
        holds files of others; the folder is then as before.
    """
    case_id = finished.job.id
    partial = out / f".{case_id}.partial"
    require_replaceable(out, case_id)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        written = _written(finished, partial)
        _put_in_place(partial, out / case_id)
    except OSError as error:
        raise OutputError(f"the case could not be written ({error.strerror or type(error).__name__})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _written(finished: Finished, folder: Path) -> Written:
    """Write every format into a folder, then open all of them again."""
    written = Written({}, {}, {}, ())
    missing: dict[tuple[str, str], list[str]] = {}
    paths: dict[str, Path] = {}
    recheck = Recheck(finished)
    name = ""
    try:
        for name in written_formats(finished.options.formats):
            paths[name] = folder / FORMATS[name].file
            obstacle = _obstacle(finished, name, paths[name])
            if obstacle is not None:
                del paths[name]
                missing.setdefault((obstacle.found, obstacle.remedy), []).append(name)
        for name, path in paths.items():
            written.checks[name] = recheck.check(name, path)
            written.outputs[name] = f"{finished.job.id}/{path.name}"
            written.hashes[name] = _content_sha256(path)
    except MedsegError as error:
        words = f"writing {name} failed: {error.found}"
        raise OutputError(words, expected=error.expected, remedy=error.remedy) from error
    return replace(written, findings=tuple(_left_out(missing, finished.options.formats)))


def _left_out(missing: Mapping[tuple[str, str], Sequence[str]], asked: Sequence[str]) -> Iterable[Finding]:
    """Yield a finding for each reason why formats that were asked for do not apply."""
    for (why, remedy), names in missing.items():
        named = ", ".join(name for name in names if name in asked)
        if named:
            yield finding(NOT_APPLICABLE, f"{named}: {why}", remedy=remedy)


def _obstacle(finished: Finished, name: str, path: Path) -> InputError | None:
    """Write one format, or return why the case cannot have it."""
    try:
        FORMATS[name].write(finished, path)
    except InputError as error:
        if error.code != NOT_APPLICABLE:
            raise
        return error
    return None


def is_intact(out: Path, outputs: Mapping[str, str], *, hashes: Mapping[str, str]) -> bool:
    """Tell whether every output is there with the content it was written with."""
    try:
        return all(_content_sha256(out / path) == hashes.get(name) for name, path in outputs.items())
    except OSError:
        return False


def holds_only_outputs(folder: Path) -> bool:
    """Tell whether there is nothing in a folder but files of our names, so that it may be removed."""
    ours = {form.file for form in FORMATS.values()}
    return all(
        path.name in ours and (not path.is_dir() or all(mesh.suffix == SUFFIX for mesh in path.iterdir()))
        for path in folder.iterdir()
    )


def require_replaceable(out: Path, case_id: str) -> None:
    """Make sure that a case's folder, where there is one, holds nothing but outputs: it will be replaced.

    Raises
    ------
    OutputError
        Where it holds something else: a mask corrected by hand, say.
    """
    place = out / case_id
    if place.is_dir() and not holds_only_outputs(place):
        raise OutputError(
            "the case's folder holds files that medseg did not write, and would be replaced",
            where=case_id,
            remedy="Move them elsewhere, or write to another folder",
        )


def _content_sha256(path: Path) -> str:
    """Return the hash of a file, or of the names and contents of all files in a folder."""
    if not path.is_dir():
        return file_sha256(path)
    lines = (f"{file_sha256(file)}  {file.name}\n" for file in sorted(path.iterdir()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _put_in_place(partial: Path, place: Path) -> None:
    """Let the finished folder take its name; an empty one is not kept."""
    if place.exists():
        shutil.rmtree(place)
    if any(partial.iterdir()):
        partial.rename(place)
