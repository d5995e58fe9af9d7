"""Reading and writing scans, beside the field's own libraries on the same files in the same run.

Usage: python benchmarks/files.py
A generated torso CT of 512 x 512 x 60 is written and read as .nii.gz (against nibabel and SimpleITK) and read as a
DICOM series (against SimpleITK). They take turns for three rounds; each figure is a median, ratios are to medseg.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from medseg.io import read_volume, write_volume
from medseg.io.dicom import read_series, write_series
from medseg.phantom import torso_ct

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3
SHAPE = (60, 512, 512)


def medians(tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of every task, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(measured) for name, measured in times.items()}


def show(title: str, tasks: dict[str, Callable[[], object]]) -> None:
    """Print each task's median and its ratio to the first, which is ours."""
    measured = medians(tasks)
    ours = next(iter(measured.values()))
    for name, seconds in measured.items():
        print(f"{title:20} {name:10} {seconds:7.2f} s   {seconds / ours:5.1f} x")


def main() -> None:
    """Make the files, then let the libraries take turns on them."""
    volume = torso_ct(1, shape=SHAPE).volume
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nifti, series = folder / "scan.nii.gz", folder / "series"
        write_volume(volume, nifti)
        write_series(volume, series)
        image = nib.load(nifti)
        voxels = np.asarray(image.dataobj)
        itk = sitk.ReadImage(nifti)
        show(
            "write .nii.gz",
            {
                "medseg": lambda: write_volume(volume, folder / "a.nii.gz"),
                "nibabel": lambda: nib.save(nib.Nifti1Image(voxels, image.affine), folder / "b.nii.gz"),
                "SimpleITK": lambda: sitk.WriteImage(itk, folder / "c.nii.gz"),
            },
        )
        show(
            "read .nii.gz",
            {
                "medseg": lambda: read_volume(nifti),
                "nibabel": lambda: np.asarray(nib.load(nifti).dataobj),
                "SimpleITK": lambda: sitk.ReadImage(nifti),
            },
        )
        files = sorted(str(path) for path in series.iterdir())
        show("read DICOM series", {"medseg": lambda: read_series(series), "SimpleITK": lambda: sitk.ReadImage(files)})


if __name__ == "__main__":
    main()
