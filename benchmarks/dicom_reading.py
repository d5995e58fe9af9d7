"""Reading one DICOM series of 300 slices, beside the field's own readers on the same files in the same run.

Usage: python benchmarks/dicom_reading.py [ROUNDS]
A generated torso CT with noise, 300 x 512 x 512, is written uncompressed, and as JPEG 2000, JPEG-LS and RLE, all
lossless. Every reader starts from the folder (which files belong together, in which order, and their voxels), each time
in a process of its own, whose imports are not counted; they take turns for three rounds. Figures are medians of
seconds, the ratio to medseg, and the peak of memory in MiB.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medseg.io.dicom import read_series, write_series
from medseg.phantom import torso_ct
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

SLICES, REPEATS = 60, 5
NOISE_HU = 12.0
SYNTAXES = {"uncompressed": None, "JPEG 2000": JPEG2000Lossless, "JPEG-LS": JPEGLSLossless, "RLE": RLELossless}


def by_medseg(folder: Path) -> Callable[[], object]:
    """Return the reading as medseg does it."""
    return lambda: read_series(folder).array


def by_simpleitk(folder: Path) -> Callable[[], object]:
    """Return the reading with GDCM's order of files."""
    import SimpleITK as sitk  # noqa: PLC0415 - no reader pays for the imports of another

    def read() -> object:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        return reader.Execute()

    return read


def by_highdicom(folder: Path) -> Callable[[], object]:
    """Return the reading as highdicom's volume."""
    import highdicom as hd  # noqa: PLC0415 - no reader pays for the imports of another

    return lambda: hd.get_volume_from_series([pydicom.dcmread(path) for path in folder.iterdir()])


def by_pydicom(folder: Path) -> Callable[[], object]:
    """Return the reading as many scripts do it: sorted by the third coordinate, nothing checked."""

    def read() -> object:
        datasets = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda d: d.ImagePositionPatient[2])
        stored = np.stack([dataset.pixel_array for dataset in datasets])
        return stored.astype(np.int16) * int(datasets[0].RescaleSlope) + int(datasets[0].RescaleIntercept)

    return read


READERS = {"medseg": by_medseg, "SimpleITK": by_simpleitk, "highdicom": by_highdicom, "pydicom": by_pydicom}


def measure(name: str, folder: Path) -> None:
    """Read once, in this process, and print what it took."""
    read = READERS[name](folder)
    started = time.perf_counter()
    read()
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def compressed(syntax: UID, folder: Path, path: Path) -> None:
    """Write a compressed copy of a file."""
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(folder / path.name)


def make(folder: Path) -> None:
    """Write the series in every transfer syntax."""
    phantom = torso_ct(1, shape=(SLICES, 512, 512)).volume
    array = np.tile(phantom.array[0], (REPEATS, 1, 1))
    noise = np.random.default_rng(1).normal(0.0, NOISE_HU, array.shape[1:])
    for z in range(len(array)):
        array[z] += np.roll(noise, 37 * z).astype(array.dtype)
    geometry = replace(phantom.geometry, shape=array.shape)
    paths = write_series(Volume(array[None], geometry, ("CT",)), folder / "uncompressed")
    with ProcessPoolExecutor() as pool:
        for name, syntax in SYNTAXES.items():
            if syntax is not None:
                (folder / name).mkdir()
                list(pool.map(partial(compressed, syntax, folder / name), paths, chunksize=10))


def main(rounds: int) -> None:
    """Make the files, then let the readers take turns on them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, __file__, "make", name], check=True)  # a child's peak counts in its parent's
        for syntax in SYNTAXES:
            taken: dict[str, list[tuple[float, float]]] = {reader: [] for reader in READERS}
            for _ in range(rounds):
                for reader, found in taken.items():
                    command = [sys.executable, __file__, reader, str(folder / syntax)]
                    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    found.append(tuple(json.loads(said)))
            ours = statistics.median(seconds for seconds, _ in taken["medseg"])
            for reader, found in taken.items():
                seconds, peak = (statistics.median(values) for values in zip(*found, strict=True))
                print(f"{syntax:14}{reader:12}{seconds:7.2f} s {seconds / ours:6.2f} x {peak:7.0f} MiB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in READERS:
        measure(sys.argv[1], Path(sys.argv[2]))
    elif sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 3)
