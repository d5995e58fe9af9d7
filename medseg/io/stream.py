"""Plain and gzip files read in a stream, never further than their own header allows."""

from __future__ import annotations

import gzip
import io
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from isal import igzip, igzip_threaded
from isal.igzip_lib import IsalError

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

MAX_DEFLATE_RATIO = 1032
"""No deflate stream grows by more than this (zlib's technical notes): a bound before any memory is taken."""
TRAILING_TOLERANCE = 65536  # some writers pad files to a block
_CHUNK = 1 << 24
_GZIP_TRAILER = 8
_WRITER_THREADS = 2


def is_gzip(path: Path) -> bool:
    """Tell whether a file begins like gzip (RFC 1952), whatever its name says."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def opened(path: Path, *, gzip_from: int = 0) -> Iterator[BinaryIO]:
    """Open a plain or gzip file for reading; faults of either become an `InputError` that names the file.

    Parameters
    ----------
    path : Path
        The file.
    gzip_from : int
        Where in the file gzip begins, when not at its start; the stream begins there.
    """
    try:
        with path.open("rb") as file:
            file.seek(gzip_from)
            if not gzip_from and not is_gzip(path):
                yield file
                return
            with cast("BinaryIO", igzip.open(file, "rb")) as stream:
                yield stream
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=str(path)) from error
    except EOFError as error:
        raise InputError("the compressed file ends too early", **_whole(path)) from error
    except (gzip.BadGzipFile, IsalError) as error:  # type: ignore[misc]  # isal's stub takes its error for a value
        raise InputError(f"the compressed file is damaged ({error})", **_whole(path)) from error
    except OSError as error:
        raise InputError(
            f"the file cannot be read ({error.strerror or type(error).__name__})", where=str(path)
        ) from error


@contextmanager
def compressed_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a gzip file for writing: fast, one member, so that its trailer tells its length."""
    with cast("io.BufferedWriter", igzip_threaded.open(path, "wb", compresslevel=1, threads=_WRITER_THREADS)) as stream:
        yield stream


def check_capacity(path: Path, n_bytes: int, *, is_deflated: bool | None = None) -> None:
    """Refuse a file that is too small for the `n_bytes` its header promises, before any of it is unpacked.

    A plain file's size is exact; a gzip file is held against `MAX_DEFLATE_RATIO`.
    """
    size = path.stat().st_size
    if is_gzip(path) if is_deflated is None else is_deflated:
        if n_bytes > size * MAX_DEFLATE_RATIO:
            raise InputError(
                f"the header promises {n_bytes} bytes, more than {size} compressed ones can hold", **_whole(path)
            )
    elif size < n_bytes:
        raise InputError(f"the file has {size} bytes", expected=f"{n_bytes}, as its header says", **_whole(path))


def check_unpacked_length(path: Path, n_bytes: int, *, gzip_from: int = 0) -> None:
    """Refuse a file whose length is not the `n_bytes` its header promises, give or take padding.

    For gzip the trailer tells the length (RFC 1952, modulo 2^32); where it disagrees, as it does in files of several
    members, the stream is counted. With `gzip_from`, what is counted begins there.
    """
    check_capacity(path, n_bytes, is_deflated=True if gzip_from else None)
    if not gzip_from and not is_gzip(path):
        _refuse_surplus(path, path.stat().st_size - n_bytes)
        return
    if _trailer_length(path) == n_bytes % 2**32:
        return
    with opened(path, gzip_from=gzip_from) as stream:
        skip(stream, n_bytes, path=path)
        finish(stream, path=path)


def read_array(stream: BinaryIO, n_bytes: int, *, path: Path) -> NDArray[np.uint8]:
    """Read exactly `n_bytes` bytes."""
    buffer = np.empty(n_bytes, dtype=np.uint8)
    view, filled = buffer.data, 0
    reader = cast("Any", stream)  # BinaryIO has no readinto in the type stubs
    while filled < n_bytes:
        count = reader.readinto(view[filled : filled + _CHUNK])
        if not count:
            raise InputError(f"the file ends after {filled} bytes of voxels", expected=str(n_bytes), **_whole(path))
        filled += count
    return buffer


def mapped(path: Path, n_bytes: int, *, offset: int) -> NDArray[np.uint8] | None:
    """Return `n_bytes` bytes of a plain file as a read-only view of the file, or None where it has to be read.

    It has to be read where it is compressed, and where its file system has no maps.
    """
    try:
        if is_gzip(path):
            return None
        return np.asarray(np.memmap(path, np.uint8, mode="r", offset=offset, shape=(n_bytes,)))
    except (OSError, ValueError):  # reading finds the words for what is wrong
        return None


def skip(stream: BinaryIO, n_bytes: int, *, path: Path) -> None:
    """Read and drop exactly `n_bytes` bytes."""
    while n_bytes > 0:
        count = len(stream.read(min(n_bytes, _CHUNK)))
        if not count:
            raise InputError(f"the file ends {n_bytes} bytes early", **_whole(path))
        n_bytes -= count


def finish(stream: BinaryIO, *, path: Path) -> None:
    """Read to the end of the file, which also checks gzip's checksum; refuse more than some padding."""
    _refuse_surplus(path, len(stream.read(TRAILING_TOLERANCE + 1)))


def _refuse_surplus(path: Path, surplus: int) -> None:
    if surplus > TRAILING_TOLERANCE:
        raise InputError(
            "the file holds more data than its header says",
            where=str(path),
            remedy="The header is damaged, or the file is of another kind: export it again",
        )


def _trailer_length(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(0, io.SEEK_END)
        if file.tell() < _GZIP_TRAILER:
            return -1
        file.seek(-4, io.SEEK_END)
        return int(struct.unpack("<I", file.read(4))[0])


def _whole(path: Path) -> dict[str, str]:
    return {"where": str(path), "remedy": "The file is not complete: copy or export it again"}
