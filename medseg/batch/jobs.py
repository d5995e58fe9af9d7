"""What is there to do: every file under the inputs is part of one job, and every job has a verdict before it starts."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.batch.channels import Match, apart, match, rules_in_order, studies
from medseg.batch.job import Job, Target
from medseg.batch.selection import left_out
from medseg.errors import InputError
from medseg.io import describe, is_dicom
from medseg.io.dicom import inspect_folder
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.item import short_hash, told_apart
from medseg.io.voxels import COLOURS
from medseg.progress import ignore
from medseg.selection import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medseg.batch.options import BatchOptions
    from medseg.case import Case
    from medseg.io.dicom import Item
    from medseg.progress import Progress

_CHANNEL_FILE = re.compile(r"(?P<stem>.*)_(?P<channel>[0-9]{4})(?P<suffix>\.[^/]+)")  # as nnU-Net names them


def find_jobs(
    inputs: Sequence[Path], target: Target, *, out: Path | None, options: BatchOptions, progress: Progress = ignore
) -> tuple[Job, ...]:
    """Return a job for everything under the inputs, in the order found; what lies in `out` is passed over.

    Raises
    ------
    InputError
        Where an input is not there.
    PlanError
        Where the options' rules do not fit the model's channels.
    """
    rules = rules_in_order(options.channels, target.channels) if options.channels else ()
    items = told_apart(_items(inputs, out, progress))
    rule = parse(options.select or "")
    place = {item.id: n for n, item in enumerate(items)}
    numbered: list[tuple[int, Job]] = []
    series: list[Item] = []
    for members in _cases(items, target):
        why = left_out(members[0], rule)
        if why is None and rules and members[0].source is not None and members[0].status != "ignored":
            series.append(members[0])
            continue
        numbered += [(place[members[0].id], job) for job in _jobs(members, target, options, why=why)]
    for study in studies(series):
        found = match(study, rules, target.channels)
        numbered += [(place[study[0].id], job) for job in _channel_jobs(found, target, options)]
    return _unique([job for _, job in sorted(numbered, key=lambda pair: pair[0])])


def job_of(case: Case, target: Target, *, options: BatchOptions) -> Job:
    """Return the job of a data set's case, under the case's own id."""
    names = tuple(path.name for path in case.images)
    if not any(path.exists() and is_dicom(path) for path in case.images):
        first, *others = (Job(case.id, (path.name,), (path,), "segment") for path in case.images)
        return replace(first, inputs=names, others=tuple(others))
    if len(case.images) == 1:
        return replace(_only_series(case.images[0], target, options), id=case.id)
    channels = target.one_by_one() if len(case.images) == len(target.channels) else (target,) * len(case.images)
    parts = [_only_series(path, one, options) for path, one in zip(case.images, channels, strict=True)]
    return replace(_joined(parts), id=case.id)


def _only_series(path: Path, target: Target, options: BatchOptions) -> Job:
    """Return the job of the one scan under a path; where there is not one, a refusal."""
    found = find_jobs((path,), target, out=None, options=replace(options, select="", channels=()))
    usable = [job for job in found if job.verdict == "segment"]
    if len(usable) == 1:
        return usable[0]
    words = "The case's folders hold" if path.is_dir() else "The file holds"
    reason = f"{words} {len(usable)} series that can be segmented, not one."
    return Job(path.name, (), (), "refused", reason=reason)


def _items(inputs: Sequence[Path], out: Path | None, progress: Progress) -> list[Item]:
    """Return the items of all inputs; a file that two inputs share counts once."""
    items: list[Item] = []
    seen: set[Path] = set()
    ours = None if out is None else out.resolve()
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
        may_be_channel = item.kind in {"volume", "image"} and not _is_colour_picture(item)
        match = _CHANNEL_FILE.fullmatch(item.paths[0]) if may_be_channel else None
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


def _is_colour_picture(item: Item) -> bool:
    """Tell whether a file holds all colours of a picture, and so is no channel of one, whatever number it bears."""
    return item.kind == "image" and item.source is None and describe(item.files[0]).volumes == len(COLOURS)


def _cases(items: Sequence[Item], target: Target) -> Iterable[tuple[Item, ...]]:
    """Return the items that may be one case together: the files of its channels, else each by itself."""
    return _by_case(items).values() if len(target.channels) > 1 else ((item,) for item in items)


def _jobs(members: Sequence[Item], target: Target, options: BatchOptions, *, why: Finding | None) -> Iterable[Job]:
    """Return the jobs of items that belong together; with `why`, they are not meant."""
    if why is not None:
        return (_one(item, target, options) if item.status == "ignored" else _not_taken(item, why) for item in members)
    if len(members) == len(target.channels) > 1:
        single = Target(target.channels[:1], target.modalities)
        return (_joined([_one(item, single, replace(options, volume=None)) for item in members]),)
    return (_one(item, target, options) for item in members)


def _channel_jobs(found: Match, target: Target, options: BatchOptions) -> Iterable[Job]:
    """Return the case a study makes, and what of the study is no part of it."""
    if found.items:
        if found.faults:
            faults = found.faults
            yield _refused(_joined([_plain(item) for item in found.items]), faults)
        else:
            singles = zip(found.items, target.one_by_one(), strict=True)
            case = _joined([_one(item, single, options) for item, single in singles])
            objection = None if options.assume_registered else apart(found.items)
            yield _refused(case, [objection]) if objection is not None and case.verdict == "segment" else case
    for item in found.spare:
        yield _not_taken(item, finding("not-selected", "it meets the rule of no channel"))


def _plain(item: Item) -> Job:
    return Job(item.id, item.paths, item.files, "segment", findings=item.findings)


def _not_taken(item: Item, why: Finding) -> Job:
    return replace(_plain(item), verdict="ignored", reason=_sentences(why), findings=(*item.findings, why))


def _one(item: Item, target: Target, options: BatchOptions) -> Job:
    """Return the job of an item that is a case by itself."""
    job = _plain(item)
    if item.status == "ignored":
        return replace(job, verdict="ignored", reason=item.reason)
    faults = [f for f in item.findings if f.effect == "refused"] or _objections(item, target, options)
    if faults:
        return _refused(job, faults)
    holds_channels = item.source is None and 1 < len(target.channels) == item.volumes
    try:
        job = _repaired(job, item, replace(options, volume=None) if holds_channels else options)
    except InputError as error:
        return _refused(job, [finding(error.code or "unreadable", error.found, effect="refused")])
    faults = [f for f in job.findings if f.effect == "repairable" and not (holds_channels and f.code == "four-d")]
    if not faults and len(target.channels) > 1 and not holds_channels and item.kind != "image":
        faults = [_too_few(target, item)]
    return _refused(job, faults) if faults else job


def _repaired(job: Job, item: Item, options: BatchOptions) -> Job:
    """Return the job with every step taken that the options allow and the item needs; its findings say which."""
    source, found = item.source, item.findings
    if source is not None:
        before, source = source.findings, source.repaired(options.repairs)
        found = (*(f for f in found if f not in before or f in source.findings), *source.findings)
    chosen = options.volume if item.volumes > 1 else None
    if chosen is not None:
        words = f"volume {chosen} was taken, of 0 to {item.volumes - 1}, as --volume asks"
        found = (*(f for f in found if f.code != "four-d"), finding("four-d", words, effect="ok", remedy=""))
    found = tuple(dict.fromkeys(found))
    volume = chosen if source is None else None
    return replace(job, findings=found, source=source, volume=volume, fill=options.on_nonfinite == "fill")


def _objections(item: Item, target: Target, options: BatchOptions) -> list[Finding]:
    """Return what stands between a readable item and this model, if anything."""
    if options.volume is not None and options.volume >= item.volumes > 1:
        words = f"there is no volume {options.volume}: the scan has 0 to {item.volumes - 1}"
        return [finding("four-d", words, effect="refused")]
    if item.source is not None and not (options.any_modality or target.takes(item.modality)):
        made_for = ", ".join(target.modalities)
        return [
            finding("wrong-modality", f"the modality is {item.modality or 'not stated'}, the model is for {made_for}")
        ]
    return []


def _too_few(target: Target, item: Item) -> Finding:
    names = ", ".join(target.channels)
    words = f"the model takes {len(target.channels)} channels together ({names}), and this is one"
    if item.source is not None:
        return finding("missing-channel", words)
    files = ", ".join(f"case_{n:04d}.nii.gz" for n in range(len(target.channels)))
    return finding("missing-channel", words, remedy=f"Give them as {files}")


def _joined(parts: Sequence[Job]) -> Job:
    """Return the job of a case whose channels lie in files of their own: the first one's, with the others beside it."""
    worst = next((part for part in parts if part.verdict != "segment"), parts[0])
    return replace(
        parts[0],
        inputs=tuple(path for part in parts for path in part.inputs),
        verdict=worst.verdict,
        reason=worst.reason,
        findings=tuple(dict.fromkeys(f for part in parts for f in part.findings)),
        others=tuple(parts[1:]),
    )


def _refused(job: Job, because: Sequence[Finding]) -> Job:
    reason = " ".join(_sentences(f) for f in because)
    return replace(job, verdict="refused", reason=reason, findings=tuple(dict.fromkeys((*job.findings, *because))))


def _sentences(about: Finding) -> str:
    text = about.message[:1].upper() + about.message[1:].rstrip(".") + "."
    return f"{text} {about.remedy.rstrip('.')}." if about.remedy else text


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
