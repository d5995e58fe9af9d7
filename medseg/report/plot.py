"""Small line plots and strips of dots as inline SVG."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING

from medseg.report.page import Html, element

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Points = Sequence[tuple[float, float]]

_COLOURS = (
    *("var(--blue)", "#d1702a", "#2e9e6b", "#a3539c", "#b59b1f", "#c2405c"),
    *("#22a3b8", "#8a5a34", "#7a63d8", "#e58bb4", "#7f9b2b", "#7c8794"),
)
_BOLD_COLOUR = "var(--ink)"
_GOLDEN = 0.61803398875
_THIN, _BOLD = 2, 3
_WIDTH, _HEIGHT = 520, 230  # without the legend
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 8, 30
_KEY_ROW, _KEY_MARK, _KEY_GAP, _LETTER = 17, 15, 12, 6.8  # a legend's row, square, gap and letter (11 px), generously
_MOST_LETTERS = 30  # of a name in the legend; 30 wide ones still fit
_STEPS, _WHOLE_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0), (1.0, 2.0, 5.0, 10.0)
_TICKS, _WHOLE_TICKS = 5, 8
_MOST_POINTS = 600
_DOT_SHARE = 0.45


def line_plot(series: Mapping[str, Points], *, x_name: str, from_zero: bool = False, bold: str = "") -> Html:
    """Draw lines over one pair of axes.

    Parameters
    ----------
    series : mapping of name to points
        Points (x, y) by rising x; what is not finite is left out.
    x_name : str
        What x counts; where every x is a whole number, so are those written at the axis.
    from_zero : bool
        Whether the axis of y starts at zero.
    bold : str
        The name of a series to draw thicker and over the others, where there are others.

    Returns
    -------
    Html
        An ``svg`` element; empty where there is nothing to draw.

    Examples
    --------
    >>> line_plot({"loss": [(1, 0.9), (2, 0.5)]}, x_name="epoch").count("<polyline")
    1
    """
    drawn = {
        name: _thinned([p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])])
        for name, points in series.items()
    }
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return Html("")
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    x_ticks = ticks(min(xs), max(xs), whole=all(float(x).is_integer() for x in xs))
    y_ticks = ticks(min(0.0, *ys) if from_zero else min(ys), max(ys))
    low_x, high_x = min(xs), max(*xs, min(xs) + 1e-9)
    low_y, high_y = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / (high_x - low_x) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - low_y) / (high_y - low_y) * (_HEIGHT - _TOP - _BOTTOM)
        return round(_LEFT + across, 1), round(_HEIGHT - _BOTTOM - up, 1)

    parts: list[Html] = []
    for y in y_ticks:
        height = place(low_x, y)[1]
        parts.append(_line((_LEFT, height), (_WIDTH - _RIGHT, height)))
        parts.append(_text(_LEFT - 6, height + 4, f"{y:g}", anchor="end"))
    for x in x_ticks:
        if low_x <= x <= high_x:
            parts.append(_text(place(x, low_y)[0], _HEIGHT - _BOTTOM + 15, f"{x:g}", anchor="middle"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 3, x_name, anchor="end"))
    bold = bold if len(drawn) > 1 else ""
    colours = _colours(list(drawn), bold)
    for name in sorted(drawn, key=lambda name: name == bold):
        parts += _curve([place(*point) for point in drawn[name]], colours[name], width=_BOLD if name == bold else _THIN)
    keys, below = _legend(colours)
    return element("svg", *parts, *keys, viewBox=f"0 0 {_WIDTH} {_HEIGHT + below}", role="img")


def dot_strip(values: Sequence[float], *, low: float, high: float) -> Html:
    """Draw values as a row of see-through dots on a line from `low` to `high`."""
    width, height, radius = 110, 22, 4
    span = (high - low) or 1.0
    dots = [
        Html(
            f'<circle cx="{radius + (v - low) / span * (width - 2 * radius):.1f}" cy="{height / 2}" r="{radius}" '
            f'fill="var(--blue)" fill-opacity="{_DOT_SHARE}"/>'
        )
        for v in values
    ]
    axis = _line((radius, height / 2), (width - radius, height / 2))
    return element("svg", axis, *dots, viewBox=f"0 0 {width} {height}", style=f"width: {width}px", role="img")


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return round numbers, whole ones only if asked for, from at most `low` to at least `high`.

    Examples
    --------
    >>> ticks(0.13, 0.87)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(1, 12, whole=True)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    """
    span = (high - low) or abs(high) or 1.0
    raw = max(1.0, span / _WHOLE_TICKS) if whole else span / _TICKS
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(s * magnitude for s in (_WHOLE_STEPS if whole else _STEPS) if s * magnitude >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.10g}") for n in range(first, max(last, first + 1) + 1)]


def _thinned(points: Points) -> Points:
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    return [*points[:-1:step], *points[-1:]]


def _colours(names: Sequence[str], bold: str) -> dict[str, str]:
    """Return a colour of its own for every name: the palette's first, then hues by the golden angle."""
    others = [name for name in names if name != bold]
    more = (f"hsl({360 * (n * _GOLDEN % 1):.1f}, 60%, {(48, 38, 60)[n % 3]}%)" for n in range(len(others)))
    chosen = dict(zip(others, (*_COLOURS, *more), strict=False)) | {bold: _BOLD_COLOUR}
    return {name: chosen[name] for name in names}


def _curve(corners: Points, colour: str, *, width: int) -> list[Html]:
    path = " ".join(f"{x},{y}" for x, y in corners)
    x, y = corners[-1]
    return [
        element("polyline", points=path, fill="none", stroke=colour, stroke_width=f"{width}", stroke_linejoin="round"),
        element("circle", cx=f"{x}", cy=f"{y}", r=f"{width / 2 + 2:g}", fill=colour),
    ]


def _legend(colours: Mapping[str, str]) -> tuple[list[Html], int]:
    """Return the names with their colours in columns below the plot, and how high they are."""
    shown = {name: name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…" for name in colours}
    column = _KEY_MARK + _LETTER * max(map(_letters, shown.values())) + _KEY_GAP
    columns = max(1, int((_WIDTH - _LEFT - _RIGHT + _KEY_GAP) / column))
    parts: list[Html] = []
    for n, (name, words) in enumerate(shown.items()):
        x, y = _LEFT + n % columns * column, _HEIGHT + 6 + n // columns * _KEY_ROW
        parts.append(element("rect", x=f"{x:.1f}", y=f"{y}", width="10", height="10", rx="3", fill=colours[name]))
        parts.append(_text(x + _KEY_MARK, y + 9, words))
    return parts, math.ceil(len(shown) / columns) * _KEY_ROW + 6


def _letters(words: str) -> int:
    """Return how many letters wide a text is; East Asian ones count twice (Unicode Standard Annex 11)."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in words)


def _line(start: tuple[float, float], stop: tuple[float, float]) -> Html:
    return Html(f'<line class="grid" x1="{start[0]}" y1="{start[1]}" x2="{stop[0]}" y2="{stop[1]}"/>')


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> Html:
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
