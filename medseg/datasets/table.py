"""A CSV file with one case a row: ``id,image[,image_2 ...],label[,group]``, paths relative to the file.

An image is a file or a folder that holds one readable DICOM series; a label is a mask, a SEG or RTSTRUCT, or a folder
that holds exactly one of these two.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from medseg.case import Case, safe_id
from medseg.datasets.findings import finding
from medseg.datasets.label_file import read_label_file
from medseg.datasets.listing import Listing, plain_path, relative
from medseg.errors import InputError
from medseg.labels import LabelSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.datasets.findings import DatasetFinding

MAX_CSV_BYTES = 64_000_000


def list_table(path: Path) -> Listing:
    """Return what a CSV file names.

    Raises
    ------
    InputError
        Where it cannot be read, or lacks a column.
    """
    columns, rows = _read(path)
    missing = sorted({"id", "image", "label"} - set(columns))
    if missing:
        raise InputError(
            f"the table has no column {missing[0]!r}", expected="id,image[,image_2 ...],label[,group]", where=str(path)
        )
    image_columns = sorted((c for c in columns if _is_image(c)), key=_channel_number)
    root = path.parent
    cases: list[Case] = []
    findings: list[DatasetFinding] = []
    for line, row in enumerate(rows, start=2):
        images = [plain_path(root, row.get(column)) for column in image_columns]
        mask = plain_path(root, row.get("label"))
        name = (row.get("id") or "").strip()
        present = [image for image in images if image is not None]
        if not name or mask is None or len(present) != len(images):
            findings.append(_unsafe(path.name, line))
            continue
        case_id = safe_id(name, name)
        absent = [p for p in (*present, mask) if not p.exists()]
        findings += [_missing(p, path, line=line, case=case_id) for p in absent]
        if not absent:
            cases.append(Case(case_id, tuple(present), mask, (row.get("group") or "").strip()))
    rules = read_label_file(root)
    labels = LabelSet(()) if rules is None else rules.labels
    return Listing("table", root, tuple(cases), labels, findings=tuple(findings), name=path.stem, rules=rules)


def _read(path: Path) -> tuple[tuple[str, ...], list[Mapping[str, str]]]:
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise InputError(f"the table has {path.stat().st_size} bytes", expected="a list of files", where=str(path))
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=";" if ";" in first and "," not in first else ",")
            columns = tuple((name or "").strip().lower() for name in reader.fieldnames or ())
            reader.fieldnames = list(columns)
            return columns, list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"the table cannot be read ({type(error).__name__})", where=str(path), remedy="Save it as CSV in UTF-8"
        ) from error


def _is_image(column: str) -> bool:
    return column == "image" or (column.startswith("image_") and column[6:].isdecimal())


def _channel_number(column: str) -> int:
    return int(column[6:] or 1)


def _unsafe(table: str, line: int) -> DatasetFinding:
    message = f"line {line} of {table} lacks an id, or names no file inside the table's folder"
    return finding("unsafe-path", message, "Give id, image and label, with paths relative to the table", file=table)


def _missing(path: Path, table: Path, *, line: int, case: str) -> DatasetFinding:
    file = relative(path, table.parent)
    message = f"{file} is named in line {line} of {table.name} but is not there"
    return finding("missing-file", message, "Put the file in place, or take the line out", case=case, file=file)
