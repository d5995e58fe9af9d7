"""What a patch costs by the way its scan is stored: time, and bytes read from the disk.

A body in noise, 300 x 300 x 400 voxels, is stored as .nii.gz, as .npy (float32 as medseg prepares it, int16 with a
scale), as .npy in blocks, and, where they are installed, by blosc2 and zarr. Of each, random patches are read as
float32. Cold: the file's pages are dropped from the page cache before every patch (`posix_fadvise`, which needs no
rights). Bytes are what the kernel says this process had fetched from the disk (`/proc/self/io`, read_bytes).

    python benchmarks/patches.py [--side 128] [--patches 20] [--folder DIR]

blosc2 and zarr are no dependencies of medseg: install them to have their rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

SHAPE = (300, 300, 400)
BLOCK = 32
SCALE = 1 / 1024
BODY = 0.9  # squared radius

Read = Callable[[tuple[int, ...], int], np.ndarray]


class Row(NamedTuple):
    """One way of storing: its name, its files, and how a patch is read from them, the file opened for each."""

    name: str
    path: Path
    read: Read


def scan() -> np.ndarray:
    """Return a normalised image with the noise of a CT: values that int16 holds at a scale of 1/1024."""
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    body = (sum(axis**2 for axis in axes) < BODY).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, SHAPE).astype(np.float32)
    return (np.round((body * (1 + 0.3 * np.sin(9 * axes[2])) + noise) / SCALE) * SCALE).astype(np.float32)


def part(start: tuple[int, ...], side: int) -> tuple[slice, ...]:
    """Return the index of a patch."""
    return tuple(slice(first, first + side) for first in start)


def rows(image: np.ndarray, folder: Path) -> Iterator[Row]:
    """Write the image in every way there is, and give how it is read."""
    small = np.round(image / SCALE).astype(np.int16)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "scan.nii.gz")
    yield Row(".nii.gz, whole scan unpacked", folder / "scan.nii.gz", _nifti(folder / "scan.nii.gz"))
    np.save(folder / "image.npy", image)
    yield Row(".npy float32, memory map (medseg)", folder / "image.npy", _mapped(folder / "image.npy"))
    yield Row(
        "the same, without the kernel's read-ahead", folder / "image.npy", _mapped(folder / "image.npy", at_random=True)
    )
    np.save(folder / "small.npy", small)
    yield Row(".npy int16 and a scale, memory map", folder / "small.npy", _mapped(folder / "small.npy"))
    np.save(folder / "blocks.npy", _blocks(image))
    yield Row(f".npy float32 in blocks of {BLOCK}³, memory map", folder / "blocks.npy", _blocked(folder / "blocks.npy"))
    if importlib.util.find_spec("blosc2"):
        yield _blosc2(image, folder / "scan.b2nd")
    if importlib.util.find_spec("zarr"):
        yield _zarr(image, folder / "scan.zarr")


def _nifti(path: Path) -> Read:
    return lambda start, side: np.asarray(nib.load(path).dataobj, dtype=np.float32)[part(start, side)].copy()


def _mapped(path: Path, *, at_random: bool = False) -> Read:
    def read(start: tuple[int, ...], side: int) -> np.ndarray:
        array: Any = np.load(path, mmap_mode="r")
        if at_random:
            array._mmap.madvise(mmap.MADV_RANDOM)  # NumPy gives no other way to it
        cut = array[part(start, side)]
        return cut * np.float32(SCALE) if cut.dtype == np.int16 else np.array(cut)

    return read


def _blocks(image: np.ndarray) -> np.ndarray:
    """Return the image as blocks (z, y, x, BLOCK, BLOCK, BLOCK), the last ones filled up with 0."""
    counts = [-(-n // BLOCK) for n in image.shape]
    padded = np.pad(image, [(0, c * BLOCK - n) for c, n in zip(counts, image.shape, strict=True)])
    z, y, x = counts
    return np.ascontiguousarray(padded.reshape(z, BLOCK, y, BLOCK, x, BLOCK).transpose(0, 2, 4, 1, 3, 5))


def _blocked(path: Path) -> Read:
    def read(start: tuple[int, ...], side: int) -> np.ndarray:
        array = np.load(path, mmap_mode="r")
        low = [first // BLOCK for first in start]
        high = [-(-(first + side) // BLOCK) for first in start]
        some = np.array(array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
        whole = some.transpose(0, 3, 1, 4, 2, 5).reshape([(b - a) * BLOCK for a, b in zip(low, high, strict=True)])
        return whole[part(tuple(f - a * BLOCK for f, a in zip(start, low, strict=True)), side)].copy()

    return read


def _blosc2(image: np.ndarray, path: Path) -> Row:
    import blosc2  # noqa: PLC0415 - where it is installed

    blosc2.asarray(image, urlpath=str(path), mode="w", chunks=(BLOCK * 2,) * 3, blocks=(BLOCK,) * 3)
    return Row(
        f"blosc2 float32, blocks of {BLOCK}³, compressed",
        path,
        lambda start, side: np.asarray(blosc2.open(str(path), mode="r")[part(start, side)]),
    )


def _zarr(image: np.ndarray, path: Path) -> Row:
    import zarr  # noqa: PLC0415 - where it is installed

    array = zarr.create_array(store=str(path), shape=image.shape, chunks=(BLOCK * 2,) * 3, dtype=image.dtype)
    array[:] = image
    return Row(
        f"zarr float32, chunks of {BLOCK * 2}³, compressed",
        path,
        lambda start, side: np.asarray(zarr.open_array(str(path), mode="r")[part(start, side)]),
    )


def files_of(path: Path) -> list[Path]:
    """Return the files of a way of storing."""
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


def forget(path: Path) -> None:
    """Drop files from the page cache."""
    for file in files_of(path):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def fetched() -> int:
    """Return the bytes this process had fetched from disks so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("read_bytes")))


def measure(row: Row, starts: list[tuple[int, ...]], side: int, *, cold: bool) -> tuple[float, float]:
    """Return milliseconds and megabytes from the disk of a patch: medians over the patches."""
    times, amounts = [], []
    for start in starts:
        if cold:
            forget(row.path)
        before, began = fetched(), time.perf_counter()
        row.read(start, side)
        times.append(1e3 * (time.perf_counter() - began))
        amounts.append((fetched() - before) / 1e6)
    return statistics.median(times), statistics.median(amounts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--patches", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where to write; on the disk to be measured")
    asked = parser.parse_args()
    generator = np.random.default_rng(1)
    starts = [tuple(int(generator.integers(n - asked.side + 1)) for n in SHAPE) for _ in range(asked.patches)]
    image = scan()
    print(f"a patch of {asked.side}³ float32 is {4 * asked.side**3 / 1e6:.1f} MB")
    print("| stored as | size, MB | cold, ms | from the disk, MB | warm, ms |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for row in rows(image, Path(folder)):
            expected = image[part(starts[0], asked.side)]
            if not np.array_equal(row.read(starts[0], asked.side), expected):
                raise SystemExit(f"{row.name} gives other values")
            few = starts if "nii" not in row.name else starts[:3]
            cold, amount = measure(row, few, asked.side, cold=True)
            warm, _ = measure(row, few, asked.side, cold=False)
            size = sum(file.stat().st_size for file in files_of(row.path)) / 1e6
            print(f"| {row.name} | {size:.0f} | {cold:.1f} | {amount:.1f} | {warm:.1f} |", flush=True)


if __name__ == "__main__":
    main()
