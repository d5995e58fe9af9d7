"""From slices to one array: each header read once, frames decoded one at a time, in threads, into the result.

Memory holds the result and a few frames: never a whole file, and never all of them.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.voxels.frames import decode_frame, encoded_frames, read_frame
from medseg.io.dicom.voxels.pixels import Pixels, open_pixels, refusal
from medseg.io.dicom.voxels.values import ValueMap, physical, settled, value_map
from medseg.progress import Progress, Step, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.io.dicom.source import Slice

_MOST_THREADS = 8


def decode(slices: Sequence[Slice], *, modality: str = "", progress: Progress = ignore) -> NDArray[Any]:
    """Decode slices into one array of physical values.

    Parameters
    ----------
    slices : sequence of Slice
        At least one, in order along z, all of one image size.
    modality : str
        As in the headers.
    progress : Progress, optional
        Told after each slice (stage ``"read"``); may cancel.

    Returns
    -------
    (Z, Y, X) integer or float32

    Raises
    ------
    InputError
        Where a file cannot be decoded, holds less than its header promises, or has another size than the first.
    """
    with quiet():
        files = _opened(slices)
        shape = _common_shape(files)
        stored = _room((len(slices), *shape), np.result_type(*(file.pixels.dtype for file in files)))
        done = 0
        for placed in _running(_jobs(files, stored.__getitem__)):
            for _ in placed:
                done += 1
                progress(Step("read", done, len(slices)))
    return physical(stored, _maps(files), modality=modality)


def planes(slices: Sequence[Slice], *, modality: str = "") -> Iterator[tuple[int, NDArray[Any]]]:
    """Decode slices and yield them one by one, as each is done, so that a volume of any size may be looked through.

    Parameters
    ----------
    slices : sequence of Slice
        As in `decode`.
    modality : str
        As in the headers.

    Yields
    ------
    z : int
        Which slice it is.
    plane : (Y, X) integer or float32
        Its physical values.

    Raises
    ------
    InputError
        As `decode`.
    """
    with quiet():
        files = _opened(slices)
        shape = _common_shape(files)
        dtype = np.result_type(*(file.pixels.dtype for file in files))
        maps = settled(_maps(files))  # what a series decides as a whole is decided before its first slice is shown
        for placed in _running(_jobs(files, lambda _: np.empty(shape, dtype))):
            for z, plane in placed:
                yield z, physical(plane[None], [maps[z]], modality=modality)[0]


def cut(image_yx: NDArray[Any], *, tile: int, count: int) -> NDArray[Any]:
    """Cut one slice out of a Siemens mosaic, which lays its slices out by rows on the smallest square that holds them.

    Parameters
    ----------
    image_yx : (Y, X) array
        The whole mosaic.
    tile : int
        Number of the slice, counted from 0.
    count : int
        Slices in the mosaic.

    Returns
    -------
    (y, x) view

    Raises
    ------
    InputError
        Where the mosaic cannot be laid out so.

    Examples
    --------
    >>> cut(np.arange(16).reshape(4, 4), tile=2, count=3)
    array([[ 8,  9],
           [12, 13]])
    """
    rows, columns = _tile_shape(image_yx.shape, count)
    row, column = divmod(tile, _side(count))
    return image_yx[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]


@dataclass(frozen=True, slots=True)
class _File:
    """One file: its pixels, where in z each frame and tile of it goes, and the values of each z."""

    pixels: Pixels
    places: dict[int, list[tuple[int, int | None]]]
    maps: dict[int, ValueMap]

    def tiles(self, frame: int) -> int:
        """Return how many tiles the frame has; 0 where it is no mosaic."""
        tiles = [tile for _, tile in self.places[frame] if tile is not None]
        return max(len(tiles), max(tiles, default=-1) + 1)

    def shape(self, frame: int) -> tuple[int, int]:
        """Return rows and columns of the slices from this frame."""
        whole = (self.pixels.rows, self.pixels.columns)
        return _tile_shape(whole, self.tiles(frame)) if self.tiles(frame) else whole


def _opened(slices: Sequence[Slice]) -> list[_File]:
    """Read the header of each file once."""
    if not slices:
        raise InputError("the series holds no slice")
    places: dict[Path, dict[int, list[tuple[int, int | None]]]] = defaultdict(lambda: defaultdict(list))
    for z, piece in enumerate(slices):
        places[piece.path][piece.frame].append((z, piece.tile))
    return [_open(path, wanted) for path, wanted in places.items()]  # Python at work: threads would only take turns


def _open(path: Path, places: dict[int, list[tuple[int, int | None]]]) -> _File:
    pixels, dataset = open_pixels(path)
    if max(places) >= pixels.frames:
        raise refusal(f"frame {max(places) + 1} is not there: the file holds {pixels.frames}", path, "truncated")
    maps = {}
    for frame, targets in places.items():
        value = value_map(dataset, frame)
        maps.update({z: value for z, _ in targets})
    return _File(pixels, places, maps)


def _maps(files: Sequence[_File]) -> list[ValueMap]:
    """Return what the values of each slice mean, along z."""
    maps = {z: value for file in files for z, value in file.maps.items()}
    return [maps[z] for z in range(len(maps))]


def _common_shape(files: Sequence[_File]) -> tuple[int, int]:
    shape: tuple[int, int] | None = None
    for file in files:
        for frame in file.places:
            here = file.shape(frame)
            shape = shape or here
            if here != shape:
                raise InputError(
                    f"the image has {here[0]} x {here[1]} pixels",
                    expected=f"{shape[0]} x {shape[1]}, as the first has",
                    where=file.pixels.path.name,
                    code="mixed-size",
                )
    return shape or (0, 0)


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise InputError(
            f"{math.prod(shape) * dtype.itemsize / 2**30:.1f} GiB of pixels are more than memory holds",
            expected="a series that fits",
            remedy="Look with medseg inspect whether its size is right",
        ) from error


_Placed = list[tuple[int, "NDArray[Any]"]]


def _jobs(files: Iterable[_File], out: Callable[[int], NDArray[Any]]) -> Iterator[Callable[[], _Placed]]:
    """Yield one piece of work per frame: decode it and put it where `out` says."""
    for file in files:
        if file.pixels.encapsulated and len(file.places) > 1:  # read once, front to back; decoded in threads
            for frame, encoded in encoded_frames(file.pixels, file.places):
                yield partial(_place, file, frame, out, encoded)
        else:
            for frame in file.places:
                yield partial(_place, file, frame, out)


def _place(file: _File, frame: int, out: Callable[[int], NDArray[Any]], encoded: bytes | None = None) -> _Placed:
    targets, count = file.places[frame], file.tiles(frame)
    first = out(targets[0][0])
    whole = None if count else first
    if encoded is None:
        image = read_frame(file.pixels, frame, out=whole)
    else:
        image = decode_frame(file.pixels, encoded, out=whole)
    placed = [(targets[0][0], first), *((z, out(z)) for z, _ in targets[1:])]
    for (_, plane), (_, tile) in zip(placed, targets, strict=True):
        if plane is not image:
            plane[...] = image if tile is None else cut(image, tile=tile, count=count)
    return placed


def _running(jobs: Iterable[Callable[[], _Placed]]) -> Iterator[_Placed]:
    """Run jobs in threads, a few ahead of what is taken from here, and yield what they return."""
    ahead = 2 * _threads()
    waiting: deque[Any] = deque()
    with ThreadPoolExecutor(_threads()) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _threads() -> int:
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _side(count: int) -> int:
    return math.isqrt(count - 1) + 1


def _tile_shape(shape: tuple[int, ...], count: int) -> tuple[int, int]:
    side = _side(count)
    if shape[0] % side or shape[1] % side:
        raise InputError(
            f"a mosaic of {shape[0]} x {shape[1]} pixels cannot be cut into {side} x {side} tiles", code="mosaic"
        )
    return shape[0] // side, shape[1] // side
