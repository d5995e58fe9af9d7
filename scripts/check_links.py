"""Check that every link of the documentation leads somewhere: files and headings exist, addresses are well formed.

Usage: python scripts/check_links.py [ROOT]
Reads README.md, CHANGELOG.md, CONTRIBUTING.md and docs/**/*.md under ROOT; exits 1 when a link is broken. No network.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")


@dataclass(frozen=True)
class Link:
    """A link or picture as written on a page."""

    page: Path
    line: int
    target: str


def pages(root: Path) -> list[Path]:
    """Return the pages of the documentation that exist under `root`."""
    return [root / name for name in PAGES if (root / name).is_file()] + sorted((root / "docs").rglob("*.md"))


def links(page: Path) -> Iterator[Link]:
    """Yield every link and picture of a Markdown page; code blocks hold none."""
    for block in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        for token in block.children or []:
            target = token.attrs.get("href") or token.attrs.get("src")
            if target:
                yield Link(page, (block.map or [0])[0] + 1, str(target))


def anchors(page: Path) -> set[str]:
    """Return the anchors that a Markdown page's headings get on a code host."""
    found: dict[str, int] = {}
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    for opening, text in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        slug = re.sub(r"[^\w\- ]", "", _plain(text).lower()).strip().replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def fault(link: Link) -> str | None:
    """Return what is wrong with a link, or None."""
    address = urlsplit(link.target)
    if address.scheme in {"http", "https"}:
        return None if address.netloc else "an address without a host"
    if address.scheme:
        return None if address.scheme == "mailto" else f"a link of kind {address.scheme}:"
    target = (link.page.parent / unquote(address.path)).resolve() if address.path else link.page
    if not target.exists():
        return "no such file"
    if address.fragment and target.suffix == ".md" and unquote(address.fragment) not in anchors(target):
        return "no such heading"
    return None


def main(root: Path) -> int:
    """Print every broken link under `root`; return the exit code."""
    checked = [(link, fault(link)) for page in pages(root) for link in links(page)]
    broken = [(link, reason) for link, reason in checked if reason]
    for link, reason in broken:
        print(f"{link.page.relative_to(root)}:{link.line}: {link.target}: {reason}")
    print(f"{len(checked)} links on {len(pages(root))} pages, {len(broken)} broken")
    return 1 if broken else 0


def _plain(heading: Token) -> str:
    return "".join(child.content for child in heading.children or [])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
