"""Files that appear whole or not at all: written beside their place, flushed, checked, then renamed."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from medseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART_PREFIX = ".part-"
"""How the name of a file that is still being written begins; readers of folders may pass over such files."""


@contextmanager
def atomic_path(path: Path, *, suffix: str | None = None) -> Iterator[Path]:
    """Give a path to write to; move what was written there to `path` when the block ends without an error.

    The file is flushed to the disk before it is renamed (``fsync``, then ``os.replace``, which POSIX and Windows make
    atomic within one folder). When the block raises, `path` is as it was and nothing is left behind.

    Parameters
    ----------
    path : Path
        The file to appear; an existing file is replaced. Its folder must exist.
    suffix : str, optional
        How the temporary name ends, for libraries that choose a format by it; by default as `path` ends.

    Yields
    ------
    Path
        A path in the same folder that does not exist yet.

    Raises
    ------
    OutputError
        Where the file cannot be written there: no such folder, no space, no permission.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = pathlib.Path(folder) / "a.txt"
    ...     with atomic_path(target) as temporary:
    ...         _ = temporary.write_text("whole")
    ...         assert not target.exists()
    ...     target.read_text()
    'whole'
    """
    if not path.parent.is_dir():
        raise OutputError("the folder to write to does not exist", where=str(path), remedy="Make the folder first")
    if path.is_dir():
        raise OutputError("there is a folder of this name", expected="a file name", where=str(path))
    ending = "".join(path.suffixes[-2:]) if suffix is None else suffix
    temporary = path.with_name(f"{PART_PREFIX}{secrets.token_hex(6)}{ending}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise OutputError(f"the file could not be written ({_reason(error)})", where=str(path)) from error
    finally:
        with suppress(OSError):  # after the rename there is nothing left; otherwise the error above is the one to tell
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    r"""Write a whole text file atomically, as UTF-8 with ``\n`` line ends; see `atomic_path`."""
    write_bytes(path, content.encode("utf-8"))


def _reason(error: OSError) -> str:
    """Return the system's words for what went wrong; pydicom raises an error of its own around the system's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, on systems where a folder can be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # some network file systems refuse to flush a folder; the file itself is safe by now
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
