"""NRRD and MetaImage, read and written by SimpleITK, whose world is LPS millimetres as ours is.

A header may name another file for its voxels. Only a plain name in the same folder is followed, and only for
MetaImage: no path in a header ever becomes a path on the disk.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io.description import Description
from medseg.io.itk_header import ItkHeader, read_header
from medseg.io.voxels import channel_names, plain_type, refuse_other_types
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_COMPRESSION_LEVEL = 1  # twice as fast as the default, a few per cent larger
_MAX_DIMENSIONS = 3  # of space; ITK gives a fourth axis as components of a vector


def describe(path: Path) -> Description:
    """Return what the header says.

    Raises
    ------
    InputError
        Where the file is not of the format its name says, or names another file where it must not.
    """
    return _described(path)[1]


def check_length(path: Path) -> None:
    """Refuse a file that cannot hold what its header promises.

    Raises
    ------
    InputError
        Where header and length disagree.
    """
    header, description = _described(path)
    header.check_length(_bytes_of(description), path=path)


def read(path: Path, *, volume: int | None = None) -> Volume:
    """Return all components as channels, or one of them.

    Raises
    ------
    InputError
        Where the file cannot be read or is not complete.
    """
    header, description = _described(path)
    header.check_length(_bytes_of(description), path=path)
    if volume is not None and not 0 <= volume < description.volumes:
        raise InputError(f"there is no volume {volume}", expected=f"0 to {description.volumes - 1}", where=str(path))
    with _faults_named(path):
        image = _reader(path).Execute()
    stored = sitk.GetArrayViewFromImage(image)
    channels = np.moveaxis(stored, -1, 0) if description.volumes > 1 else stored[np.newaxis]
    if volume is not None:
        channels = channels[volume : volume + 1]
    voxels = np.array(channels, order="C").reshape(-1, *description.geometry.shape)
    try:
        return Volume(plain_type(voxels), description.geometry, channel_names(len(voxels)))
    except InputError as error:
        raise error.at(str(path)) from error


def write(array_czyx: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write voxels and grid, compressed; the suffix picks the format.

    Raises
    ------
    OutputError
        Where the format has no such voxel type, or ITK cannot write.
    """
    refuse_other_types(array_czyx.dtype)
    if len(array_czyx) == 1:
        image = sitk.GetImageFromArray(array_czyx[0], isVector=False)
    else:
        image = sitk.GetImageFromArray(np.moveaxis(array_czyx, 0, -1), isVector=True)
    image.SetOrigin(geometry.origin_lps.tolist())
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetDirection(geometry.directions_lps[:, ::-1].ravel().tolist())
    try:
        with _quiet():
            sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=_COMPRESSION_LEVEL)
    except RuntimeError as error:
        raise OSError(f"ITK could not write it: {_last_line(error)}") from error


def _described(path: Path) -> tuple[ItkHeader, Description]:
    header = read_header(path)
    with _faults_named(path):
        reader = _reader(path)
        reader.ReadImageInformation()
        dtype = _dtype(reader.GetPixelIDValue())
        geometry = _geometry(reader)
    return header, Description(geometry, reader.GetNumberOfComponents(), dtype, header.is_placed)


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    reader.SetFileName(str(path))
    return reader


def _dtype(pixel_id: int) -> str:
    """Return NumPy's name for ITK's, which reads ``vector of 16-bit signed integer``."""
    words = sitk.GetPixelIDValueAsString(pixel_id).removeprefix("vector of ").split()
    kinds = {"unsigned integer": "uint", "signed integer": "int", "float": "float"}
    kind, bits = kinds.get(" ".join(words[1:])), words[0].removesuffix("-bit")
    if kind is None or not bits.isdigit():
        raise InputError(f"the voxels are of type {' '.join(words)}", expected="one number each")
    return f"{kind}{bits}"


def _geometry(reader: sitk.ImageFileReader) -> Geometry:
    dimensions = reader.GetDimension()
    if dimensions not in (2, _MAX_DIMENSIONS):
        raise InputError(f"the image has {dimensions} dimensions", expected="2 or 3, and channels")
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    steps = np.reshape(reader.GetDirection(), (dimensions, dimensions)) * np.array(reader.GetSpacing())
    missing = _MAX_DIMENSIONS - dimensions
    affine[:dimensions, missing:3] = steps[:, ::-1]
    if missing:  # a picture: one slice, 1 mm thick, towards superior
        affine[2, 0] = 1.0
    affine[:dimensions, 3] = reader.GetOrigin()
    sides: list[int] = [1] * missing + list(reader.GetSize())[::-1]
    return Geometry((sides[0], sides[1], sides[2]), affine)


def _bytes_of(description: Description) -> int:
    z, y, x = description.geometry.shape
    return z * y * x * description.volumes * np.dtype(description.dtype).itemsize


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Turn ITK's errors, and our own without a place, into one that names the file."""
    try:
        with _quiet():
            yield
    except RuntimeError as error:
        raise InputError(
            f"the file cannot be read: {_last_line(error)}", where=str(path), remedy="Export it again"
        ) from error
    except (InputError, GeometryError) as error:
        raise InputError(error.found, expected=error.expected, where=str(path), remedy="Export it again") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; what matters comes as an error. The setting is put back."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "ITK gives no reason"
