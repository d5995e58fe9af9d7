"""Arrays in temporary files, mapped into memory: for what is large, seen in order, and need not be held.

A file has no name, and is gone when its array is, also after a crash (on Windows, when its handle is closed). Its
place on the disk is taken when it is made, as a disk that fills up later would end the process where it writes. What is
mapped counts as resident while it is looked at (``RssFile`` in Linux's ``/proc/self/status``), but can be let go of at
any time without losing a number; what cannot is ``RssAnon``.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

_REMEDY = "Free some of it, or let the environment's TMPDIR name a folder on a larger disk"


def empty(shape: Sequence[int], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return an array of zeros in a temporary file, in the system's folder for these (``TMPDIR``).

    Parameters
    ----------
    shape : sequence of int
        At least one number, none of them zero.
    dtype : dtype
        Of plain numbers.

    Raises
    ------
    InputError
        Where there is no place for it on the disk (code ``disk``).

    Examples
    --------
    >>> array = empty((2, 3))
    >>> array[1] = 5
    >>> let_go(array)
    >>> array.sum()
    np.float32(15.0)
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file.fileno(), size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise InputError(
            f"a temporary file of {size / 1e9:.2g} GB cannot be made ({error.strerror or type(error).__name__})",
            where=_folder(),
            remedy=_REMEDY,
            code="disk",
        ) from error
    return np.frombuffer(mapped, kind).reshape(shape)


def let_go(array: NDArray[Any]) -> None:
    """Take the array's pages out of this process; they come back from the file when they are next looked at.

    An array that lies in no mapped file stays as it is.
    """
    mapped = map_under(array)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on every system
        mapped.madvise(mmap.MADV_DONTNEED)  # of a shared mapping, what was written stays with the file


def map_under(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the mapped file that an array is a view of, or None."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    return mapped if isinstance(mapped, mmap.mmap) else None


def require_room(size: int) -> None:
    """Make sure before work starts that temporary files have the place they will take.

    Parameters
    ----------
    size : int
        Bytes of all files at once.

    Raises
    ------
    InputError
        Where the disk has less (code ``disk``).
    """
    if not size:
        return
    free = shutil.disk_usage(_folder()).free
    if size > free:
        raise InputError(
            f"temporary files take {size / 1e9:.2f} GB of disk",
            expected=f"at most {free / 1e9:.2f} GB, which is free",
            where=_folder(),
            remedy=_REMEDY,
            code="disk",
        )


def _folder() -> str:
    return str(Path(tempfile.gettempdir()))


def _reserve(descriptor: int, size: int) -> None:
    """Take the place on the disk; where the system has no word for that, what is free must do."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    require_room(size)
    os.ftruncate(descriptor, size)
