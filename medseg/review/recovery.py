"""Edits that are in no version yet, kept in a small file so that a crash loses none of them.

The file begins with a line of JSON: the version the edits were made on, its hash, and the mask's shape and type. Then
follows a record for every edit: its length, a checksum, and the changed voxels, compressed. A record that a crash cut
off is left out, and so is everything after a damaged one.

**When it is on the disk.** Every edit is handed to the operating system before `append` returns: nothing is lost where
the program dies, by SIGKILL too. `sync` flushes to the disk (``fsync``); whoever edits calls it about once a second,
away from the window's thread, so a power cut costs at most the edits of the last second.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medseg.errors import InputError, OutputError
from medseg.review.changes import Edit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_MAGIC = b"medseg-edits-1\n"
_RECORD = struct.Struct("<II")  # length and CRC-32 of what follows
_COUNTS = struct.Struct("<QQ")  # runs and voxels
_MAX_HEADER = 4096
_FAST = 1  # zlib's level: runs of equal labels compress well at any


@dataclass(frozen=True, slots=True)
class Base:
    """What the edits were made on.

    Attributes
    ----------
    version : int
        Of the mask.
    sha256 : str
        Of that version's file.
    shape : tuple of int
        (Z, Y, X).
    dtype : str
        NumPy's name of the mask's type.
    """

    version: int
    sha256: str
    shape: tuple[int, int, int]
    dtype: str


class EditJournal:
    """The file of unsaved edits of one case and one reviewer.

    Parameters
    ----------
    path : Path
        ``unsaved-<reviewer>.edits``; made at the first edit.
    base : Base
        What the edits are made on.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> mask, base = np.zeros((1, 1, 3), np.uint8), Base(0, "", (1, 1, 3), "uint8")
    >>> edit = Edit.of_voxels(mask.shape, np.array([1]), before=np.array([0], np.uint8), after=np.array([4], np.uint8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "unsaved-ada.edits"
    ...     journal = EditJournal(path, base)
    ...     journal.append(edit)
    ...     journal.close()  # or a crash
    ...     recover(path, mask, base)
    ...     mask.ravel().tolist()
    1
    [0, 4, 0]
    """

    def __init__(self, path: Path, base: Base) -> None:
        self._path = path
        self._base = base
        self._file: BinaryIO | None = None

    @property
    def path(self) -> Path:
        """Where the edits are."""
        return self._path

    def append(self, edit: Edit) -> None:
        """Add an edit; when this returns, the end of this process cannot lose it.

        Raises
        ------
        OutputError
            Where it cannot be written: from then on edits are not safe, and the person must know.
        """
        payload = _packed(edit)
        try:
            file = self._opened()
            file.write(_RECORD.pack(len(payload), zlib.crc32(payload)) + payload)
            file.flush()
        except OSError as error:
            raise OutputError(
                f"the edit could not be kept ({error.strerror})", where=str(self._path), remedy="Save the mask now"
            ) from error

    def sync(self) -> None:
        """Flush what was written to the disk; it may take long, and another thread may call it."""
        file = self._file
        if file is not None and not file.closed:
            try:
                os.fsync(file.fileno())
            except (OSError, ValueError):  # closed meanwhile: close() flushed it
                return

    def close(self) -> None:
        """Flush to the disk and close the file; it stays."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Close and remove the file: its edits are in a version now, or were given up."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        """Return the file, to be added to; a record that a crash cut off is taken away first."""
        if self._file is not None:
            return self._file
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = _whole_length(self._path, self._base)
        if whole:
            os.truncate(self._path, whole)
        else:
            self._path.unlink(missing_ok=True)
        self._file = self._path.open("ab")  # at the end, also where a second window of the reviewer writes
        if not whole:
            self._file.write(_MAGIC + json.dumps(asdict(self._base)).encode() + b"\n")
        return self._file


def recover(path: Path, mask_zyx: NDArray[Any], base: Base) -> int:
    """Make the unsaved edits in a file again on the mask they were made on, in place; return how many there were.

    Raises
    ------
    InputError
        Where they were made on another mask: they are of no use, and the file is left for a person to judge.
    """
    if not path.is_file():
        return 0
    count = 0
    with path.open("rb") as file:
        found = _header(file, path)
        if found is None:
            return 0
        if found != base:
            raise InputError(
                f"unsaved edits were made on version {found.version} of another mask",
                expected=f"version {base.version}, of {base.shape} voxels",
                where=str(path),
                remedy="Move the file away, or bring that version back",
            )
        for payload in _records(file):
            _unpacked(payload, base).apply(mask_zyx)
            count += 1
    return count


def base_of(path: Path) -> Base | None:
    """Return what the edits in a file were made on; ``None`` where there is none.

    Raises
    ------
    InputError
        Where the file is damaged at its very beginning.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return _header(file, path)


def _packed(edit: Edit) -> bytes:
    gaps = np.diff(edit.starts, prepend=0)
    parts = (gaps.astype("<i8"), edit.lengths.astype("<i8"), edit.before, edit.after)
    return _COUNTS.pack(len(edit.starts), edit.n_voxels) + zlib.compress(b"".join(p.tobytes() for p in parts), _FAST)


def _unpacked(payload: bytes, base: Base) -> Edit:
    runs, voxels = _COUNTS.unpack_from(payload)
    dtype = np.dtype(base.dtype)
    wanted = 16 * runs + 2 * voxels * dtype.itemsize
    content = zlib.decompressobj().decompress(payload[_COUNTS.size :], wanted + 1)
    if len(content) != wanted:
        raise InputError("an unsaved edit is damaged", expected=f"{wanted} bytes")
    starts = np.cumsum(np.frombuffer(content, "<i8", runs))
    lengths = np.frombuffer(content, "<i8", runs, 8 * runs)
    before, after = np.frombuffer(content, dtype, 2 * voxels, 16 * runs).reshape(2, voxels)
    edit = Edit(base.shape, starts, lengths, before, after)
    if runs and (lengths.sum() != voxels or starts[0] < 0 or edit.indices.max() >= np.prod(base.shape)):
        raise InputError("an unsaved edit lies outside the mask")
    return edit


def _header(file: BinaryIO, path: Path) -> Base | None:
    """Return what the edits were made on; ``None`` where a crash cut the file off before its first record."""
    magic, line = file.readline(_MAX_HEADER), file.readline(_MAX_HEADER)
    if _MAGIC.startswith(magic) and not line.endswith(b"\n"):
        return None
    try:
        if magic != _MAGIC:
            raise ValueError
        document = json.loads(line)
        z, y, x = (int(n) for n in document["shape"])
        return Base(int(document["version"]), str(document["sha256"]), (z, y, x), str(document["dtype"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            "the file holds no unsaved edits that can be read", where=str(path), remedy="Move it away"
        ) from error


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the whole records up to the first that is cut off or damaged."""
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        length, checksum = _RECORD.unpack(head)
        payload = file.read(length)
        if len(payload) != length or zlib.crc32(payload) != checksum:
            return
        yield payload


def _whole_length(path: Path, base: Base) -> int:
    """Return up to where a file holds whole records made on `base`; 0 where there is none or no header.

    Raises
    ------
    InputError
        Where it holds edits of another mask: they are not to be lost by writing over them.
    """
    if not path.is_file() or not path.stat().st_size:
        return 0
    with path.open("rb") as file:
        found = _header(file, path)
        if found is None:
            return 0
        if found != base:
            raise InputError(
                f"unsaved edits of version {found.version} are in the way", where=str(path), remedy="Move the file away"
            )
        length = file.tell()
        for payload in _records(file):
            length += _RECORD.size + len(payload)
    return length
