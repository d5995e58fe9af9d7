"""Images and masks in and out of files: one table of formats, one way to read, one way to write.

====================================  ==========================  ======================================================
name or place                         format                      remarks
====================================  ==========================  ======================================================
``.nii``, ``.nii.gz``                 NIfTI-1 and -2              every grid, sheared ones too; 4-D as channels
``.nrrd``                             NRRD                        every grid; vectors and 4-D as channels
``.mha``, ``.mhd`` (read only)        MetaImage                   every grid; data file of ``.mhd`` beside it only
``.tif``, ``.tiff``                   TIFF                        stacks; unturned grids at origin 0, 8/16 bit, float32
``.png``                              PNG                         one slice of 1 mm pixels at origin 0, 8 or 16 bit
``.jpg``, ``.jpeg``, ``.bmp``         pictures (read only)        one slice of 1 mm pixels at origin 0
a folder, ``.dcm``, ``.ima``, no end  DICOM (read only)           one series; see `medseg.io.dicom`
====================================  ==========================  ======================================================

What is written is read back and compared, corners within 1e-3 mm and voxels bit by bit, before it takes its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medseg.errors import GeometryError, InputError, OutputError
from medseg.io.atomic import atomic_path
from medseg.io.description import Description
from medseg.io.verify import check_as_written
from medseg.io.voxels import mask_values
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume, values_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.io.dicom.remarks import Remark
    from medseg.rois import RoiRules

__all__ = [
    "DICOM_SUFFIXES",
    "PICTURE_SUFFIXES",
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "Description",
    "check_length",
    "describe",
    "is_dicom",
    "read",
    "read_geometry",
    "read_segmentation",
    "read_volume",
    "structure_names",
    "structure_remarks",
    "suffix_of",
    "write",
    "write_segmentation",
    "write_volume",
]

_NIFTI = (".nii", ".nii.gz")
_ITK = (".nrrd", ".mha", ".mhd")
_TIFF = (".tif", ".tiff")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
READABLE_SUFFIXES = (*_NIFTI, *_ITK, *_TIFF, *PICTURE_SUFFIXES)
WRITABLE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".tif", ".tiff", ".png")
DICOM_SUFFIXES = (".dcm", ".ima", "")
_REFUSED = {
    ".hdr": "NIfTI and Analyze pairs are not read: convert the pair to .nii.gz",
    ".img": "NIfTI and Analyze pairs are not read: convert the pair to .nii.gz",
    ".nhdr": "NRRD with a detached header is not read: save it as .nrrd",
}


class _Format(Protocol):
    """What each format's module offers."""

    def describe(self, path: Path) -> Description: ...

    def check_length(self, path: Path) -> None: ...

    def read(self, path: Path, *, volume: int | None = None) -> Volume: ...

    def write(self, array_czyx: NDArray[Any], geometry: Geometry, path: Path) -> None: ...


def describe(path: Path | str) -> Description:
    """Return grid, number of volumes and voxel type of a file (not of DICOM), from its header only."""
    path = Path(path)
    return _format_of(path).describe(path)


def check_length(path: Path | str) -> None:
    """Refuse a file (not DICOM) whose length does not agree with its header; voxels are not kept.

    Raises
    ------
    InputError
        Where data is missing or left over.
    """
    path = Path(path)
    _format_of(path).check_length(path)


def read_geometry(path: Path | str) -> Geometry:
    """Return the grid of a file, or of the one DICOM series in a folder, from headers only.

    Raises
    ------
    InputError
        Where the file cannot be read, or the folder holds no series or several.
    """
    path = Path(path)
    _refuse_missing(path)
    if is_dicom(path):
        from medseg.io import dicom

        return dicom.read_series_geometry(path)
    return _format_of(path).describe(path).geometry


def read_volume(path: Path | str, *, channels: Sequence[str] | None = None, volume: int | None = None) -> Volume:
    """Return the image in a file, or the one DICOM series in a folder.

    Parameters
    ----------
    path : Path or str
        A file of the formats above, or a folder that holds one DICOM series.
    channels : sequence of str, optional
        Names for the channels, one each; by default the file's or ``image``.
    volume : int, optional
        Which volume of a 4-D file; by default all of them, as channels.

    Returns
    -------
    Volume
        (C, Z, Y, X), in the stored integer type or float32.

    Raises
    ------
    InputError
        Where the file cannot be read, or does not have as many channels as were named.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from medseg.geometry import Geometry
    >>> scan = Volume(np.zeros((1, 2, 3, 4), np.int16), Geometry((2, 3, 4), np.eye(4)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_volume(scan, pathlib.Path(folder) / "scan.nii.gz")
    ...     read_volume(pathlib.Path(folder) / "scan.nii.gz", channels=["CT"]).channels
    ('CT',)
    """
    path = Path(path)
    image = _read(path, volume)
    if channels is None:
        return image
    if len(channels) != image.array.shape[0]:
        raise InputError(
            f"the image has {image.array.shape[0]} channels",
            expected=f"{len(channels)}: {', '.join(channels)}",
            where=str(path),
        )
    return Volume(image.array, image.geometry, tuple(channels))


def read(path: Path | str) -> Volume:
    """Return the image in a file, or the one DICOM series in a folder; `read_volume` in short."""
    return read_volume(path)


def write(what: Volume | Segmentation, path: Path | str) -> None:
    """Write an image or a mask; see `write_volume` and `write_segmentation`."""
    if isinstance(what, Segmentation):
        write_segmentation(what, path)
    else:
        write_volume(what, path)


def read_segmentation(
    path: Path | str,
    *,
    labels: LabelSet | None = None,
    onto: Geometry | None = None,
    rules: RoiRules | None = None,
    image: Path | None = None,
    ignore: int | None = None,
) -> Segmentation:
    """Return the mask in a file.

    Parameters
    ----------
    path : Path or str
        A file of the formats above with one channel; a DICOM SEG or RTSTRUCT, or a folder that holds exactly one of
        these: the numbers of its structures are the values, unless `rules` say otherwise.
    labels : LabelSet, optional
        What the values mean; by default every value present is named ``label_<value>``, or as its structure.
    onto : Geometry, optional
        The image's grid: RTSTRUCT is drawn on it, SEG put on it. Other formats come on their own.
    rules : RoiRules, optional
        Which structure of a SEG or RTSTRUCT is which label; for other formats without meaning.
    image : Path, optional
        The image it was drawn on. A SEG or RTSTRUCT that names this very series is taken to lie where the image does,
        although their frames of reference differ.
    ignore : int, optional
        The value of voxels nobody decided on, which is no label; SEG and RTSTRUCT have none such.

    Returns
    -------
    Segmentation
        (Z, Y, X), uint8 or uint16; float storage is read where every number is whole.

    Raises
    ------
    InputError
        Where values are no label ids, or not in `labels`; where structures overlap and no rule says what that means.
    GeometryError
        Where a SEG or RTSTRUCT does not belong on `onto`.
    """
    path = Path(path)
    _refuse_missing(path)
    if is_dicom(path):
        return _read_reference(path, labels, onto=onto, rules=rules, image=image)
    stored = _read_mask(path)
    try:
        if stored.array.shape[0] != 1:
            raise InputError(f"the mask has {stored.array.shape[0]} channels", expected="1")
        ids = mask_values(stored.array[0])
        if labels is None:
            labels = LabelSet.from_names({value: f"label_{value}" for value in values_in(ids) if value != ignore})
        return Segmentation(ids, stored.geometry, labels, ignore)
    except InputError as error:
        raise error.at(str(path)) from error


def write_volume(volume: Volume, path: Path | str) -> None:
    """Write an image; the file appears when it has been read back and found equal.

    Raises
    ------
    OutputError
        Where the format cannot hold the grid or the voxels, or the file did not read back as written.
    """
    _write(volume.array, volume.geometry, Path(path))


def write_segmentation(segmentation: Segmentation, path: Path | str) -> None:
    """Write a mask, as uint8 where its values fit, else uint16; the file appears when it was read back and found equal.

    Raises
    ------
    OutputError
        Where the format cannot hold the grid or the values, or the file did not read back as written.
    """
    array = segmentation.array
    if array.dtype not in (np.uint8, np.uint16):
        array = array.astype(np.uint16)  # ids are at most 65535: Segmentation holds none that is not in its LabelSet
    _write(array[None], segmentation.geometry, Path(path))


def suffix_of(path: Path) -> str:
    """Return what decides a file's format, in lower case: ``.nii.gz`` as one, else the last suffix."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def structure_names(path: Path | str) -> tuple[str, ...] | None:
    """Return the names of the structures in a DICOM SEG or RTSTRUCT; ``None`` for masks in other formats.

    Raises
    ------
    InputError
        Where there is no such file, or it cannot be read.
    """
    path = Path(path)
    _refuse_missing(path)
    if not is_dicom(path):
        return None
    from medseg.io.dicom import references

    return references.structure_names(path)


def structure_remarks(path: Path, *, onto: Geometry, rules: RoiRules, image: Path) -> tuple[Remark, ...]:
    """Return what is worth saying of a SEG or RTSTRUCT that can be read; see `medseg.io.dicom.remarks`.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    from medseg.io.dicom import references

    return references.remarks(path, onto=onto, rules=rules, image=_dicom_only(image))


def is_dicom(path: Path) -> bool:
    """Tell whether a path goes to the DICOM reader: a folder, a DICOM name, or a file with DICOM's mark (PS3.10)."""
    if path.is_dir() or suffix_of(path) in DICOM_SUFFIXES:
        return True
    if suffix_of(path) in (*READABLE_SUFFIXES, *_REFUSED) or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _dicom_only(path: Path | None) -> Path | None:
    return path if path is not None and is_dicom(path) else None


def _read(path: Path, volume: int | None) -> Volume:
    _refuse_missing(path)
    if not is_dicom(path):
        return _format_of(path).read(path, volume=volume)
    from medseg.io import dicom

    return dicom.read_series(path, volume=volume)


def _read_reference(
    path: Path, labels: LabelSet | None, *, onto: Geometry | None, rules: RoiRules | None, image: Path | None
) -> Segmentation:
    from medseg.io.dicom.references import read_reference

    mask = read_reference(path, onto=onto, rules=rules, image=_dicom_only(image))
    if labels is None:
        return mask
    try:
        return Segmentation(mask.array, mask.geometry, labels)
    except InputError as error:
        raise error.at(str(path)) from error


def _read_mask(path: Path) -> Volume:
    if suffix_of(path) in PICTURE_SUFFIXES:
        from medseg.io import images

        return images.read_mask(path)
    return _read(path, None)


def _write(array_czyx: NDArray[Any], geometry: Geometry, path: Path) -> None:
    suffix = suffix_of(path)
    if suffix not in WRITABLE_SUFFIXES:
        raise OutputError(
            f"files ending in {suffix or 'nothing'} are not written",
            expected=f"one of {' '.join(WRITABLE_SUFFIXES)}",
            where=str(path),
        )
    form = _module(suffix)
    try:
        with atomic_path(path, suffix=suffix) as temporary:
            form.write(array_czyx, geometry, temporary)
            check_as_written(form.read(temporary), array_czyx=array_czyx, geometry=geometry)
    except OutputError as error:
        raise error.at(str(path)) from error
    except (InputError, GeometryError) as error:
        raise OutputError(f"the file did not read back: {error.found}", where=str(path)) from error


def _format_of(path: Path) -> _Format:
    """Return the module that reads `path`."""
    suffix = suffix_of(path)
    if suffix in _REFUSED:
        raise InputError(f"files ending in {suffix} are not read", where=str(path), remedy=_REFUSED[suffix])
    if suffix not in READABLE_SUFFIXES:
        raise InputError(
            f"files ending in {suffix or 'nothing'} are not images medseg knows",
            expected=f"one of {' '.join(READABLE_SUFFIXES)}, or DICOM",
            where=str(path),
        )
    _refuse_missing(path)
    return _module(suffix)


def _refuse_missing(path: Path) -> None:
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path))


def _module(suffix: str) -> _Format:
    """Load a format's module when a file of that format is met."""
    if suffix in _NIFTI:
        from medseg.io import nifti

        return nifti
    if suffix in _ITK:
        from medseg.io import itk

        return itk
    if suffix in _TIFF:
        from medseg.io import tiff

        return tiff
    from medseg.io import images

    return images
