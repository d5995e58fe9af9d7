"""The page about an output folder of ``medseg segment``: every case, its volumes, its picture, its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medseg.report.objects import counts_of, with_counts
from medseg.report.page import Html, element, join, number, page, picture, swatch, table, tiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TONE = {"done": "good", "skipped": "good", "refused": "warn", "failed": "bad", "ignored": "faint"}
_ORDER = ("failed", "refused", "done", "skipped")
_DECIMALS_ML = 2


def segment_report(manifest: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return the page of an output folder.

    Parameters
    ----------
    manifest : mapping
        As ``manifest.json`` holds it (docs/architecture.md, section 6). A label may have a ``color``.
    pictures : mapping of case id to bytes
        PNG previews (`medseg.report.overlay_png`) of some or all cases.

    Returns
    -------
    str
        An HTML page that needs nothing else; links lead to the masks beside it.

    Examples
    --------
    >>> text = segment_report({"cases": [{"id": "ct-1", "status": "refused", "reason": "3 < 4 slices"}]}, {})
    >>> "3 &lt; 4 slices" in text
    True
    """
    cases = [case for case in manifest.get("cases", []) if case.get("status") != "ignored"]
    cases.sort(key=lambda case: _ORDER.index(case["status"]) if case.get("status") in _ORDER else 0)
    ignored = [case for case in manifest.get("cases", []) if case.get("status") == "ignored"]
    counts = manifest.get("counts") or {}
    model = manifest.get("model") or {}
    body: list[object] = [
        tiles(
            (status, counts[status])
            for status in ("done", "skipped", "refused", "failed", "ignored")
            if status in counts
        )
    ]
    body += [element("h2", "Cases"), _case_table(cases)]
    shown = [case for case in cases if case.get("id") in pictures]
    if shown:
        body += [
            element("h2", "Pictures"),
            element("div", *(_card(case, pictures[case["id"]]) for case in shown), class_="cards"),
        ]
    if ignored:
        rows = [(_inputs(case), case.get("reason", "")) for case in ignored]
        body.append(
            element(
                "details",
                element("summary", f"{len(ignored)} files or series are not images to segment"),
                table(("input", "why"), rows, text_columns=2),
            )
        )
    return page(f"Segmentation by {model.get('name', 'a model')}", *body, subtitle=_subtitle(manifest))


def _subtitle(manifest: Mapping[str, Any]) -> str:
    parts = [f"medseg {manifest['medseg']}" if manifest.get("medseg") else "", str(manifest.get("started") or "")]
    digest = (manifest.get("model") or {}).get("sha256")
    parts.append(f"model {str(digest)[:12]}" if digest else "")
    return " · ".join(part for part in parts if part)


def _case_table(cases: Sequence[Mapping[str, Any]]) -> Html:
    header = ("case", "status", "labels and volumes", "files", "confidence", "seconds")
    return table(header, (_row(case) for case in cases), text_columns=4)


def _row(case: Mapping[str, Any]) -> tuple[object, ...]:
    status = str(case.get("status", ""))
    words = join([element("b", status, class_=_TONE.get(status, "")), *_remarks(case)])
    outputs = case.get("outputs") or {}
    links = [element("a", kind, href=_relative(path)) for kind, path in outputs.items() if isinstance(path, str)]
    seconds = sum(v for v in (case.get("seconds") or {}).values() if isinstance(v, (int, float)))
    name = join([case.get("id", ""), element("div", _inputs(case), class_="faint")])
    return (
        name,
        words,
        _labels(case),
        join([join(links, ", "), *_checked(case)]),
        number(case.get("confidence"), 2),
        number(seconds, 1) if seconds else None,
    )


def _checked(case: Mapping[str, Any]) -> list[Html]:
    """Say that every file was opened again by other means than it was written by, where it was."""
    outputs, checks = case.get("outputs") or {}, case.get("checks") or {}
    if not outputs or not all(checks.get(kind, {}).get("passed") for kind in outputs):
        return []
    readers = "; ".join(f"{kind}: {checks[kind].get('reader', '')}" for kind in outputs)
    return [element("div", "opened again and found right", class_="faint", title=readers)]


def _remarks(case: Mapping[str, Any]) -> list[Html]:
    lines = [element("div", case["reason"])] if case.get("reason") else []
    lines += [element("div", f"flag: {flag}", class_="warn") for flag in case.get("flags") or ()]
    for finding in case.get("findings") or ():
        text = finding.get("message", "") if isinstance(finding, dict) else finding
        if text and text != case.get("reason"):
            lines.append(element("div", text, class_="faint"))
    return lines


def _labels(case: Mapping[str, Any]) -> Html:
    """List the labels that were found, and how many were not."""
    found = [label for label in case.get("labels") or () if label.get("voxels", 1)]
    absent = len(case.get("labels") or ()) - len(found)
    counts = counts_of(case)
    lines = []
    for label in found:
        line = element("div", swatch(label.get("color")), f"{label.get('name')}: {_volume(label)}", class_="name")
        lines.append(with_counts(line, counts.get(label.get("id", 0))))
    if absent:
        lines.append(element("div", f"{absent} not found", class_="faint"))
    return join(lines)


def _volume(label: Mapping[str, Any]) -> str:
    return f"{number(label.get('volume_ml'), _DECIMALS_ML) or '–'} ml"


def _inputs(case: Mapping[str, Any]) -> str:
    inputs = [str(path) for path in case.get("inputs") or ()]
    return inputs[0] + (f" and {len(inputs) - 1} more" if len(inputs) > 1 else "") if inputs else ""


def _card(case: Mapping[str, Any], png: bytes) -> Html:
    name = str(case.get("id"))
    return element("div", element("h3", name), picture(png, f"Mask outlines on slices of {name}"), class_="card")


def _relative(path: str) -> str:
    """Return a link that stays in the folder, whatever the manifest says: no scheme, no root, no way up."""
    steps = [step for step in path.replace("\\", "/").split("/") if step not in {"", ".", ".."}]
    return "./" + quote("/".join(steps))
