"""The slices of a series as what objects made from it refer to, and why some series cannot be referred to.

Study and series UIDs cannot be repaired: an object made with invented ones would belong to no study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.valuerep import DSfloat

from medseg.errors import GeometryError, InputError
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.regularise import slice_positions
from medseg.io.dicom.source_headers import UIDS, slice_header, whole_header

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from medseg.io.dicom.source import Slice, SourceSeries

_OFF_PLACE = 0.02  # of a slice spacing: how far a header may place a slice off the grid it was put on
_OFF_PLACE_MM = 0.02


@dataclass(frozen=True, slots=True)
class Reference:
    """One slice of a series, as other objects refer to it.

    Attributes
    ----------
    sop_class, sop_instance : str
        UIDs of its object.
    frame : int or None
        Number of its frame, counted from 1, in an object of several frames.
    position_lps : tuple of float, mm
        Centre of its first pixel, as its object says it.
    is_whole : bool
        Whether the frame is the slice; otherwise it holds it somewhere (a tile of a mosaic).
    """

    sop_class: str
    sop_instance: str
    frame: int | None
    position_lps: tuple[float, float, float]
    is_whole: bool = True


def reference_datasets(source: SourceSeries) -> list[Dataset]:
    """Return the headers of a series, one per slice along z, fit to be referred to.

    Slices of one multi-frame file share one header, the same object. The first header holds what there is to know of
    patient, study and equipment, the others what refers to their slices and places them.

    Parameters
    ----------
    source : SourceSeries
        A series of one volume.

    Raises
    ------
    InputError
        Where UIDs are missing beyond repair (code ``format-not-applicable``), or a file cannot be read any more.
    """
    first, *others = dict.fromkeys(source.paths)
    with quiet():
        by_path = {first: whole_header(first), **{path: slice_header(path) for path in others}}
        datasets = [by_path[path] for path in source.paths]
        nameless = _obstacle(list(by_path.values()))
        obstacle = nameless or _unplaced(datasets, source)
    if obstacle:
        remedy = "Export the series with its UIDs, or ask for other formats" if nameless else "Ask for other formats"
        raise InputError(obstacle, where=source.id, code="format-not-applicable", remedy=remedy)
    for dataset in by_path.values():
        if dataset.get("SliceThickness") is None and source.geometry is not None:
            dataset.SliceThickness = DSfloat(source.geometry.spacing_mm[0], auto_format=True)
    return datasets


def references_of(source: SourceSeries, datasets: list[Dataset]) -> tuple[Reference, ...]:
    """Return what refers to each slice of a series.

    Parameters
    ----------
    source : SourceSeries
        A series of one volume.
    datasets : list of Dataset
        Its headers, from `reference_datasets`.

    Raises
    ------
    GeometryError
        Where a header places a slice elsewhere than the grid does: the files are not those that were read.
    """
    computed = slice_positions(source)
    spacing = source.geometry.spacing_mm[0] if source.geometry is not None else 1.0
    found = []
    for piece, dataset, place in zip(source.slices, datasets, computed, strict=True):
        stored = _position(dataset, piece)
        position = place if stored is None else stored
        off_mm = float(np.linalg.norm(position - place))
        if off_mm > max(_OFF_PLACE_MM, _OFF_PLACE * spacing):
            raise GeometryError(f"a slice lies {off_mm:.3g} mm off its place in the grid", where=piece.path.name)
        x, y, z = (float(v) for v in position)
        found.append(
            Reference(
                str(dataset.SOPClassUID),
                str(dataset.SOPInstanceUID),
                piece.frame + 1 if _frames(dataset) > 1 else None,
                (x, y, z),
                is_whole=piece.tile is None,
            )
        )
    return tuple(found)


def seg_obstacle(source: SourceSeries) -> Finding | None:
    """Return why no DICOM object can be made that refers to `source`; ``None`` where one can.

    Raises
    ------
    InputError
        Where a file cannot be read.
    """
    try:
        reference_datasets(source)
    except InputError as error:
        if error.code != "format-not-applicable":
            raise
        return finding(error.code, f"no DICOM object can refer to this series: {error.found}", remedy=error.remedy)
    return None


def _frames(dataset: Dataset) -> int:
    try:
        return int(dataset.get("NumberOfFrames") or 1)
    except (ValueError, TypeError):
        return 1


def _obstacle(datasets: list[Dataset]) -> str:
    for keyword in UIDS:
        if not all(d.get(keyword) for d in datasets):
            return f"the files hold no {keyword}"
    if len({str(d.SOPInstanceUID) for d in datasets}) < len(datasets):
        return "several files share one SOPInstanceUID"
    if len({str(d.StudyInstanceUID) for d in datasets}) > 1 or len({str(d.SeriesInstanceUID) for d in datasets}) > 1:
        return "the files belong to several studies or series"
    return ""


def _unplaced(datasets: list[Dataset], source: SourceSeries) -> str:
    """Return why objects in a frame of reference cannot be made: an X-ray, or a grid that is not known."""
    if source.geometry is None:
        return "the slices span no grid"
    pieces = zip(source.slices, datasets, strict=True)
    if any(piece.tile is None and _position(dataset, piece) is None for piece, dataset in pieces):
        return "the image has no place in the patient"
    return ""


def _position(dataset: Dataset, piece: Slice) -> NDArray[np.float64] | None:
    """Return where the header places a slice; ``None`` where it does not, or only the mosaic that holds it."""
    if piece.tile is not None:
        return None
    value = _of_frame(dataset, piece.frame) or dataset.get("ImagePositionPatient")
    try:
        position = np.array([float(v) for v in value or ()])
    except (ValueError, TypeError):
        return None
    return position if position.shape == (3,) and np.isfinite(position).all() else None


def _of_frame(dataset: Dataset, frame: int) -> list[DSfloat] | None:
    """Return the position of a frame from the functional groups: its own, or the shared one (PS3.3 C.7.6.16.2.3)."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in [*own[frame : frame + 1], *shared[:1]]:
        planes = group.get("PlanePositionSequence")
        if planes and planes[0].get("ImagePositionPatient"):
            return list(planes[0].ImagePositionPatient)
    return None
