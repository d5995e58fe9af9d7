"""A CSV file with one case a row: ``id,image[,image_2 ...],label[,group]``, paths relative to the file or absolute.

An image is a file or a folder that holds one readable DICOM series; a label is a mask, a SEG or RTSTRUCT, or a folder
that holds exactly one of these two. The table is a person's own list, so it may name files anywhere.
"""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING

from medseg.case import Case, safe_id
from medseg.datasets.findings import finding
from medseg.datasets.label_file import read_label_file
from medseg.datasets.listing import Listing, relative
from medseg.errors import InputError
from medseg.labels import LabelSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medseg.datasets.findings import DatasetFinding

MAX_CSV_BYTES = 64_000_000
COLUMNS = "id,image[,image_2 ...],label[,group]"
_MORE = "\0more"  # under which what is beyond the last column is kept


def list_table(path: Path) -> Listing:
    """Return what a CSV file names.

    Raises
    ------
    InputError
        Where it cannot be read, lacks a column, or has one that is taken for a misspelt one.
    """
    columns, rows = _read(path)
    image_columns = _image_columns(columns, path)
    cases: list[Case] = []
    findings = _strange_columns(columns, path.name)
    for line, row in enumerate(rows, start=2):
        case, faults = _case(row, line, path=path, image_columns=image_columns)
        findings += faults
        cases += [case] if case is not None else []
    rules = read_label_file(path.parent)
    labels = LabelSet(()) if rules is None else rules.labels
    return Listing("table", path.parent, tuple(cases), labels, findings=tuple(findings), name=path.stem, rules=rules)


def _read(path: Path) -> tuple[tuple[str, ...], list[Mapping[str, str]]]:
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise InputError(f"the table has {path.stat().st_size} bytes", expected="a list of files", where=str(path))
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = max(",;\t", key=first.count)  # the comma, where none occurs
            reader = csv.DictReader(stream, delimiter=delimiter, restkey=_MORE)
            columns = tuple((name or "").strip().lower() for name in reader.fieldnames or ())
            reader.fieldnames = list(columns)
            return columns, list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"the table cannot be read ({type(error).__name__})", where=str(path), remedy="Save it as CSV in UTF-8"
        ) from error


def _image_columns(columns: Sequence[str], path: Path) -> list[str]:
    """Return the columns of images by channel, or refuse a table whose columns leave a doubt."""
    missing = sorted({"id", "image", "label"} - set(columns))
    if missing:
        raise InputError(f"the table has no column {missing[0]!r}", expected=COLUMNS, where=str(path))
    numbers = [(_channel_number(column), column) for column in columns if _is_image(column)]
    twice = [column for column, count in Counter(columns).items() if column and count > 1]
    twice += [f"image_{number}" for number, count in Counter(n for n, _ in numbers).items() if count > 1]
    if twice:
        raise InputError(f"the table has the column {twice[0]!r} twice", expected=COLUMNS, where=str(path))
    odd = [column for column in columns if column.startswith("image") and not _is_image(column)]
    if odd:
        raise InputError(f"the table has a column {odd[0]!r}", expected=COLUMNS, where=str(path))
    return [column for _, column in sorted(numbers)]


def _strange_columns(columns: Iterable[str], table: str) -> list[DatasetFinding]:
    strange = [repr(c) for c in columns if c and c not in {"id", "label", "group"} and not _is_image(c)]
    if not strange:
        return []
    message = f"{table} has columns that are not read: {', '.join(strange)}"
    return [finding("unread-column", message, "Call the column of patients 'group'; others may stay", file=table)]


def _case(
    row: Mapping[str, str], line: int, *, path: Path, image_columns: Sequence[str]
) -> tuple[Case | None, list[DatasetFinding]]:
    """Return the case of a row, or what is wrong with it."""
    name = (row.get("id") or "").strip()
    files = [_named(row.get(column), path.parent) for column in (*image_columns, "label")]
    empty = [c for c, given in zip(("id", *image_columns, "label"), (name, *files), strict=True) if not given]
    if row.get(_MORE) or empty:
        what = f"has no {empty[0]}" if empty else "has more fields than the table has columns"
        message = f"line {line} of {path.name} {what}"
        return None, [finding("bad-entry", message, f"Fill it in as {COLUMNS}", file=path.name)]
    case_id = safe_id(name, name)
    present = [file for file in files if file is not None]
    absent = [file for file in present if not (file.is_file() or file.is_dir())]
    if absent:
        return None, [_missing(file, path, line=line, case=case_id) for file in absent]
    return Case(case_id, tuple(present[:-1]), present[-1], (row.get("group") or "").strip()), []


def _named(text: str | None, root: Path) -> Path | None:
    """Return the path a cell names, relative to the table's folder unless it is absolute."""
    if text is None or not text.strip() or "\0" in text:
        return None
    return root / text.strip().replace("\\", "/")


def _is_image(column: str) -> bool:
    return column == "image" or (column.startswith("image_") and column[6:].isdecimal())


def _channel_number(column: str) -> int:
    return int(column[6:] or 1)


def _missing(path: Path, table: Path, *, line: int, case: str) -> DatasetFinding:
    file = relative(path, table.parent)
    message = f"{file} is named in line {line} of {table.name} but is not there"
    return finding("missing-file", message, "Put the file in place, or take the line out", case=case, file=file)
