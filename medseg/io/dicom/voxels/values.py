"""From stored values to physical ones: what a header says of one slice, and the slices made physical by it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.tag import Tag

from medseg.errors import InputError
from medseg.io.dicom.findings import RULES, Finding, finding
from medseg.io.dicom.header.attributes import value
from medseg.io.dicom.voxels.elements import item_of, number_of, word_of
from medseg.io.dicom.voxels.padding import Padding, air_of, is_tissue, padding_of, padding_words
from medseg.io.dicom.voxels.rescale import IDENTITY, Line, integer_type, rescale_real, rescale_whole, room_for
from medseg.io.dicom.voxels.suv import Uptake, factors, uptake_of
from medseg.io.dicom.voxels.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_MEASURED = frozenset({"CT", "PT", "NM"})  # values of a scale that bright and dark do not change
_PRIVATE = ((0x7053, 0x00), (0x7053, 0x09), (0x0009, 0x0D))  # group and element of `medseg.io.dicom.voxels.suv`
_KEYWORDS = (
    "Modality",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "FloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "Units",
    "SUVType",
    "CorrectedImage",
    "DecayCorrection",
    "RadiopharmaceuticalInformationSequence",
    "PatientWeight",
    "ActualFrameDuration",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
)
_TAGS: tuple[Any, ...] = (
    *(Tag(keyword) for keyword in _KEYWORDS),
    *(Tag(group, block) for group in (0x7053, 0x0009) for block in range(0x10, 0x20)),
    *(Tag(group, block << 8 | element) for group, element in _PRIVATE for block in range(0x10, 0x20)),
)


@dataclass(frozen=True, eq=False)
class ValueMap:
    """What turns the stored values of one slice into physical ones.

    Attributes
    ----------
    line : Line
        Slope and intercept; after the table, where there is one.
    table : Table or None
        A look-up table for stored integers.
    padding : Padding or None
        The stored values that are no measurement.
    uptake : Uptake or None
        For PET: from the physical value to SUV by body weight.
    is_inverted : bool
        Whether the values were turned round, so that larger is brighter; `line` or `table` does it.
    """

    line: Line = IDENTITY
    table: Table | None = None
    padding: Padding | None = None
    uptake: Uptake | None = None
    is_inverted: bool = False

    def of(self, stored: float) -> float:
        """Return the physical value of a stored one."""
        if self.table is None:
            return self.line.of(stored)
        return self.line.of(float(self.table.applied(np.array(stored))))


def value_map(dataset: Dataset, frame: int = 0) -> ValueMap:
    """Read from a header what turns the stored values of one slice into physical ones.

    That is a table or a line (PS3.3 section C.11.1; in multi-frame objects the Pixel Value Transformation of the frame,
    section C.7.6.16.2.9), what is padding, whether a low value is shown bright (Photometric Interpretation MONOCHROME1,
    section C.7.6.3.1.2; Presentation LUT Shape INVERSE says the same once more), and for PET the way to SUV. Real world
    value mappings are not applied.

    A MONOCHROME1 image is turned round within the range of its stored bits, or of its table. Not so for CT, PET and NM,
    whose values are measured on a scale.

    Parameters
    ----------
    dataset : Dataset
        A header; pixels are not needed.
    frame : int
        Number of the frame in a multi-frame object, counted from 0.

    Raises
    ------
    InputError
        Where the slope is 0, a number is none, or the table is not whole (code ``bad-rescale``).

    Examples
    --------
    >>> from pydicom.dataset import Dataset
    >>> header = Dataset()
    >>> header.RescaleSlope, header.RescaleIntercept = 1, -1024
    >>> value_map(header).line
    Line(slope=1.0, intercept=-1024.0)
    """
    try:
        table = table_of(dataset)
        line = IDENTITY if table is not None else _line(_transformation(dataset, frame))
    except InputError as error:
        name = getattr(dataset, "filename", None)
        raise error.at(Path(str(name)).name if name else "") from error
    modality = word_of(dataset, "Modality")
    uptake = uptake_of(dataset) if modality == "PT" else None
    padding = padding_of(dataset)
    plain = ValueMap(line, table, padding, None if isinstance(uptake, str) else uptake)
    if padding is not None and is_tissue([plain.of(padding.low), plain.of(padding.high)], modality):
        plain = replace(plain, padding=None)
    is_inverted = word_of(dataset, "PhotometricInterpretation") == "MONOCHROME1" and modality not in _MEASURED
    return _inverted(plain, dataset) if is_inverted else plain


def physical(stored_zyx: NDArray[Any], maps: Sequence[ValueMap], *, modality: str) -> NDArray[Any]:
    """Turn stored values into physical ones, in place where they fit.

    Padding becomes air (`medseg.io.dicom.voxels.padding.air_of`), so that no statistic, window or network meets it.

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
        The stored type where nothing changes, or where it holds the result; int16 or int32 where all is whole and fits;
        float32 otherwise, and always for PET.

    Raises
    ------
    InputError
        Where only a part of the slices of a PET series can be turned into SUV.

    Examples
    --------
    >>> physical(np.array([[[0, 1024]]], dtype=np.uint16), [ValueMap(Line(1.0, -1024.0))], modality="CT")
    array([[[-1024,     0]]], dtype=int16)
    """
    if not stored_zyx.dtype.isnative:
        stored_zyx = stored_zyx.astype(stored_zyx.dtype.newbyteorder("="))
    maps = settled(maps)
    air = air_of(modality)
    dtype = _type(stored_zyx, maps, air=air, modality=modality)
    if dtype == stored_zyx.dtype and all(_changes_nothing(m) for m in maps):
        return stored_zyx
    out = room_for(stored_zyx, dtype)
    padded = {}
    for z, (plane, m) in enumerate(zip(stored_zyx, maps, strict=True)):
        mask = None if m.padding is None else m.padding.within(plane)
        _convert(plane, m, out[z])
        if mask is not None and mask.any():
            padded[z] = mask
            if air is not None:
                np.copyto(out[z], np.asarray(air, dtype), where=padded.pop(z))
    _darken(out, padded)
    return out


def settled(maps: Sequence[ValueMap]) -> list[ValueMap]:
    """Return the maps of a series with SUV worked into their lines, so that each slice can be made physical alone.

    The slices of a PET series are corrected for decay to one time, which may take all headers to find.

    Parameters
    ----------
    maps : sequence of ValueMap
        Of all slices of one series.

    Raises
    ------
    InputError
        Where only a part of the slices can be turned into SUV.

    Examples
    --------
    >>> settled([ValueMap(Line(2.0), uptake=Uptake(0.25))])[0].line
    Line(slope=0.5, intercept=0.0)
    """
    return [
        m if m.uptake is None else replace(m, line=Line(m.line.slope * f, m.line.intercept * f), uptake=None)
        for m, f in zip(maps, factors([m.uptake for m in maps]), strict=True)
    ]


def value_notes(path: Path) -> tuple[Finding, ...]:
    """Return what is worth saying about the values of an image, from the header of one of its files.

    Call it inside `medseg.io.dicom.quiet.quiet`.

    Parameters
    ----------
    path : Path
        A file whose header could be read before.

    Returns
    -------
    tuple of Finding
        Of the codes ``bad-rescale``, ``modality-lut``, ``padding``, ``inverted``, ``suv`` and ``no-suv``.

    Raises
    ------
    InputError
        Where the file cannot be read.
    """
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the DICOM header is damaged", where=path.name, code="unreadable") from error
    try:
        first, *_ = [value_map(dataset, frame) for frame in range(_frames(dataset))]
    except InputError as error:
        return (finding(error.code, error.found),)
    modality = word_of(dataset, "Modality")
    found = [*_padding_notes(dataset, first, modality)]
    if first.table is not None:
        found.append(finding("modality-lut", "stored values become physical ones by a table"))
    if first.is_inverted:
        words = "low values are shown bright (MONOCHROME1): values are turned round, so that larger is brighter"
        found.append(finding("inverted", words))
    return (*found, *(_suv_notes(dataset) if modality == "PT" else ()))


def _padding_notes(dataset: Dataset, first: ValueMap, modality: str) -> tuple[Finding, ...]:
    padding = padding_of(dataset)
    if padding is None:
        return ()
    if first.padding is None:
        return (finding("padding", "PixelPaddingValue is a value that tissue has: it is not taken for padding"),)
    air = air_of(modality)
    if air is not None and padding.low == padding.high and first.of(padding.low) == air:
        return ()
    return (finding("padding", padding_words(padding, modality)),)


def _suv_notes(dataset: Dataset) -> tuple[Finding, ...]:
    uptake = uptake_of(dataset)
    if isinstance(uptake, str):
        return (finding("no-suv", f"values are not turned into SUV: {uptake}"),)
    if word_of(dataset, "Units") == "GML":
        return (finding("suv", "values are SUV by body weight, as stored"),)
    return (finding("suv", "values are turned into SUV by body weight"),)


def _frames(dataset: Dataset) -> int:
    groups = value(dataset, "PerFrameFunctionalGroupsSequence")
    return len(groups) if groups else 1


def _line(dataset: Dataset) -> Line:
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    line = Line(1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    if line.slope == 0 or not all(map(math.isfinite, line)):
        raise InputError(
            "RescaleSlope or RescaleIntercept is zero or not a number",
            remedy=RULES["bad-rescale"].remedy,
            code="bad-rescale",
        )
    return line


def _transformation(dataset: Dataset, frame: int) -> Dataset:
    """Return what holds slope and intercept: the frame's own group, the group of all frames, or the header itself."""
    groups = (
        item_of(dataset, "PerFrameFunctionalGroupsSequence", frame),
        item_of(dataset, "SharedFunctionalGroupsSequence"),
    )
    for group in groups:
        found = None if group is None else item_of(group, "PixelValueTransformationSequence")
        if found is not None:
            return found
    return dataset


def _inverted(plain: ValueMap, dataset: Dataset) -> ValueMap:
    if plain.table is not None:
        return replace(plain, table=plain.table.mirrored(), is_inverted=True)
    ends = _sum_of_ends(dataset)
    line = Line(-plain.line.slope, plain.line.intercept + plain.line.slope * ends)
    return replace(plain, line=line, is_inverted=True)


def _sum_of_ends(dataset: Dataset) -> float:
    """Return lowest plus highest number that the stored bits can hold; 0 for floats, which have no ends."""
    sign, bits = number_of(dataset, "PixelRepresentation"), number_of(dataset, "BitsStored")
    if bits is None or not 1 <= bits <= 32:
        bits = number_of(dataset, "BitsAllocated")
    if sign is None or bits is None or not 1 <= bits <= 32:
        return 0.0
    return -1.0 if sign == 1 else float(2 ** int(bits) - 1)


def _changes_nothing(m: ValueMap) -> bool:
    return m.line.is_identity and m.table is None and m.padding is None


def _convert(plane_yx: NDArray[Any], m: ValueMap, out_yx: NDArray[Any]) -> None:
    """Write the physical values of one slice; padding is not looked at."""
    is_table = m.table is not None and plane_yx.dtype.kind in "iu"
    values = m.table.applied(plane_yx) if m.table is not None and is_table else plane_yx
    if out_yx.dtype.kind == "f":
        rescale_real(values, m.line, out_yx)
    elif is_table or not m.line.is_identity or not np.may_share_memory(out_yx, plane_yx):
        rescale_whole(values, m.line, out_yx)


def _type(stored_zyx: NDArray[Any], maps: Sequence[ValueMap], *, air: float | None, modality: str) -> np.dtype[Any]:
    """Return the type of the result."""
    stored = stored_zyx.dtype
    if modality == "PT" or stored.kind == "f" or not all(m.line.is_whole for m in maps):
        return np.dtype(np.float32)
    if all(_changes_nothing(m) for m in maps):
        return stored
    source = np.result_type(*{stored if m.table is None else m.table.entries.dtype for m in maps})
    kind = integer_type(source, _ends(stored_zyx, maps, air, is_exact=False))
    if (kind is None or kind.itemsize > source.itemsize) and any(m.padding is not None for m in maps):
        kind = integer_type(source, _ends(stored_zyx, maps, air, is_exact=True))
    return np.dtype(np.float32) if kind is None else kind


def _ends(stored_zyx: NDArray[Any], maps: Sequence[ValueMap], air: float | None, *, is_exact: bool) -> list[float]:
    """Return physical values between which all lie, those of padding among them unless it is to be exact."""
    found: list[float] = []
    for plane, m in zip(stored_zyx, maps, strict=True):
        low, high = plane.min(), plane.max()
        if m.padding is not None and low <= m.padding.high and m.padding.low <= high:
            found.extend([] if air is None else [air])
            kept = plane[~m.padding.within(plane)] if is_exact else plane
            if not kept.size:
                continue
            low, high = kept.min(), kept.max()
        found.extend([m.of(float(low)), m.of(float(high))] if m.table is None else m.table.ends)
    return found or [0.0]


def _darken(out_zyx: NDArray[Any], padded: Mapping[int, NDArray[np.bool_]]) -> None:
    """Set padding to the least value that is none; to 0 where all is padding."""
    if not padded:
        return
    kept = (plane if z not in padded else plane[~padded[z]] for z, plane in enumerate(out_zyx))
    least = min((plane.min() for plane in kept if plane.size), default=out_zyx.dtype.type(0))
    for z, mask in padded.items():
        np.copyto(out_zyx[z], least, where=mask)
