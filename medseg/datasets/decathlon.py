"""Medical Segmentation Decathlon: ``dataset.json`` with a list of image and label files (Antonelli 2022).

nnU-Net's first raw format has the same list, but its images carry channel numbers; both are read here, and so is the
``dataset`` table of nnU-Net's second format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.case import Case, case_name, safe_id, stem_of
from medseg.datasets.findings import finding
from medseg.datasets.folders import find_pair
from medseg.datasets.listing import (
    Listing,
    channels_from,
    entries,
    labels_from_mapping,
    plain_path,
    relative,
    split_ignore,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from medseg.datasets.findings import DatasetFinding
    from medseg.datasets.listing import Layout

DOCUMENT = "dataset.json"


def list_decathlon(root: Path, document: Mapping[str, Any]) -> Listing:
    """Return what the list ``training`` (or nnU-Net's table ``dataset``) of a ``dataset.json`` names."""
    table = document.get("dataset")
    rows = _table_rows(table) if isinstance(table, dict) else _training_rows(document.get("training"))
    channels = channels_from(document)
    cases: list[Case] = []
    findings: list[DatasetFinding] = []
    for position, row in enumerate(rows):
        case, faults = _case(row, position, root=root, n_channels=len(channels))
        findings += faults
        if case is not None:
            cases.append(case)
    findings += _unlisted(cases, findings, root)
    labels, ignore = split_ignore(document.get("labels"))
    name = str(document.get("name") or root.name)
    layout: Layout = "nnunet" if isinstance(table, dict) else "decathlon"
    return Listing(
        layout, root, tuple(cases), labels_from_mapping(labels), channels, tuple(findings), name, ignore=ignore
    )


def _table_rows(table: Mapping[str, Any]) -> list[Any]:
    return [{**row, "id": key} if isinstance(row, dict) else row for key, row in table.items()]


def _training_rows(rows: object) -> list[Any]:
    return rows if isinstance(rows, list) else []


def _case(row: object, position: int, *, root: Path, n_channels: int) -> tuple[Case | None, list[DatasetFinding]]:
    if not isinstance(row, dict):
        message = f"entry {position + 1} of {DOCUMENT} is not understood"
        return None, [finding("bad-entry", message, "Give it an image and a label", file=DOCUMENT)]
    named = row.get("images", row.get("image"))
    names = named if isinstance(named, list) else [named]
    paths = [plain_path(root, name) for name in names]
    mask = plain_path(root, row.get("label"))
    if not paths or mask is None or None in paths:
        return None, [_unsafe(position)]
    images = [image for path in paths if path is not None for image in _on_disk(path, n_channels)]
    case_id = safe_id(str(row.get("id") or case_name(images[0].name)), relative(images[0], root))
    missing = [path for path in (*images, mask) if not path.exists()]
    if missing:
        return None, [_missing(path, root, case=case_id) for path in missing]
    return Case(case_id, tuple(images), mask, str(row.get("group") or case_id)), []


def _on_disk(path: Path, n_channels: int) -> list[Path]:
    """Return the file named, or the channel files nnU-Net's first format has in its place."""
    if path.exists():
        return [path]
    stem = stem_of(path.name)
    suffix = path.name[len(stem) :]
    numbered = [path.with_name(f"{stem}_{channel:04d}{suffix}") for channel in range(max(1, n_channels))]
    return numbered if numbered[0].exists() else [path]


def _unlisted(cases: Iterable[Case], findings: Iterable[DatasetFinding], root: Path) -> list[DatasetFinding]:
    """Return a finding for each file in the folders of images and masks that the list leaves out."""
    folders = find_pair(root)
    if folders is None:
        return []
    known = {path for case in cases for path in (*case.images, case.reference)}
    named = {fault.file for fault in findings}
    files = [relative(path, root) for folder in folders for path in entries(folder)[0] if path not in known]
    remedy = f"Add it to the list in {DOCUMENT} if it is to be trained on"
    return [
        finding("unlisted-file", f"{file} is not listed in {DOCUMENT}", remedy, file=file)
        for file in files
        if file not in named
    ]


def _unsafe(position: int) -> DatasetFinding:
    message = f"entry {position + 1} of {DOCUMENT} names no file inside the data set"
    return finding("unsafe-path", message, "Name files by paths relative to the data set's folder", file=DOCUMENT)


def _missing(path: Path, root: Path, *, case: str) -> DatasetFinding:
    file = relative(path, root)
    remedy = f"Put the file in place, or take its entry out of {DOCUMENT}"
    return finding("missing-file", f"{file} is named in {DOCUMENT} but is not there", remedy, case=case, file=file)
