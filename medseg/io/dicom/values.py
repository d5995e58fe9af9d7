"""From stored values to physical ones: what a header says of one slice, and the slices made physical by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom

from medseg.errors import InputError
from medseg.io.dicom.findings import RULES, Finding, finding
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.rescale import rescaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class ValueMap:
    """What turns the stored values of one slice into physical ones.

    Attributes
    ----------
    slope, intercept : float
        Physical is stored times slope plus intercept.
    """

    slope: float = 1.0
    intercept: float = 0.0


def value_map(dataset: Dataset, frame: int = 0) -> ValueMap:
    """Read from a header what turns the stored values of one slice into physical ones.

    Parameters
    ----------
    dataset : Dataset
        A header; pixels are not needed.
    frame : int
        Number of the frame in a multi-frame object, counted from 0.

    Raises
    ------
    InputError
        Where the slope is 0, or one of the numbers is none (code ``bad-rescale``).

    Examples
    --------
    >>> header = pydicom.Dataset()
    >>> header.RescaleSlope, header.RescaleIntercept = 1, -1024
    >>> value_map(header)
    ValueMap(slope=1.0, intercept=-1024.0)
    """
    slope, intercept = _scale(dataset, "RescaleSlope", 1.0), _scale(dataset, "RescaleIntercept", 0.0)
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        where = Path(str(getattr(dataset, "filename", None) or "the header")).name
        raise InputError(
            "RescaleSlope or RescaleIntercept is zero or not a number",
            where=where,
            remedy=RULES["bad-rescale"].remedy,
            code="bad-rescale",
        )
    return ValueMap(slope, intercept)


def physical(stored_zyx: NDArray[Any], maps: Sequence[ValueMap], *, modality: str) -> NDArray[Any]:
    """Turn stored values into physical ones, in place where they fit.

    Parameters
    ----------
    stored_zyx : (Z, Y, X) integer or float
        Stored values; may be overwritten.
    maps : sequence of Z ValueMap
        One per slice.
    modality : str
        As in the header.

    Returns
    -------
    (Z, Y, X) integer or float32

    Examples
    --------
    >>> physical(np.array([[[0, 1024]]], dtype=np.uint16), [ValueMap(1.0, -1024.0)], modality="CT")
    array([[[-1024,     0]]], dtype=int16)
    """
    values = rescaled(stored_zyx, [m.slope for m in maps], [m.intercept for m in maps])
    return values.astype(np.float32, copy=False) if modality == "PT" else values


def value_notes(path: Path) -> tuple[Finding, ...]:
    """Return what is worth saying about the values of an image, from its header.

    Raises
    ------
    InputError
        Where the file cannot be read.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file cannot be read", where=path.name, code="unreadable") from error
    try:
        value_map(dataset)
    except InputError as error:
        return (finding("bad-rescale", error.found),)
    return ()


def _scale(dataset: Dataset, keyword: str, usual: float) -> float:
    try:
        value = dataset.get(keyword)
        return usual if value is None or value == "" else float(value)
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return math.nan
