"""The page about a training run: what was trained on what, curves, and the scores of its validation cases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from medseg.report.page import Html, element, number, page, picture, table
from medseg.report.plot import line_plot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EPOCH = "epoch"
_DIGITS = 4
_LAST_ROWS = 15
_DICE, _MEAN = "dice", "mean"
# What belongs into one plot: its title, and the words that column names have.
_PLOTS = (("Loss", ("loss",)), ("Validation Dice", (_DICE,)), ("Learning rate", ("lr", "learning_rate")))


def training_report(
    log_rows: Mapping[str, Sequence[Mapping[str, object]]],
    *,
    facts: Mapping[str, object] | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    cross_validation: Mapping[str, Any] | None = None,
    plan_text: str = "",
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """Return the page of a training run.

    Parameters
    ----------
    log_rows : mapping of fold to rows
        For each fold the rows of ``log.csv``, one an epoch, numbers as numbers or as text. Columns with ``loss``,
        ``dice`` or ``lr`` in their name are drawn over ``epoch``.
    facts : mapping, optional
        What to say about the run at its head: data set, network, patch, device, duration.
    metrics : mapping of fold to mapping, optional
        For each fold its validation's ``metrics.json``.
    cross_validation : mapping, optional
        The ``metrics.json`` over all folds.
    plan_text : str
        The plan, as YAML.
    pictures : mapping of name to bytes, optional
        PNG pictures to show, of validation cases for instance.

    Returns
    -------
    str
        An HTML page that needs nothing else.

    Examples
    --------
    >>> rows = [{"epoch": "1", "train_loss": "0.9"}, {"epoch": "2", "train_loss": "0.5"}]
    >>> "<polyline" in training_report({"fold_0": rows})
    True
    """
    body: list[object] = []
    if facts:
        body.append(table(("", ""), [(element("b", name), value) for name, value in facts.items()], text_columns=2))
    if cross_validation:
        body += [element("h2", "Cross-validation"), *_all_folds(metrics or {}, cross_validation)]
    for fold, document in (metrics or {}).items():
        body += [element("h2", f"Validation of {fold.replace('_', ' ')}"), _scores(document)]
    for fold, rows in log_rows.items():
        body += [element("h2", f"Curves of {fold.replace('_', ' ')}"), _curves(rows), _log(rows)]
    if pictures:
        body += [
            element("h2", "Pictures"),
            element("div", *(_card(n, png) for n, png in pictures.items()), class_="cards"),
        ]
    if plan_text:
        body.append(element("details", element("summary", "The plan"), element("pre", element("code", plan_text))))
    return page("Training run", *body)


def _card(name: str, png: bytes) -> Html:
    return element("div", element("h3", name), picture(png, f"Mask outlines of {name}"), class_="card")


def _scores(document: Mapping[str, Any]) -> Html:
    summary: Mapping[str, Any] = document.get("summary", {})
    rows = []
    for name, entry in summary.items():
        if name == "overall":
            continue
        dice, distance = entry.get("dice", {}), entry.get("hd95_mm", {})
        rows.append(
            (name, number(dice.get("mean")), _span(dice.get("ci95")), number(distance.get("mean"), 2), dice.get("n"))
        )
    return table(("label", "Dice", "95 % interval", "HD95 mm", "cases"), rows)


def _all_folds(folds: Mapping[str, Mapping[str, Any]], together: Mapping[str, Any]) -> list[Html]:
    """Return the Dice of every label in each fold and over all of them, and what of tidying was chosen."""
    rows = []
    for name, entry in together.get("summary", {}).items():
        if name == "overall":
            continue
        alone = [number(document["summary"][name]["dice"]["mean"]) for document in folds.values()]
        dice = entry["dice"]
        rows.append((name, *alone, number(dice["mean"]), _span(dice.get("ci95")), dice["n"]))
    header = ("Dice", *(fold.replace("_", " ") for fold in folds), "all", "95 % interval", "cases")
    words = "Each case is scored by the one member that never saw it; the folds as the network left their masks, all of"
    told = element("p", f"{words} them with the post-processing that the other folds chose.", class_="faint")
    return [table(header, rows), told, *(element("p", note) for note in together.get("notes", ())), *_tidied(together)]


def _tidied(together: Mapping[str, Any]) -> list[Html]:
    chosen = together.get("postprocessing", {})
    if not chosen.get("labels"):
        return [element("p", "Post-processing: none earns its place.")]
    lines = [
        (name, _in_words(e), number(e["dice_before"]), number(e["dice_after"]), e["better"], e["worse"], e["cases"])
        for name, e in chosen["labels"].items()
    ]
    header = ("label", "post-processing of the model", "Dice before", "after", "better", "worse", "cases")
    return [table(header, lines, text_columns=2), element("p", chosen.get("rule", ""), class_="faint")]


def _in_words(entry: Mapping[str, Any]) -> str:
    words = ["the largest component only"] if entry["largest_component"] else []
    words += [f"components of {entry['minimum_ml']:g} ml and more"] if entry["minimum_ml"] else []
    words += ["holes filled"] if entry["fill_holes"] else []
    return ", ".join(words) or "none: only some folds would have it"


def _span(ci95: Sequence[float] | None) -> str | None:
    return f"{number(ci95[0])} to {number(ci95[1])}" if ci95 else None


def _curves(rows: Sequence[Mapping[str, object]]) -> Html:
    columns = [column for column in (rows[0] if rows else ()) if column != _EPOCH]
    cards = []
    for title, words in _PLOTS:
        names = _names([column for column in columns if _belongs(column, words)])
        series = {name: _points(rows, column) for column, name in names.items()}
        plot = line_plot(series, x_name=_EPOCH, from_zero=title != "Loss", bold=names.get(_DICE, ""))
        if plot:
            cards.append(element("div", element("h3", title), plot, class_="card"))
    return element("div", *cards, class_="plots")


def _belongs(column: str, words: Sequence[str]) -> bool:
    """Tell whether a column goes into the plot of these words; whatever a label is called, its Dice is a Dice."""
    if column.startswith(f"{_DICE}_"):
        return _DICE in words
    return any(word in column.lower() for word in words)


def _names(columns: Sequence[str]) -> dict[str, str]:
    """Return what the legend calls each column: a label's Dice by its label, the Dice of all of them the mean."""
    names = {column: column.removeprefix(f"{_DICE}_") or column for column in columns}
    if _DICE in names and _MEAN not in names.values():
        names[_DICE] = _MEAN
    return names if len(set(names.values())) == len(names) else {column: column for column in columns}


def _points(rows: Sequence[Mapping[str, object]], column: str) -> list[tuple[float, float]]:
    pairs = ((_float(row.get(_EPOCH)), _float(row.get(column))) for row in rows)
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _float(value: object) -> float:
    """Return a cell of the log as a number; NaN where it is empty or a word."""
    try:
        return float(value) if isinstance(value, (str, int, float)) else math.nan
    except ValueError:
        return math.nan


def _log(rows: Sequence[Mapping[str, object]]) -> Html:
    if not rows:
        return element("p", "The log is empty.", class_="faint")
    columns = list(rows[0])
    last = [[_short(row.get(column)) for column in columns] for row in rows[-_LAST_ROWS:]]
    return element(
        "details",
        element("summary", f"The last {len(last)} of {len(rows)} epochs"),
        table(columns, last, text_columns=0),
    )


def _short(value: object) -> str:
    figure = _float(value)
    return f"{figure:.{_DIGITS}g}" if math.isfinite(figure) else str("" if value is None else value)
