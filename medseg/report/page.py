"""The frame of every page: one file, no script, nothing from elsewhere, light and dark, every text escaped."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CSS = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #fff; --ink: #1c2026; --faint: #667080; --line: #e2e5ea;
  --blue: #2563a8; --good: #1d7a4c; --warn: #9a6300; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #101317; --card: #171b21; --ink: #e6e9ee; --faint: #95a0b0;
  --line: #2a313b; --blue: #7db4f0; --good: #67c896; --warn: #e2b14a; --bad: #f2877f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; letter-spacing: -.01em; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; overflow-wrap: anywhere; } p { margin: .3rem 0 .8rem; }
.faint { color: var(--faint); } .good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .5rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--faint); font-size: .85rem; white-space: nowrap; }
tr:last-child > td { border-bottom: 0; } td.n, th.n { text-align: right; white-space: nowrap; }
td.n .faint { font-size: .85rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.2rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .7rem 1rem; min-width: 8rem; }
.tile b { display: block; font-size: 1.4rem; font-weight: 650; } .tile span { color: var(--faint); font-size: .85rem; }
.cards { display: grid; gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; }
.card img { max-width: 100%; height: auto; border-radius: 6px; display: block; background: #0b0d10; }
.swatch { display: inline-block; width: .75em; height: .75em; border-radius: 3px; margin-right: .45em; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--faint); font-size: 11px; }
svg .grid { stroke: var(--line); stroke-width: 1; } details { margin-top: 1rem; } summary { cursor: pointer; }
code { overflow-wrap: anywhere; } a { color: var(--blue); } .scroll + .cards { margin-top: 1rem; }
.name { white-space: nowrap; } footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media print { body { max-width: none; } .card, .tile { break-inside: avoid; } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Html(str):
    """Text that is HTML already; every other text is escaped when it enters a page."""

    __slots__ = ()

    @classmethod
    def of(cls, value: object) -> Self:
        """Return a value as HTML: escaped, unless it is `Html` already; ``None`` becomes a dash."""
        if isinstance(value, cls):
            return value
        return cls(html.escape("–" if value is None else str(value), quote=True))


def element(name: str, *children: object, **attributes: str) -> Html:
    """Return an element around its children.

    Parameters
    ----------
    name : str
        Of the element, written by us.
    *children : object
        Escaped unless they are `Html`.
    **attributes : str
        Values are escaped; a trailing underscore is dropped from names, others become hyphens.

    Examples
    --------
    >>> print(element("td", "a < b", class_="n"))
    <td class="n">a &lt; b</td>
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value, quote=True)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{pairs}>{''.join(Html.of(child) for child in children)}</{name}>")


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Return the parts as one piece of HTML, with an escaped separator between them."""
    return Html(Html.of(separator).join(Html.of(part) for part in parts))


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: int = 1) -> Html:
    """Return a table: the first `text_columns` columns to the left, the others, numbers, to the right.

    A header of empty words is left out.
    """
    kinds = ["" if place < text_columns else "n" for place in range(len(header))]

    def line(tag: str, cells: Sequence[object]) -> Html:
        return element("tr", *(element(tag, cell, class_=kind) for cell, kind in zip(cells, kinds, strict=True)))

    parts = [element("thead", line("th", header))] if any(header) else []
    parts.append(element("tbody", *(line("td", row) for row in rows)))
    return element("div", element("table", *parts), class_="scroll")


def tiles(facts: Iterable[tuple[str, object]]) -> Html:
    """Return large numbers with their names."""
    return element(
        "div",
        *(element("div", element("b", value), element("span", name), class_="tile") for name, value in facts),
        class_="tiles",
    )


def swatch(color: object) -> Html:
    """Return a small square in a label's colour; nothing where the colour is not three numbers."""
    if not isinstance(color, (list, tuple)) or len(color) != 3 or not all(isinstance(c, int) for c in color):
        return Html("")
    red, green, blue = color
    return element("i", class_="swatch", style=f"background: rgb({red}, {green}, {blue})")


def picture(png: bytes, description: str) -> Html:
    """Return a PNG as an image inside the page."""
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return Html(f'<img loading="lazy" src="{source}" alt="{html.escape(description, quote=True)}">')


def number(value: object, digits: int = 3) -> str | None:
    """Return a number with so many digits after the point; ``None`` for what is no number.

    Examples
    --------
    >>> number(0.91234), number(12, 1), number(None)
    ('0.912', '12.0', None)
    """
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def page(title: str, *body: object, subtitle: object = "") -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Its heading and the name of its tab.
    *body : object
        Escaped unless they are `Html`.
    subtitle : object
        A line under the heading.
    """
    head = join(
        [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            element("title", title),
            element("style", Html(_CSS)),
        ]
    )
    foot = element("footer", "Made by medseg. Masks are drawn by a program: look at them before you rely on them.")
    content = join([element("h1", title), element("p", subtitle, class_="faint"), *body, foot])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{content}</body></html>\n'
