"""Numbered objects from files: one number per voxel, which is no label id and has no name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.io import images, is_dicom, read_volume, suffix_of
from medseg.io.voxels import whole_numbers
from medseg.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PICTURES = (".png", ".bmp")  # their palettes are numbers
_BLURRED = (".jpg", ".jpeg")
_MOST = np.iinfo(np.int32).max


def read_objects(path: Path | str) -> Volume:
    """Return the object numbers in a file, as one channel of uint8, uint16 or uint32; 0 is background.

    Parameters
    ----------
    path : Path or str
        NIfTI, NRRD, MetaImage, TIFF or PNG (8 or 16 bit) with one channel; float storage is read where every number is
        whole.

    Raises
    ------
    InputError
        Where the file cannot be read, is DICOM or JPEG, has several channels, or holds what is no object number.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from medseg.geometry import Geometry
    >>> from medseg.io import write_volume
    >>> cells = Volume(np.array([[[[0, 700]]]], np.uint16), Geometry((1, 1, 2), np.eye(4)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_volume(cells, pathlib.Path(folder) / "cells.nii.gz")
    ...     read_objects(pathlib.Path(folder) / "cells.nii.gz").array.max()
    np.uint16(700)
    """
    path = Path(path)
    if is_dicom(path):
        raise InputError("DICOM is not read as numbered objects", expected="NIfTI, NRRD, TIFF or PNG", where=str(path))
    if suffix_of(path) in _BLURRED:
        expected, remedy = "PNG, TIFF, NIfTI or NRRD", "Save the numbers anew from where they come from"
        raise InputError("JPEG blurs object numbers", expected=expected, where=str(path), remedy=remedy)
    try:
        stored = images.read_mask(path) if suffix_of(path) in _PICTURES else read_volume(path)
        if stored.array.shape[0] != 1:
            raise InputError(f"the mask has {stored.array.shape[0]} channels", expected="1")
        return Volume(_numbers(stored.array), stored.geometry)
    except InputError as error:
        raise error.at(str(path)) from error


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Return stored numbers as unsigned integers."""
    if array.dtype.kind == "u":
        return array
    return whole_numbers(array, highest=_MOST, what="object numbers", kinds=(np.uint16, np.uint32))
