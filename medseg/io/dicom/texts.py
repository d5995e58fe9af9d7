"""Texts of people as DICOM holds them: the names of labels, models and series in every object that is written."""

from __future__ import annotations

_LONGEST = 64  # characters of a long string (LO)


def as_text(words: str) -> str:
    r"""Return words as a long string may hold them: without backslash and control characters (PS3.5 section 6.2).

    Examples
    --------
    >>> as_text("left\\right\n"), len(as_text("n" * 80))
    ('left right', 64)
    """
    return "".join(" " if c == "\\" or not c.isprintable() else c for c in words).strip()[:_LONGEST].strip()
