"""Accepted and fixed cases as a training set in nnU-Net's raw layout, with where everything came from."""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg import __version__
from medseg.case import Case
from medseg.datasets.patients import groups_of, origin_of_case
from medseg.errors import InputError, OutputError
from medseg.io import suffix_of, write_segmentation, write_volume
from medseg.io.atomic import write_text
from medseg.io.hashing import file_sha256
from medseg.labels import LabelSet
from medseg.progress import Progress, Step, ignore
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.review.desk import Desk
    from medseg.review.queue import Entry

SUFFIX = ".nii.gz"
DOCUMENT, PROVENANCE = "dataset.json", "provenance.json"
_TAKEN = {"accepted", "fixed"}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    dataset : Path
        The training set.
    cases : tuple of dict
        An entry per case, as in ``provenance.json``.
    left_out : dict
        How many cases of which status were left out.
    """

    dataset: Path
    cases: tuple[dict[str, Any], ...]
    left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as ``medseg review --export --json`` prints them."""
        return {"schema": 1, "dataset": str(self.dataset), "cases": list(self.cases), "left_out": self.left_out}


def export_reviewed(desk: Desk, dataset: Path, *, progress: Progress = ignore) -> ExportReport:
    """Write the accepted and fixed cases of a review as a training set; it appears whole or not at all.

    The layout is nnU-Net's raw one (``imagesTr/<id>_0000.nii.gz``, ``labelsTr/<id>.nii.gz``, ``dataset.json``), which
    `medseg.datasets` reads. A scan that is such a file already is copied, and the copy's hash compared; other scans are
    written anew. Cases of one DICOM study share a group in ``dataset.json``, so that no split parts a patient.

    Parameters
    ----------
    desk : Desk
        The review.
    dataset : Path
        The folder to make; it must not hold anything.
    progress : Progress, optional
        Told before each case (stage ``"export"``); may cancel.

    Raises
    ------
    InputError
        Where no case is accepted or fixed, or a scan or mask cannot be read.
    OutputError
        Where the folder holds something, or cannot be written.
    """
    _require_empty(dataset)
    entries = [entry for entry in desk.queue if entry.status in _TAKEN]
    if not entries:
        raise InputError(
            "no case is accepted or fixed", where=str(desk.folder), remedy="Review some first: medseg review FOLDER"
        )
    partial = dataset.with_name(f".{dataset.name[:40]}-{secrets.token_hex(4)}.partial")
    try:
        for folder in ("imagesTr", "labelsTr"):
            (partial / folder).mkdir(parents=True)
        records, labels, n_channels = [], LabelSet(()), 0
        for number, entry in enumerate(sorted(entries, key=lambda entry: entry.case.id)):
            progress(Step("export", number, len(entries), entry.case.id))
            record, mask, channels = _written(desk, entry, partial)
            labels, n_channels = _same(entry, (labels, n_channels), (mask.labels, channels)), channels
            records.append(record)
        _document(partial, entries, records, labels=labels, n_channels=n_channels)
        _provenance(partial, desk, records)
        _put_in_place(partial, dataset)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(f"the training set could not be written ({reason})", where=str(dataset)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    desk.note_export(dataset)
    left = {status: count for status, count in desk.queue.counts.items() if status not in _TAKEN}
    return ExportReport(dataset, tuple(records), left)


def _written(desk: Desk, entry: Entry, partial: Path) -> tuple[dict[str, Any], Segmentation, int]:
    """Write one case; return what is to be said of it, its mask, and the number of its channels."""
    case = entry.case
    scan = case.read_image()
    predicted = case.read_mask(scan)
    versions = desk.versions(case)
    version = versions.get(entry.version)
    mask = predicted
    if version.number:
        mask = case.on_scan(versions.read(version.number, labels=predicted.labels), scan)
    images = _write_image(case.images, scan, partial / "imagesTr" / case.id)
    label = partial / "labelsTr" / f"{case.id}{SUFFIX}"
    write_segmentation(mask, label)
    record = {
        "id": case.id,
        "status": entry.status,
        "version": version.number,
        "who": entry.who,
        "at": entry.at,
        "comment": entry.comment,
        "model_sha256": case.model_sha256,
        "mask_sha256": version.sha256,
        "predicted_sha256": versions.get(0).sha256,
        "source": [path.name for path in case.images],
        "images": {path.name: file_sha256(path) for path in images},
        "label_sha256": file_sha256(label),
    }
    return record, mask, scan.array.shape[0]


def _write_image(sources: Sequence[Path], scan: Volume, stem: Path) -> list[Path]:
    """Write every channel of a scan as a file of its own; what is one file of one channel is copied as it is."""
    channels = scan.array.shape[0]
    if len(sources) == channels and all(path.is_file() and suffix_of(path) == SUFFIX for path in sources):
        return [_copied(path, stem, n) for n, path in enumerate(sources)]
    paths = [stem.with_name(f"{stem.name}_{n:04d}{SUFFIX}") for n in range(channels)]
    for n, path in enumerate(paths):
        write_volume(Volume(np.ascontiguousarray(scan.array[n : n + 1]), scan.geometry, (scan.channels[n],)), path)
    return paths


def _copied(source: Path, stem: Path, channel: int) -> Path:
    target = stem.with_name(f"{stem.name}_{channel:04d}{SUFFIX}")
    shutil.copyfile(source, target)
    if file_sha256(target) != file_sha256(source):
        raise OutputError("the copy of a scan is not equal to it", where=target.name, remedy="Check the disk")
    return target


def _same(entry: Entry, so_far: tuple[LabelSet, int], here: tuple[LabelSet, int]) -> LabelSet:
    """Return the labels of the set; all cases must have the same number of channels, and ids of one name."""
    labels, channels = so_far
    if channels and channels != here[1]:
        raise InputError(
            f"the scan has {here[1]} channels", expected=f"{channels}, as the cases before", where=entry.case.id
        )
    own = {label.id: label for label in labels}
    for label in here[0]:
        known = own.setdefault(label.id, label)
        if known.name != label.name:
            raise InputError(
                f"the label {label.id} is called {label.name!r}",
                expected=f"{known.name!r}, as in the cases before",
                where=entry.case.id,
            )
    return LabelSet(tuple(own.values()))


def _document(
    partial: Path, entries: Sequence[Entry], records: list[dict[str, Any]], *, labels: LabelSet, n_channels: int
) -> None:
    """Write ``dataset.json``: nnU-Net's keys, and its table of cases with the group of each."""
    cases = [Case(entry.case.id, entry.case.images) for entry in sorted(entries, key=lambda entry: entry.case.id)]
    groups = groups_of(cases, [origin_of_case(case) for case in cases])
    table = {
        record["id"]: {
            "images": [f"imagesTr/{name}" for name in record["images"]],
            "label": f"labelsTr/{record['id']}{SUFFIX}",
            "group": group,
        }
        for record, group in zip(records, groups, strict=True)
    }
    document = {
        "channel_names": {str(n): _channel_name(n, n_channels) for n in range(n_channels)},
        "labels": {"background": 0} | {label.name: label.id for label in labels},
        "numTraining": len(records),
        "file_ending": SUFFIX,
        "dataset": table,
    }
    write_text(partial / DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _channel_name(n: int, count: int) -> str:
    return "image" if count == 1 else f"image_{n}"


def _provenance(partial: Path, desk: Desk, records: list[dict[str, Any]]) -> None:
    entries, digest = desk.head()
    document = {
        "schema": 1,
        "medseg": __version__,
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": desk.who,
        "log": {"entries": entries, "digest": digest},
        "cases": records,
    }
    write_text(partial / PROVENANCE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _require_empty(dataset: Path) -> None:
    if dataset.exists() and (not dataset.is_dir() or any(dataset.iterdir())):
        raise OutputError("the place for the training set holds something", where=str(dataset), remedy="Name another")


def _put_in_place(partial: Path, dataset: Path) -> None:
    if dataset.is_dir():
        dataset.rmdir()  # empty, as was checked
    partial.replace(dataset)
