"""Scans left in their files: voxels are read when they are looked at, and need not stay in memory.

What can be mapped is an uncompressed NIfTI file in this machine's byte order whose stored numbers are the voxels: no
scale in its header, whole numbers of up to 32 bits or float32. All else is read.

Who maps a file must leave it alone until the volume is let go of: numbers change with the file, a file cut short ends
the process when voxels behind its end are looked at, and Windows lets nobody replace or remove a mapped file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.io import is_dicom, read_volume, suffix_of

if TYPE_CHECKING:
    from medseg.volume import Volume

_MAPPABLE = ".nii"


def map_volume(path: Path | str, *, volume: int | None = None) -> Volume:
    """Return the image in a file as `medseg.io.read_volume` does, as a read-only view of the file where that can be.

    Parameters
    ----------
    path : Path or str
        As `medseg.io.read_volume` takes it.
    volume : int, optional
        Which volume of a 4-D file; by default all of them, as channels.

    Returns
    -------
    Volume
        (C, Z, Y, X), in the stored integer type or float32; `medseg.volume.is_mapped` tells whether it is a view.

    Raises
    ------
    InputError
        Where the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from medseg.geometry import Geometry
    >>> from medseg.io import write_volume
    >>> from medseg.volume import Volume, is_mapped
    >>> scan = Volume(np.zeros((1, 2, 3, 4), np.int16), Geometry((2, 3, 4), np.eye(4)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("scan.nii", "scan.nii.gz"):
    ...         write_volume(scan, Path(folder) / name)
    ...         is_mapped(map_volume(Path(folder) / name).array)
    True
    False
    """
    path = Path(path)
    if suffix_of(path) != _MAPPABLE or is_dicom(path) or not path.exists():
        return read_volume(path, volume=volume)
    from medseg.io import nifti

    return nifti.read(path, volume=volume, mapped=True)
