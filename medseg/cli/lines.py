"""What people are told of items, cases and findings: tables and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.cli.console import Printer
    from medseg.io.dicom import Inventory


_SHOWN_IDS = 3


def show_items(printer: Printer, inventory: Inventory, *, descriptions: bool) -> None:
    """Print what lies under a path; what a series is called only where it was asked for."""
    columns = ["id", "kind", "modality", "size", "spacing mm", "orientation", "status"]
    rows: list[list[object]] = [
        [i.id, i.kind, i.modality or "–", _size(i.shape), _spacing(i.spacing_mm), i.orientation, i.status]
        for i in inventory.items
    ]
    if descriptions:
        columns.append("description")
        for row, item in zip(rows, inventory.items, strict=True):
            row.append(_printable(item.traits.description))
    printer.table(str(inventory.path), columns, rows)
    for item in inventory.items:
        for finding in item.findings:
            printer.say(line_of(finding, item.id))


def show_cases(printer: Printer, document: dict[str, Any], out: Path) -> None:
    """Print how the cases of a batch ended, what to know of them, and how many ended how."""
    from medseg.io.dicom.findings import Finding

    told = [case for case in document["cases"] if case["status"] != "ignored"]
    rows = [(case["id"], case["status"], case["reason"] or ", ".join(case["outputs"])) for case in told]
    counts = ", ".join(f"{count} {status}" for status, count in document["counts"].items())
    if not told:
        printer.say(f"{counts}.")
        return
    printer.table(str(out), ("id", "status", "reason, or formats written"), rows)
    places: dict[Finding, list[str]] = {}
    for case in told:
        for fact in case["findings"] if case["status"] in {"done", "skipped"} else ():
            if fact["severity"] != "note":
                places.setdefault(Finding(**fact), []).append(case["id"])
    for finding, ids in places.items():
        printer.say(line_of(finding, _named(ids)))
    printer.say(f"{counts}. See {out / 'report.html'}.")


def _named(ids: Sequence[str]) -> str:
    """Return the first few of many ids, and how many more there are.

    Examples
    --------
    >>> _named(["ct-1", "ct-2"]), _named(["a", "b", "c", "d", "e"])
    ('ct-1, ct-2', 'a, b, c and 2 more')
    """
    more = len(ids) - _SHOWN_IDS
    return ", ".join(ids) if more <= 0 else f"{', '.join(ids[:_SHOWN_IDS])} and {more} more"


def nothing_found(document: dict[str, Any]) -> str:
    """Return the sentence for a batch without a case: whether nothing was there, or nothing was meant."""
    words = "nothing that could be segmented was found under the input, and nothing was written"
    unmeant = sum(any(f["code"] == "not-selected" for f in case["findings"]) for case in document["cases"])
    if not unmeant:
        return f"{words}. See what is there with medseg inspect."
    rule = document["options"]["select"]
    asked = f"the rule {rule!r}" if rule else "the rules of the channels"
    return f"{words}: {unmeant} left out by {asked}."


class _Fact(Protocol):
    """What the findings of a data set and of an inventory have in common."""

    @property
    def severity(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def remedy(self) -> str: ...


def line_of(finding: _Fact, place: str) -> str:
    """Return a finding as one line: how grave, what kind, where, what, and what to do."""
    sentences = (text.rstrip(".") + "." for text in (finding.message, finding.remedy) if text)
    return f"{finding.severity} {finding.code}: {f'{place}: ' if place else ''}{' '.join(sentences)}"


def _printable(text: str) -> str:
    """Return a text from a file without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text) or "–"


def _size(shape: Sequence[int] | None) -> str:
    """Return voxels along each axis."""
    return "×".join(str(n) for n in shape) if shape else "–"


def _spacing(spacing_mm: Sequence[float] | None) -> str:
    """Return millimetres along each axis."""
    return "×".join(f"{s:.4g}" for s in spacing_mm) if spacing_mm else "–"
