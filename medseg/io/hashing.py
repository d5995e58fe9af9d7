"""The hash of a file, by which outputs, models and prepared cases are known again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises
    ------
    OSError
        Where it cannot be read; the caller knows what the file is for.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
