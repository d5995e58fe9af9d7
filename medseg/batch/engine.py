"""The sequential engine: one case after the other, each to its own end, whatever becomes of the others."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.batch import journal as journals
from medseg.batch.job import Target
from medseg.batch.jobs import find_jobs, job_of
from medseg.batch.journal import Entry, Journal
from medseg.batch.manifest import NAME as MANIFEST
from medseg.batch.manifest import CaseRecord, Manifest
from medseg.batch.objects import instance_plan
from medseg.batch.outputs import (
    Finished,
    holds_only_outputs,
    is_intact,
    label_rows,
    require_formats,
    require_replaceable,
    write_case,
)
from medseg.errors import GeometryError, InputError, MedsegError, ModelError, OutputError
from medseg.inference import NumericPath
from medseg.io.atomic import write_text
from medseg.io.dicom.findings import RULES, finding
from medseg.progress import Step, ignore
from medseg.report import segment_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.batch.job import Job
    from medseg.batch.options import BatchOptions
    from medseg.case import Case
    from medseg.inference import Segmenter
    from medseg.model import Model
    from medseg.progress import Progress

_log = logging.getLogger(__name__)

REPORT = "report.html"
_MANIFEST_SECONDS = 5.0  # between two writings while cases are left: the journal holds what is newer
_PATH, _MODEL = "numeric_path", "model"


def run_batch(
    load: Callable[[NumericPath | None], Segmenter],
    inputs: Sequence[Path],
    *,
    out: Path,
    options: BatchOptions,
    progress: Progress = ignore,
) -> Manifest:
    """Segment everything under the inputs, sequentially, and leave an output folder with a manifest.

    A case that cannot be used is refused, one that goes wrong has failed; neither stops the others. Where `progress`
    raises `Cancelled`, or the person presses Ctrl-C, manifest and journal stay valid and the interruption goes on to
    the caller; `BatchOptions.resume` then does what is left.

    Parameters
    ----------
    load : callable
        Returns the segmenter. It is given the numeric path an earlier run on `out` decided on, which it must keep, or
        None.
    inputs : sequence of Path
        Files, DICOM series, or folders of anything.
    out : Path
        The output folder (docs/architecture.md, section 6).
    options : BatchOptions
        What to write, and how to treat an earlier run.
    progress : Progress
        Told stage ``case`` before each case, and the stages of the case.

    Returns
    -------
    Manifest
        As it was written to ``manifest.json``. Where there is nothing to segment, nothing is made, and `out` stays as
        it is.

    Raises
    ------
    InputError
        Where an input is not there.
    ModelError
        Where the model cannot be loaded.
    PlanError
        Where the rules for the channels do not fit the model.
    OutputError
        Where `out` holds something and neither resume nor overwrite was asked for, another run works on it, or it
        cannot be written.
    """
    _require_startable(out, options)
    segmenter = load(_decided_path(out) if options.resume else None)
    if options.select is None:
        options = replace(options, select=segmenter.plan.infer.select)
    options = _with_instances(options, segmenter)
    jobs = find_jobs(inputs, _target(segmenter), out=out, options=options, progress=progress)
    if all(job.verdict == "ignored" for job in jobs):
        return _blank(segmenter, options).with_cases(tuple(_record(job) for job in jobs), finished=_now())
    return _run(segmenter, jobs, out, options=options, progress=progress)


def run_cases(
    segmenter: Segmenter, cases: Sequence[Case], *, out: Path, options: BatchOptions, progress: Progress = ignore
) -> Manifest:
    """Segment the cases of a data set into an output folder, each under its own id; otherwise as `run_batch`.

    Raises
    ------
    ModelError
        Where the segmenter has no model folder.
    OutputError
        Where `out` holds something and neither resume nor overwrite was asked for, or cannot be written.
    """
    _require_startable(out, options)
    options = _with_instances(options, segmenter)
    target = _target(segmenter)
    jobs = [job_of(case, target, options=options) for case in cases]
    return _run(segmenter, jobs, out, options=options, progress=progress)


def _run(
    segmenter: Segmenter, jobs: Sequence[Job], out: Path, *, options: BatchOptions, progress: Progress
) -> Manifest:
    model = _model(segmenter)
    _make(out)
    with Journal(out, afresh=options.overwrite) as journal:
        _tidy(out, everything=options.overwrite)
        journal.note(_PATH, segmenter.path.to_json())
        journal.note(_MODEL, model.sha256)
        return _Run(segmenter, model, out, options=options, journal=journal, progress=progress).through(jobs)


def _with_instances(options: BatchOptions, segmenter: Segmenter) -> BatchOptions:
    """Return the options with what is done about objects in so many words, for manifest and resume."""
    plan = instance_plan(options.instances, segmenter.plan.infer.instances, options.formats)
    return replace(options, instances="none" if plan is None else plan.method)


def _model(segmenter: Segmenter) -> Model:
    if segmenter.model is None:
        raise ModelError("the segmenter was not loaded from a model folder", expected="a model with a card")
    return segmenter.model


def _blank(segmenter: Segmenter, options: BatchOptions) -> Manifest:
    """Return the manifest of a run that has just begun."""
    model = _model(segmenter)
    about = {"name": model.card.name, "version": model.card.version, "sha256": model.sha256}
    asked = options.to_json(mirrored=segmenter.is_mirrored, crf=segmenter.plan.infer.crf)
    return Manifest(about, segmenter.path.to_json(), _now(), options=asked)


def _record(job: Job) -> CaseRecord:
    """Return what is known of a job before it starts."""
    status = "ignored" if job.verdict == "segment" else job.verdict
    found = tuple(f.to_json() for f in job.findings)
    return CaseRecord(job.id, status, reason=job.reason, inputs=job.inputs, findings=found)


def _target(segmenter: Segmenter) -> Target:
    return Target(segmenter.plan.channels, _model(segmenter).card.modalities)


class _Run:
    """One pass over the jobs."""

    def __init__(
        self,
        segmenter: Segmenter,
        model: Model,
        out: Path,
        *,
        options: BatchOptions,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._segmenter, self._model, self._out = segmenter, model, out
        self._options, self._journal, self._progress = options, journal, progress
        self._target = _target(segmenter)
        self._asked = options.fingerprint(mirrored=segmenter.is_mirrored, crf=segmenter.plan.infer.crf)
        self._manifest = _blank(segmenter, options)
        self._written = 0.0

    def through(self, jobs: Sequence[Job]) -> Manifest:
        """Bring every job to its end."""
        records: list[CaseRecord] = []
        total = sum(job.verdict != "ignored" for job in jobs)
        done = 0
        try:
            for job in jobs:
                if job.verdict != "ignored":
                    self._progress(Step("case", done, total, job.id))
                    done += 1
                records.append(self._ended(job))
                self._note(records)
            self._progress(Step("case", total, total))
        finally:  # an interruption leaves a true manifest too, without the time of its end
            complete = len(records) == len(jobs)
            self._manifest = self._manifest.with_cases(tuple(records), finished=_now() if complete else "")
            self._manifest.write(self._out)
            write_text(self._out / REPORT, segment_report(self._manifest.to_json(), self._pictures()))
        return self._manifest

    def _note(self, records: Sequence[CaseRecord]) -> None:
        """Write the manifest now and then, so that a long batch can be watched."""
        if time.monotonic() - self._written >= _MANIFEST_SECONDS:
            self._manifest.with_cases(tuple(records)).write(self._out)
            self._written = time.monotonic()

    def _ended(self, job: Job) -> CaseRecord:
        """Return how a job ended; the rim that keeps one case from stopping the others."""
        blank = _record(job)
        if job.verdict != "segment":
            return blank
        try:
            return self._segmented(job, blank)
        except MedsegError as error:
            refused = isinstance(error, (InputError, GeometryError))
            found = finding(error.code, error.found).to_json() if error.code in RULES else None
            record = replace(blank, status="refused" if refused else "failed", reason=_sentence(error))
            return record if found is None else replace(record, findings=(*blank.findings, found))
        except MemoryError:
            return replace(blank, status="failed", reason="There is not enough memory for this case.")
        except Exception as error:  # noqa: BLE001 - the failure-isolation rim: one bad case never stops the rest
            _log.debug("case %s", job.id, exc_info=error)
            words = f"An unexpected {type(error).__name__} in medseg itself: please report it."
            return replace(blank, status="failed", reason=words)

    def _segmented(self, job: Job, blank: CaseRecord) -> CaseRecord:
        """Return the record of a case that is finished, now or by an earlier run."""
        content = job.content_sha256()
        kept = self._kept(job, content)
        if kept is not None:
            return kept
        require_replaceable(self._out, job.id)
        started = time.perf_counter()
        volume, mended = job.read(self._target, progress=self._progress)
        seconds = {"read": time.perf_counter() - started}
        result = self._segmenter.segment(volume, progress=self._progress)
        started = time.perf_counter()
        finished = Finished(job, volume, result, self._model, self._options)
        counted = finished.instances  # before anything is written: with too many objects nothing is
        written = write_case(finished, self._out)
        seconds |= result.seconds | {"write": time.perf_counter() - started}
        record = replace(
            blank,
            status="done",
            outputs=written.outputs,
            labels=label_rows(result.segmentation),
            findings=(*blank.findings, *(f.to_json() for f in (*mended, *written.findings))),
            confidence=result.confidence,
            flags=result.flags,
            seconds=seconds,
            peak_ram_mb=result.peak_ram_mb,
            hashes={"input": content, **written.hashes},
            checks={name: check.to_json() for name, check in written.checks.items()},
            objects=None if counted is None else counted.summary,
        )
        self._journal.record(Entry(job.id, "done", content, self._model.sha256, self._asked, record.to_json()))
        return record

    def _kept(self, job: Job, content: str) -> CaseRecord | None:
        """Return the record of a case finished by an earlier run from the same input and model, outputs whole."""
        entry = self._journal.entry(job.id)
        wanted = (content, self._model.sha256, self._asked)
        if entry is None or (entry.input_sha256, entry.model_sha256, entry.asked) != wanted:
            return None
        record = CaseRecord.from_json(entry.record)
        if not is_intact(self._out, record.outputs, hashes=record.hashes):
            return None
        return replace(record, status="skipped", reason="Finished by an earlier run.", inputs=job.inputs)

    def _pictures(self) -> dict[str, bytes]:
        paths = {case.id: case.outputs["png"] for case in self._manifest.cases if "png" in case.outputs}
        return {case_id: (self._out / path).read_bytes() for case_id, path in paths.items()}


def _require_startable(out: Path, options: BatchOptions) -> None:
    """Refuse formats that need what is not installed, and an output folder that holds what this run may not touch."""
    require_formats(options.formats)
    if out.exists() and not out.is_dir():
        raise OutputError("there is a file of this name", expected="a folder", where=str(out))
    if not out.exists() or not any(out.iterdir()):
        return
    if not (options.resume or options.overwrite):
        raise OutputError(
            "the output folder is not empty",
            where=str(out),
            remedy="Pass --resume to do what is left, --overwrite to start again, or name another folder",
        )
    if not (out / journals.NAME).is_file():
        raise OutputError(
            "the folder holds something medseg segment did not write", where=str(out), remedy="Name another folder"
        )


def _decided_path(out: Path) -> NumericPath | None:
    """Return the numeric path an earlier run decided on."""
    if not (out / journals.NAME).is_file():
        return None
    with Journal(out) as journal:
        fact = journal.fact(_PATH)
    return None if fact is None else NumericPath(**fact)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be made ({error.strerror})", where=str(out)) from error


def _tidy(out: Path, *, everything: bool) -> None:
    """Take away what a crash left, and with `everything` what earlier runs wrote: what holds nothing but outputs."""
    try:
        for partial in out.glob(".*.partial"):
            shutil.rmtree(partial)
        if not everything:
            return
        for folder in out.iterdir():
            if folder.is_dir() and not folder.is_symlink() and holds_only_outputs(folder):
                shutil.rmtree(folder)
        for name in (MANIFEST, REPORT):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be used ({error.strerror})", where=str(out)) from error


def _sentence(error: MedsegError) -> str:
    """Return an error's words; of a path in it, the last part only: folders above may be named after people."""
    where = Path(error.where).name if error.where else ""
    text = str(type(error)(error.found, expected=error.expected, where=where, remedy=error.remedy))
    return text[:1].upper() + text[1:] if not where else text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
