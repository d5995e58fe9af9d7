"""The local engine: one case after the other, each to its own end, whatever becomes of the others.

While the network has a case, the next one is read and the last one written (`medseg.batch.ahead`); the results are
those of one after the other.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from medseg.batch import journal as journals
from medseg.batch.ahead import Overlap
from medseg.batch.folder import REPORT, make_folder, require_startable, tidy
from medseg.batch.job import Target
from medseg.batch.jobs import find_jobs, job_of
from medseg.batch.journal import Entry, Journal
from medseg.batch.manifest import CaseRecord, Manifest
from medseg.batch.maps import asked_maps
from medseg.batch.objects import instance_plan
from medseg.batch.outputs import (
    Finished,
    is_intact,
    label_rows,
    require_replaceable,
    write_case,
    written_formats,
)
from medseg.errors import GeometryError, InputError, MedsegError, ModelError
from medseg.inference import NumericPath
from medseg.io.atomic import write_text
from medseg.io.dicom.findings import RULES, finding
from medseg.progress import Cancelled, Step, ignore
from medseg.report import segment_report
from medseg.volume import is_mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from medseg.batch.job import Job, Scan
    from medseg.batch.options import BatchOptions
    from medseg.case import Case
    from medseg.inference import Segmenter
    from medseg.model import Model
    from medseg.progress import Progress

T = TypeVar("T")
_log = logging.getLogger(__name__)

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
    """Segment everything under the inputs, in order, and leave an output folder with a manifest.

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
    require_startable(out, options)
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
    require_startable(out, options)
    options = _with_instances(options, segmenter)
    target = _target(segmenter)
    jobs = [job_of(case, target, options=options) for case in cases]
    return _run(segmenter, jobs, out, options=options, progress=progress)


def _run(
    segmenter: Segmenter, jobs: Sequence[Job], out: Path, *, options: BatchOptions, progress: Progress
) -> Manifest:
    model = _model(segmenter)
    make_folder(out)
    with Journal(out, afresh=options.overwrite) as journal:
        tidy(out, everything=options.overwrite)
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
    asked = options.to_json(**_how(segmenter))
    return Manifest(about, segmenter.path.to_json(), _now(), options=asked)


def _how(segmenter: Segmenter) -> dict[str, Any]:
    """Return what of the segmenter a result depends on beside model and numeric path."""
    sight = segmenter.sight
    return {
        "mirrored": segmenter.is_mirrored,
        "crf": segmenter.plan.infer.crf,
        "fast": segmenter.is_fast,
        "look": sight.look,
        "within": None if sight.within is None else sight.within.to_json(),
    }


def _record(job: Job) -> CaseRecord:
    """Return what is known of a job before it starts."""
    status = "ignored" if job.verdict == "segment" else job.verdict
    found = tuple(f.to_json() for f in job.findings)
    return CaseRecord(job.id, status, reason=job.reason, inputs=job.inputs, findings=found)


def _target(segmenter: Segmenter) -> Target:
    return Target(segmenter.plan.channels, _model(segmenter).card.modalities)


class _Taken(NamedTuple):
    """A case that was read: the hash of its files, their stamps then, the scan, and how long reading took."""

    content: str
    stamps: tuple[tuple[int, int], ...]
    scan: Scan
    seconds: float


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
        self._asked = options.fingerprint(**_how(segmenter))
        self._manifest = _blank(segmenter, options)
        self._ends: dict[Job, CaseRecord] = {}
        self._written = 0.0

    def through(self, jobs: Sequence[Job]) -> Manifest:
        """Bring every job to its end."""
        total = sum(job.verdict != "ignored" for job in jobs)
        done = 0
        try:
            with Overlap[_Taken | CaseRecord](self._progress, ahead=self._options.ahead) as overlap:
                for job, following in _with_following(jobs):
                    if job.verdict != "ignored":
                        overlap.progress(Step("case", done, total, job.id))
                        done += 1
                    self._begin_end(job, overlap, following)
                    self._note(jobs)
            self._progress(Step("case", total, total))
        finally:  # an interruption leaves a true manifest too, without the time of its end
            complete = len(self._ends) == len(jobs)
            self._manifest = self._manifest.with_cases(self._ended(jobs), finished=_now() if complete else "")
            self._manifest.write(self._out)
            write_text(self._out / REPORT, segment_report(self._manifest.to_json(), self._pictures()))
        return self._manifest

    def _ended(self, jobs: Sequence[Job]) -> tuple[CaseRecord, ...]:
        """Return the records there are, in the order of the jobs."""
        return tuple(self._ends[job] for job in jobs if job in self._ends)

    def _note(self, jobs: Sequence[Job]) -> None:
        """Write the manifest now and then, so that a long batch can be watched."""
        if time.monotonic() - self._written >= _MANIFEST_SECONDS:
            self._manifest.with_cases(self._ended(jobs)).write(self._out)
            self._written = time.monotonic()

    def _begin_end(self, job: Job, overlap: Overlap[_Taken | CaseRecord], following: Job | None) -> None:
        """Bring a job to its end, or to where only its outputs are still being written."""
        record: CaseRecord | None = _record(job)
        if job.verdict == "segment":
            record = self._guarded(job, partial(self._segmented, job, overlap, following))
        if record is not None:
            self._ends[job] = record

    def _settle(self, job: Job, written: Callable[[], CaseRecord]) -> None:
        """Note how writing a job went."""
        self._ends[job] = self._guarded(job, partial(self._journalled, written))

    def _guarded(self, job: Job, work: Callable[[], T]) -> T | CaseRecord:
        """Return what some work on a job returns, or how it went wrong; the rim that keeps one case from the others."""
        blank = _record(job)
        try:
            return work()
        except Cancelled:
            raise
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

    def _segmented(self, job: Job, overlap: Overlap[_Taken | CaseRecord], following: Job | None) -> CaseRecord | None:
        """Return the record of a case finished by an earlier run; or segment it and have it written."""
        taken = overlap.take(self._reading(job))
        if isinstance(taken, CaseRecord):
            return taken
        if following is not None:
            overlap.begin(self._reading(following), needs=partial(following.expected_bytes, self._target))
        volume = taken.scan.volume
        maps = asked_maps(written_formats(self._options.formats))
        result = self._segmenter.segment(volume, maps=maps, progress=overlap.progress)
        if is_mapped(volume.array) and job.stamps() != taken.stamps:
            raise InputError("the file changed while it was segmented", remedy="Segment it again when it is whole")
        overlap.write(
            partial(self._write, Finished(job, volume, result, self._model, self._options), taken),
            partial(self._settle, job),
            holds=(0 if is_mapped(volume.array) else volume.array.nbytes) + result.segmentation.array.nbytes,
            last=following is None,
        )
        return None

    def _reading(self, job: Job) -> Callable[[Progress], _Taken | CaseRecord]:
        """Return how a case is read, in whatever thread; the journal is asked in this one."""
        return partial(self._read, job, self._journal.entry(job.id))

    def _read(self, job: Job, earlier: Entry | None, progress: Progress) -> _Taken | CaseRecord:
        """Return the scan of a case, or its record where an earlier run finished it."""
        stamps = job.stamps()
        content = job.content_sha256()
        kept = self._kept(job, earlier, content)
        if kept is not None:
            return kept
        require_replaceable(self._out, job.id)
        started = time.perf_counter()
        scan = job.read(self._target, progress=progress)
        return _Taken(content, stamps, scan, time.perf_counter() - started)

    def _write(self, finished: Finished, taken: _Taken) -> CaseRecord:
        """Write a case, in whatever thread, and return its record."""
        started = time.perf_counter()
        counted = finished.instances  # before anything is written: with too many objects nothing is
        written = write_case(finished, self._out)
        blank, result = _record(finished.job), finished.result
        return replace(
            blank,
            status="done",
            outputs=written.outputs,
            labels=label_rows(result.segmentation),
            findings=(*blank.findings, *(f.to_json() for f in (*taken.scan.findings, *written.findings))),
            confidence=result.confidence,
            flags=result.flags,
            seconds={"read": taken.seconds} | result.seconds | {"write": time.perf_counter() - started},
            peak_ram_mb=result.peak_ram_mb,
            hashes={"input": taken.content, **written.hashes},
            region=None if result.region is None else [list(result.region.start), list(result.region.stop)],
            checks={name: check.to_json() for name, check in written.checks.items()},
            objects=None if counted is None else counted.summary,
        )

    def _journalled(self, written: Callable[[], CaseRecord]) -> CaseRecord:
        """Return the record of a case that was written, after it stands in the journal."""
        record = written()
        content = record.hashes["input"]
        self._journal.record(Entry(record.id, "done", content, self._model.sha256, self._asked, record.to_json()))
        return record

    def _kept(self, job: Job, earlier: Entry | None, content: str) -> CaseRecord | None:
        """Return the record of a case finished by an earlier run from the same input and model, outputs whole."""
        wanted = (content, self._model.sha256, self._asked)
        if earlier is None or (earlier.input_sha256, earlier.model_sha256, earlier.asked) != wanted:
            return None
        record = CaseRecord.from_json(earlier.record)
        if not is_intact(self._out, record.outputs, hashes=record.hashes):
            return None
        return replace(record, status="skipped", reason="Finished by an earlier run.", inputs=job.inputs)

    def _pictures(self) -> dict[str, bytes]:
        paths = {case.id: case.outputs["png"] for case in self._manifest.cases if "png" in case.outputs}
        return {case_id: (self._out / path).read_bytes() for case_id, path in paths.items()}


def _with_following(jobs: Sequence[Job]) -> Iterator[tuple[Job, Job | None]]:
    """Yield each job, and the next one after it that will be segmented."""
    rest = deque(job for job in jobs if job.verdict == "segment")
    for job in jobs:
        if rest and rest[0] is job:
            rest.popleft()
        yield job, rest[0] if rest else None


def _decided_path(out: Path) -> NumericPath | None:
    """Return the numeric path an earlier run decided on."""
    if not (out / journals.NAME).is_file():
        return None
    with Journal(out) as journal:
        fact = journal.fact(_PATH)
    return None if fact is None else NumericPath(**fact)


def _sentence(error: MedsegError) -> str:
    """Return an error's words; of a path in it, the last part only: folders above may be named after people."""
    where = Path(error.where).name if error.where else ""
    text = str(type(error)(error.found, expected=error.expected, where=where, remedy=error.remedy))
    return text[:1].upper() + text[1:] if not where else text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
