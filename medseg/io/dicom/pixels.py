"""Decoding the pixels of one file to stored values, whatever the transfer syntax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

from medseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


def has_decoder(transfer_syntax: str) -> bool:
    """Tell whether an installed library decodes this transfer syntax; a file without one is uncompressed.

    Examples
    --------
    >>> has_decoder("1.2.840.10008.1.2.1"), has_decoder("1.2.840.10008.1.2.4.100")
    (True, False)
    """
    if not transfer_syntax or transfer_syntax == uid.JPEGExtended12Bit:  # SimpleITK reads the latter
        return True
    try:
        return bool(get_decoder(uid.UID(transfer_syntax)).is_available)
    except (NotImplementedError, ValueError):
        return False


def read_pixels(path: Path) -> tuple[NDArray[Any], Dataset]:
    """Decode a single-frame grey image.

    Call it inside `medseg.io.dicom.quiet.quiet`.

    Parameters
    ----------
    path : Path
        A DICOM file.

    Returns
    -------
    array : (Y, X) integer
        Stored values, before any rescale.
    dataset : Dataset
        Its header, without pixel data.

    Raises
    ------
    InputError
        Where the file cannot be read or decoded; the message names the transfer syntax.
    """
    try:
        dataset = pydicom.dcmread(path, force=True)
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file cannot be read", where=path.name, code="unreadable") from error
    try:
        array = _decoded(path, dataset)
    except InputError:
        raise
    except Exception as error:  # decoders of five libraries raise anything on damaged data
        syntax = _syntax(dataset)
        raise InputError(
            f"the pixel data cannot be decoded (transfer syntax {uid.UID(syntax).name if syntax else 'unknown'})",
            where=path.name,
            remedy="Export the series uncompressed (Explicit VR Little Endian)",
            code="undecodable",
        ) from error
    array = array.reshape(array.shape[-2:]) if array.ndim == 3 and array.shape[0] == 1 else array
    if array.shape != (dataset.Rows, dataset.Columns):
        raise InputError(
            f"the pixels decode to the shape {array.shape}",
            expected=f"{(dataset.Rows, dataset.Columns)}",
            where=path.name,
            code="undecodable",
        )
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        dataset.pop(keyword, None)
    return array, dataset


def _decoded(path: Path, dataset: Dataset) -> NDArray[Any]:
    if not _syntax(dataset):
        dataset.ensure_file_meta()
        implicit, little = dataset.original_encoding
        syntax = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax if little else uid.ExplicitVRBigEndian
    if _syntax(dataset) == uid.JPEGExtended12Bit and dataset.BitsStored > 8:
        return _by_simpleitk(path, dataset)
    return np.asarray(dataset.pixel_array)


def _by_simpleitk(path: Path, dataset: Dataset) -> NDArray[Any]:
    """Decode 12-bit JPEG Extended, which no other permissive decoder reads; undo the rescale that comes with it."""
    import SimpleITK as sitk

    values = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    slope, intercept = float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)
    stored = np.rint((values.astype(np.float64) - intercept) / slope)
    return stored.astype(np.int16 if dataset.PixelRepresentation else np.uint16)


def _syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    return str(meta.get("TransferSyntaxUID", "") or "") if meta is not None else ""
