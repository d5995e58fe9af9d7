"""Small line plots and strips of dots as inline SVG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.report.page import Html, element

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Points = Sequence[tuple[float, float]]

_COLOURS = ("var(--blue)", "#d1702a", "#2e9e6b", "#a3539c", "#b59b1f", "#c2405c")
_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 30
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS = 5
_MOST_POINTS = 600
_DOT_SHARE = 0.45


def line_plot(series: Mapping[str, Points], *, x_name: str, from_zero: bool = False) -> Html:
    """Draw lines over one pair of axes.

    Parameters
    ----------
    series : mapping of name to points
        Points (x, y) by rising x; what is not finite is left out.
    x_name : str
        What x counts.
    from_zero : bool
        Whether the axis of y starts at zero.

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
    x_ticks = ticks(min(xs), max(xs))
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
    for n, (name, points) in enumerate(drawn.items()):
        parts += _curve([place(x, y) for x, y in points], name, n)
    return element("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")


def dot_strip(values: Sequence[float], *, low: float, high: float) -> Html:
    """Draw values as a row of see-through dots on a line from `low` to `high`."""
    width, height, radius = 150, 22, 4
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


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers from at most `low` to at least `high`.

    Examples
    --------
    >>> ticks(0.13, 0.87)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) or abs(high) or 1.0
    raw = span / _TICKS
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(s * magnitude for s in _STEPS if s * magnitude >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.10g}") for n in range(first, max(last, first + 1) + 1)]


def _thinned(points: Points) -> Points:
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    return [*points[:-1:step], *points[-1:]]


def _curve(corners: Points, name: str, n: int) -> list[Html]:
    colour = _COLOURS[n % len(_COLOURS)]
    path = " ".join(f"{x},{y}" for x, y in corners)
    key = _LEFT + n * (_WIDTH - _LEFT) / 3.2
    return [
        element("polyline", points=path, fill="none", stroke=colour, stroke_width="2", stroke_linejoin="round"),
        element("circle", cx=f"{corners[-1][0]}", cy=f"{corners[-1][1]}", r="3", fill=colour),
        element("rect", x=f"{key:.0f}", y="8", width="10", height="10", rx="3", fill=colour),
        _text(key + 15, 17, name),
    ]


def _line(start: tuple[float, float], stop: tuple[float, float]) -> Html:
    return Html(f'<line class="grid" x1="{start[0]}" y1="{start[1]}" x2="{stop[0]}" y2="{stop[1]}"/>')


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> Html:
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
