"""The page about an evaluation: a table of labels, the worst cases, a comparison where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.report.objects import instance_section
from medseg.report.page import Html, element, join, number, page, picture, swatch, table, tiles
from medseg.report.plot import dot_strip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLUMNS = (
    ("dice", "Dice", 3),
    ("iou", "IoU", 3),
    ("hd95_mm", "HD95 mm", 2),
    ("assd_mm", "ASSD mm", 2),
    ("nsd", "NSD", 3),
    ("volume_error_ml", "volume error ml", 2),
)
_COMPARED = _COLUMNS[:5]
_WORST = 10
_UNLIKELY = 0.05


def evaluation_report(document: Mapping[str, Any], pictures: Mapping[str, bytes] | None = None) -> str:
    """Return the page of an evaluation.

    Parameters
    ----------
    document : mapping
        As ``medseg evaluate --json`` prints it (docs/architecture.md, section 6), with ``comparison`` or without.
    pictures : mapping of case id to bytes, optional
        PNG pictures of some cases, shown beside the worst ones.

    Returns
    -------
    str
        An HTML page that needs nothing else.

    Examples
    --------
    >>> print(evaluation_report({"cases": [], "summary": {}, "missing": []})[:15])
    <!doctype html>
    """
    rows = [row for row in document.get("cases", []) if row.get("label") != "all"]
    summary: Mapping[str, Any] = document.get("summary", {})
    cases = {row.get("id") for row in document.get("cases", [])}
    overall = summary.get("overall", {})
    mean_dice = summary.get("mean", {}).get("dice", {}).get("mean")
    facts = [
        ("cases", len(cases)),
        ("mean Dice", number(mean_dice)),
        ("mean IoU, pooled", number(overall.get("miou"))),
        ("mean accuracy, pooled", number(overall.get("mean_accuracy"))),
        ("frequency weighted IoU, pooled", number(overall.get("frequency_weighted_iou"))),
        ("pixel accuracy", number(overall.get("pixel_accuracy"), 4)),
    ]
    body: list[object] = [tiles(facts), *_warnings(document), *instance_section(document.get("instances"))]
    body += [element("h2", "Labels"), _label_table(document, rows)]
    body += _comparison(document.get("comparison"))
    body += [element("h2", "Lowest Dice"), *_worst(rows, pictures or {})]
    every = table(
        ("case", "label", *(name for _, name, _ in _COLUMNS)), (_case_row(row) for row in rows), text_columns=2
    )
    body.append(element("details", element("summary", f"All {len(rows)} rows"), every))
    tolerance = document.get("nsd_tolerance_mm", 1.0)
    subtitle = (
        f"Surface metrics after Nikolov et al. 2018, NSD at {tolerance} mm; 95 % intervals by bootstrap over cases."
    )
    return page("Evaluation", *body, subtitle=subtitle)


def _warnings(document: Mapping[str, Any]) -> list[Html]:
    missing = document.get("missing") or []
    lines = [element("p", note, class_="warn") for note in document.get("notes") or ()]
    if missing:
        lines.insert(0, element("p", f"No prediction, counted as zero: {', '.join(map(str, missing))}", class_="bad"))
    return lines


def _label_table(document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Html:
    colours = {entry.get("name"): entry.get("color") for entry in document.get("labels") or ()}
    summary = {name: metrics for name, metrics in document.get("summary", {}).items() if name != "overall"}
    undefined = {name: (metrics.get("hd95_mm", {}).get("undefined"),) for name, metrics in summary.items()}
    if not any(count for (count,) in undefined.values()):
        undefined = {}
    lines = []
    for name, metrics in summary.items():
        dice = [row["dice"] for row in rows if row.get("label") == name and isinstance(row.get("dice"), (int, float))]
        cells = [_mean(metrics.get(key, {}), digits) for key, _, digits in _COLUMNS]
        strip = dot_strip(dice, low=0.0, high=1.0) if dice else ""
        shown = name if name in colours or dice else element("i", name)
        label = element("div", swatch(colours.get(name)), shown, class_="name")
        lines.append((label, strip, *cells, metrics.get("dice", {}).get("n"), *undefined.get(name, ())))
    header = ("label", "Dice, 0 to 1", *(name for _, name, _ in _COLUMNS), "n", *(("no surface",) if undefined else ()))
    return table(header, lines, text_columns=2)


def _mean(entry: Mapping[str, Any], digits: int) -> Html:
    span = entry.get("ci95")
    text = (
        f"{number(span[0], digits)} to {number(span[1], digits)}" if isinstance(span, list) and len(span) == 2 else ""
    )
    return join([Html.of(number(entry.get("mean"), digits)), element("div", text, class_="faint")])


def _worst(rows: Sequence[Mapping[str, Any]], pictures: Mapping[str, bytes]) -> list[Html]:
    scored = sorted((row for row in rows if isinstance(row.get("dice"), (int, float))), key=lambda row: row["dice"])[
        :_WORST
    ]
    if not scored:
        return [element("p", "No case has a Dice.", class_="faint")]
    header = ("case", "label", *(name for _, name, _ in _COLUMNS))
    shown = dict.fromkeys(str(row["id"]) for row in scored if row["id"] in pictures)
    cards = [
        element("div", element("h3", case), picture(pictures[case], f"Mask outlines of {case}"), class_="card")
        for case in shown
    ]
    return [table(header, (_case_row(row) for row in scored), text_columns=2), element("div", *cards, class_="cards")]


def _case_row(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (row.get("id"), row.get("label"), *(number(row.get(key), digits) for key, _, digits in _COLUMNS))


def _comparison(comparison: Mapping[str, Any] | None) -> list[Html]:
    if not comparison:
        return []
    lines = []
    for name, metrics in comparison.get("labels", {}).items():
        lines.append(
            (
                name,
                *(_difference(metrics.get(key, {}), digits) for key, _, digits in _COMPARED),
                metrics.get("dice", {}).get("n"),
            )
        )
    words = (
        f"Differences, first minus second, over {comparison.get('cases')} cases both have, with 95 % bootstrap "
        "intervals and two-sided p of Wilcoxon's signed-rank test (labels: adjusted by Holm)."
    )
    return [
        element("h2", "Against the other predictions"),
        element("p", words, class_="faint"),
        table(("label", *(name for _, name, _ in _COMPARED), "n"), lines),
    ]


def _difference(entry: Mapping[str, Any], digits: int) -> Html:
    value, p_value = entry.get("mean_difference"), entry.get("p_holm", entry.get("p_value"))
    if value is None:
        return Html.of(None)
    span = entry.get("ci95") or []
    words = " to ".join(f"{v:+.{digits}f}" for v in span)
    tone = "" if p_value is None or p_value >= _UNLIKELY else "warn"
    p_text = "" if p_value is None else f"p = {p_value:.2g}"
    return join(
        [f"{value:+.{digits}f}", element("div", words, class_="faint"), element("div", p_text, class_=tone or "faint")]
    )
