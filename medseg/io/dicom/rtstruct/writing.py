"""RTSTRUCT out: the outlines of a mask as an RT Structure Set (PS3.3 section A.19) on the series it was made from.

Contours lie on the slices that were acquired: on a tilted stack on tilted ones, of a series that was interpolated onto
a regular grid on the uneven ones. Each island of each slice is one CLOSED_PLANAR contour with its holes keyholed
(`medseg.io.dicom.rtstruct.contours`). The transfer syntax is Implicit VR Little Endian, because in explicit ones a
contour may hold no more than 64 kB. Before the file takes its name it is read back by other means than it was written
by, filled, and compared voxel by voxel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from scipy import ndimage

from medseg.errors import GeometryError, InputError, OutputError
from medseg.io.atomic import atomic_path
from medseg.io.dicom.identity import Identity
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.referring import reference_datasets, references_of
from medseg.io.dicom.regularise import on_slices
from medseg.io.dicom.rtstruct.contours import outlined, require_contours
from medseg.io.dicom.rtstruct.modules import (
    add_references,
    add_structures,
    image_reference,
    rtstruct_header,
)
from medseg.io.dicom.rtstruct.reading import rasterised, rois_of
from medseg.io.dicom.rtstruct.rois import MAX_ITEMS
from medseg.io.dicom.texts import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.io.dicom.referring import Reference
    from medseg.io.dicom.rtstruct.reading import Roi
    from medseg.io.dicom.source import SourceSeries
    from medseg.labels import Label, LabelSet
    from medseg.volume import Segmentation

_ENCODING = (True, True)  # implicit VR, little endian
_CONTOUR_DATA = Tag("ContourData")
_LONGEST_NUMBER = 16  # DS
_FEWEST_DIGITS = 3
_OTHER_ITEMS = 2**13  # room for what is no contour: references, structures, observations
_FINER = 1e-3  # of a voxel: how far rounding may move a vertex

Box = tuple[slice, slice, slice]


class _Slice(NamedTuple):
    """One slice that contours may lie on: what refers to it, and where it lies."""

    reference: Reference
    steps_lps: NDArray[np.float64]  # (2, 3): to the next row, to the next column


def write_rtstruct(
    segmentation: Segmentation,
    path: Path,
    *,
    source: SourceSeries,
    identity: Identity | None = None,
    algorithm: str = "medseg",
    description: str = "Segmentation",
) -> None:
    """Write a mask as DICOM RTSTRUCT.

    Structures are numbered from 1 in the order of label ids, absent ones too (without contours), as in the SEG.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of `source`.
    path : Path
        The file to write.
    source : SourceSeries
        The series it was made from; each contour refers to its slice.
    identity : Identity, optional
        UIDs and moment; by default new ones.
    algorithm : str
        What made the mask: the model's name.
    description : str
        Series description.

    Raises
    ------
    MissingExtraError
        Where scikit-image is not installed.
    InputError
        Where the series cannot be referred to (code ``format-not-applicable``): UIDs missing beyond repair, or an image
        without a place in the patient.
    GeometryError
        Where the mask is not on the grid of `source`.
    OutputError
        Where the file cannot be written, or did not read back as written.
    """
    require_contours()
    if not len(segmentation.labels):
        raise InputError("the label set is empty", expected="at least one label", where=source.id)
    mask = on_slices(segmentation, source)
    headers = reference_datasets(source)
    references = references_of(source, headers)
    boxes = _boxes(mask, segmentation.labels)
    geometry = segmentation.geometry if source.geometry is None else source.geometry
    identity = identity or Identity.new(segmentation.labels)
    stations = None if source.irregular is None else source.irregular.stations
    try:
        with quiet():
            dataset = rtstruct_header(headers[0], identity, description)
            add_references(dataset, references, headers[0])
            add_structures(dataset, segmentation, algorithm)
            slices = [_Slice(reference, geometry.affine[:3, 1:3].T) for reference in references]
            drawn = (
                _drawn(number, label, _outlines(mask, label.id, boxes.get(label.id)), slices)
                for number, label in enumerate(segmentation.labels, start=1)
            )
            dataset.ROIContourSequence = Sequence(_readable(drawn))
            with atomic_path(path, suffix=".dcm") as temporary:
                dataset.save_as(temporary, enforce_file_format=True)
                del dataset
                rois = _read_back(temporary, segmentation.labels)
                for roi, label in zip(rois, segmentation.labels, strict=True):
                    _check(roi, mask, label.id, box=boxes.get(label.id), onto=(geometry, stations))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OutputError(
            f"the series cannot be referred to by an RTSTRUCT ({type(error).__name__})", where=source.id
        ) from error


# -- contours -----------------------------------------------------------------------------------------------------


def _boxes(mask_zyx: NDArray[Any], labels: LabelSet) -> dict[int, Box]:
    """Return the block of voxels around each label that occurs."""
    found = ndimage.find_objects(mask_zyx, max_label=max(labels.ids))
    return {i: found[i - 1] for i in labels.ids if found[i - 1] is not None}


def _outlines(mask_zyx: NDArray[Any], label_id: int, box: Box | None) -> Iterable[tuple[int, NDArray[np.float64]]]:
    """Yield slice and vertices (y, x) in voxels of each contour of a label."""
    if box is None:
        return
    corner = np.array([box[1].start, box[2].start])
    for z, plane_yx in enumerate(mask_zyx[box], start=box[0].start):
        for polygon in outlined(plane_yx == label_id):
            yield z, polygon + corner


def _drawn(
    number: int, label: Label, outlines: Iterable[tuple[int, NDArray[np.float64]]], slices: list[_Slice]
) -> Dataset:
    """Return the contours of one structure (PS3.3 section C.8.8.6)."""
    item = Dataset()
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(label.color)
    contours = [_contour(nth, slices[z], polygon) for nth, (z, polygon) in enumerate(outlines, start=1)]
    if contours:  # of one without any, the sequence is left out: it may not be empty
        item.ContourSequence = Sequence(contours)
    return item


def _readable(structures: Iterable[Dataset]) -> Iterable[Dataset]:
    """Yield the structures as long as they are not more than a reader takes: a mask of noise has a piece a voxel."""
    most = MAX_ITEMS // 2 - _OTHER_ITEMS
    contours = 0
    for structure in structures:
        contours += len(structure.get("ContourSequence") or ())
        if contours > most:
            raise OutputError(
                "the mask falls into more pieces than an RTSTRUCT can hold",
                expected=f"at most {most} contours",
                remedy="Ask for other formats",
            )
        yield structure


def _contour(nth: int, where: _Slice, polygon_yx: NDArray[np.float64]) -> Dataset:
    item = Dataset()
    item.ContourImageSequence = Sequence([image_reference(where.reference)])
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(polygon_yx)
    item.ContourNumber = nth
    points_lps = np.array(where.reference.position_lps) + polygon_yx @ where.steps_lps
    voxel_mm = float(np.linalg.norm(where.steps_lps, axis=1).min())
    value = _decimals(points_lps, voxel_mm)
    # As bytes: pydicom would make an object of each number.
    item[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(value), value, 0, *_ENCODING)
    item.set_original_encoding(*_ENCODING, default_encoding)  # then they are written as they are
    return item


def _decimals(points_lps: NDArray[np.float64], voxel_mm: float) -> bytes:
    r"""Return coordinates as decimal strings with digits enough to move no vertex by a thousandth of a voxel.

    Examples
    --------
    >>> _decimals(np.array([[-1.23456789, 0.0, 200.0]]), voxel_mm=1.0)
    b'-1.235\\0.000\\200.000'
    """
    digits = max(_FEWEST_DIGITS, math.ceil(-math.log10(voxel_mm * _FINER)))
    whole = len(str(int(np.abs(points_lps).max()))) + len("-.")
    digits = min(digits, _LONGEST_NUMBER - whole)
    rounded = np.round(points_lps.ravel(), digits) + 0.0  # no minus before zero
    text = "\\".join([f"%.{digits}f"] * rounded.size) % tuple(rounded.tolist())
    return (text + " " * (len(text) % 2)).encode("ascii")


# -- the way back -------------------------------------------------------------------------------------------------


def _read_back(path: Path, labels: LabelSet) -> tuple[Roi, ...]:
    try:
        rois = rois_of(path)
    except InputError as error:
        raise OutputError(f"the RTSTRUCT cannot be read back: {error.found}") from error
    if [roi.name for roi in rois] != [as_text(label.name) for label in labels]:
        raise OutputError("the names of the structures did not read back as they were written")
    return rois


def _check(
    roi: Roi,
    mask_zyx: NDArray[Any],
    label_id: int,
    *,
    box: Box | None,
    onto: tuple[Geometry, tuple[float, ...] | None],
) -> None:
    """Fill the contours of a structure and compare the voxels."""
    if box is None:
        if roi.contours:
            raise OutputError(f"the structure {roi.name!r} came back with contours", expected="none")
        return
    try:
        found = rasterised(roi, onto[0], stations=onto[1])
    except GeometryError as error:
        raise OutputError(f"the contours did not read back in their place: {error.found}") from error
    wanted = mask_zyx[box] == label_id
    if not np.array_equal(found[box], wanted) or np.count_nonzero(found) != np.count_nonzero(wanted):
        raise OutputError(f"the contours of {roi.name!r} did not read back as they were written")
