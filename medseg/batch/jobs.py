"""What is there to do: every file under the inputs is part of one job, and every job has a verdict before it starts."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.errors import InputError
from medseg.io import read_volume
from medseg.io.dicom import inspect_folder, read_series
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.item import short_hash, told_apart
from medseg.io.hashing import file_sha256
from medseg.progress import ignore
from medseg.resample import resample
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medseg.batch.options import BatchOptions
    from medseg.case import Case
    from medseg.io.dicom import Item, SourceSeries
    from medseg.progress import Progress

Verdict = Literal["segment", "refused", "ignored"]

_CHANNEL_FILE = re.compile(r"(?P<stem>.*)_(?P<channel>[0-9]{4})(?P<suffix>\.[^/]+)")  # as nnU-Net names them
_SAME_MODALITY = {"MRI": "MR", "PET": "PT"}  # what data sets write, and DICOM's word for it (PS3.3 C.7.3.1.1.1)


@dataclass(frozen=True, slots=True)
class Target:
    """What the model can take: its channels, and the modalities its card names."""

    channels: tuple[str, ...]
    modalities: tuple[str, ...]

    def takes(self, modality: str | None) -> bool:
        """Tell whether the card names a DICOM modality."""
        known = {_SAME_MODALITY.get(name.upper(), name.upper()) for name in self.modalities}
        return (modality or "").upper() in known


@dataclass(frozen=True, eq=False)
class Job:
    """One case to be.

    Attributes
    ----------
    id : str
        Unique in the batch; never from a patient attribute.
    inputs : tuple of str
        Relative to the INPUT they were found under.
    files : tuple of Path
        The same, to open.
    verdict : {"segment", "refused", "ignored"}
    reason : str
        Why it will not be segmented.
    findings : tuple of Finding
    source : SourceSeries or None
        For DICOM.
    volume : int or None
        Which volume of a 4-D input.
    """

    id: str
    inputs: tuple[str, ...]
    files: tuple[Path, ...]
    verdict: Verdict
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    source: SourceSeries | None = None
    volume: int | None = None

    def read(self, target: Target, *, progress: Progress = ignore) -> Volume:
        """Return the scan, its channels named as the model's.

        Raises
        ------
        InputError
            Where it cannot be read, or has not as many channels as the model.
        """
        if self.source is not None:
            volume = read_series(self.source, volume=self.volume, progress=progress)
        elif len(self.files) == 1:
            volume = read_volume(self.files[0], volume=self.volume)
        else:
            volume = _stacked([read_volume(file) for file in self.files])
        if volume.array.shape[0] != len(target.channels):
            raise InputError(
                f"the scan has {volume.array.shape[0]} channels", expected=f"{len(target.channels)}, as the model has"
            )
        return replace(volume, channels=target.channels)

    def content_sha256(self) -> str:
        """Return one hash over the content of all files, in order; names do not count.

        Raises
        ------
        InputError
            Where a file is gone or may not be read.
        """
        whole = hashlib.sha256()
        for path in self.files:
            try:
                whole.update(bytes.fromhex(file_sha256(path)))
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise InputError(f"the file cannot be read ({reason})", where=path.name, code="unreadable") from error
        return whole.hexdigest()


def find_jobs(
    inputs: Sequence[Path], target: Target, *, out: Path, options: BatchOptions, progress: Progress = ignore
) -> tuple[Job, ...]:
    """Return a job for everything under the inputs, in the order found; what lies in `out` is passed over.

    Raises
    ------
    InputError
        Where an input is not there.
    """
    items = told_apart(_items(inputs, out, progress))
    groups = _by_case(items) if len(target.channels) > 1 else {str(n): (item,) for n, item in enumerate(items)}
    jobs: list[Job] = []
    for members in groups.values():
        if len(members) == len(target.channels) > 1:
            jobs.append(_many(members, target, options))
        else:
            jobs.extend(_one(item, target, options) for item in members)
    return _unique(jobs)


def job_of(case: Case, target: Target, *, options: BatchOptions) -> Job:
    """Return the job of a data set's case, under the case's own id."""
    if not any(path.is_dir() for path in case.images):
        return Job(case.id, tuple(path.name for path in case.images), case.images, "segment")
    found = find_jobs(case.images, target, out=case.images[0] / "out", options=options)
    series = [job for job in found if job.verdict == "segment"]
    if len(series) == 1:
        return replace(series[0], id=case.id)
    reason = f"The case's folders hold {len(series)} series that can be segmented, not one."
    return Job(case.id, (), (), "refused", reason=reason)


def _items(inputs: Sequence[Path], out: Path, progress: Progress) -> list[Item]:
    """Return the items of all inputs; a file that two inputs share counts once."""
    items: list[Item] = []
    seen: set[Path] = set()
    ours = out.resolve()
    for path in inputs:
        for item in inspect_folder(path, progress=progress).items:
            places = {file.resolve() for file in item.files}
            if places <= seen or any(ours in place.parents for place in places):
                continue
            seen |= places
            items.append(item)
    return items


def _by_case(items: Iterable[Item]) -> Mapping[str, tuple[Item, ...]]:
    """Return the items with the channel files of one case together, channels rising."""
    groups: dict[str, list[tuple[int, Item]]] = defaultdict(list)
    for item in items:
        match = _CHANNEL_FILE.fullmatch(item.paths[0]) if item.kind in {"volume", "image"} else None
        if match is None or item.source is not None:
            groups[f"{item.root}/{item.paths[0]}"].append((0, item))
        else:
            groups[f"{item.root}/{match['stem']}{match['suffix']}"].append((int(match["channel"]), item))
    complete: dict[str, tuple[Item, ...]] = {}
    for key, numbered in groups.items():
        ordered = sorted(numbered, key=lambda pair: pair[0])
        if [channel for channel, _ in ordered] == list(range(len(ordered))):
            complete[key] = tuple(item for _, item in ordered)
        else:
            complete |= {f"{key} {channel}": (item,) for channel, item in ordered}
    return complete


def _one(item: Item, target: Target, options: BatchOptions) -> Job:
    """Return the job of an item that is a case by itself."""
    holds_channels = item.source is None and 1 < len(target.channels) == item.volumes
    volume = options.volume if item.volumes > 1 and not holds_channels else None
    job = Job(item.id, item.paths, item.files, "segment", findings=item.findings, source=item.source, volume=volume)
    if item.status == "ignored":
        return replace(job, verdict="ignored", reason=item.reason)
    if item.status == "refused":
        return _refused(job, [f for f in item.findings if f.effect == "refused"])
    open_steps = [f for f in item.findings if f.effect == "repairable"]
    if holds_channels or volume is not None:
        open_steps = [f for f in open_steps if f.code != "four-d"]
    if open_steps:
        return _refused(job, open_steps)
    objection = _objection(item, target, options)
    if objection is not None:
        return _refused(job, [objection])
    if len(target.channels) > 1 and not holds_channels and item.kind != "image":
        return replace(job, verdict="refused", reason=_alone(target))
    return job


def _objection(item: Item, target: Target, options: BatchOptions) -> Finding | None:
    """Return what stands between a readable item and this model, if anything."""
    if options.volume is not None and options.volume >= item.volumes > 1:
        words = f"there is no volume {options.volume}: the scan has 0 to {item.volumes - 1}"
        return finding("four-d", words, effect="refused")
    if item.source is not None and not (options.any_modality or target.takes(item.modality)):
        words = (
            f"the modality is {item.modality or 'not stated'}, the model was made for {', '.join(target.modalities)}"
        )
        return finding("wrong-modality", words)
    return None


def _alone(target: Target) -> str:
    files = ", ".join(f"case_{n:04d}.nii.gz" for n in range(len(target.channels)))
    names = ", ".join(target.channels)
    return f"The model takes {len(target.channels)} channels together ({names}), and this is one. Give them as {files}."


def _many(members: Sequence[Item], target: Target, options: BatchOptions) -> Job:
    """Return the job of a case whose channels lie in files of their own."""
    first = members[0]
    single = Target(target.channels[:1], target.modalities)
    parts = [_one(item, single, replace(options, volume=None)) for item in members]
    worst = next((part for part in parts if part.verdict != "segment"), parts[0])
    return Job(
        id=first.id,
        inputs=tuple(path for item in members for path in item.paths),
        files=tuple(file for item in members for file in item.files),
        verdict=worst.verdict,
        reason=worst.reason,
        findings=tuple(dict.fromkeys(f for part in parts for f in part.findings)),
    )


def _refused(job: Job, because: Sequence[Finding]) -> Job:
    reason = " ".join(_sentences(f) for f in because)
    return replace(job, verdict="refused", reason=reason, findings=tuple(dict.fromkeys((*job.findings, *because))))


def _sentences(about: Finding) -> str:
    text = about.message[:1].upper() + about.message[1:].rstrip(".") + "."
    return f"{text} {about.remedy.rstrip('.')}." if about.remedy else text


def _stacked(volumes: Sequence[Volume]) -> Volume:
    """Return single-channel scans as one, on the first one's grid."""
    first = volumes[0]
    onto = [resample(volume, onto=first.geometry).array for volume in volumes]
    names = tuple(name for volume in volumes for name in volume.channels)
    return Volume(np.concatenate(onto), first.geometry, names)


def _unique(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs with ids told apart where inputs in different places have the same relative path."""
    taken: set[str] = set()
    unique = []
    for job in jobs:
        name, n = job.id, 1
        while name.lower() in taken:
            name, n = f"{job.id[:91]}-{short_hash(job.inputs[0], str(n))}", n + 1
        taken.add(name.lower())
        unique.append(replace(job, id=name))
    return tuple(unique)
