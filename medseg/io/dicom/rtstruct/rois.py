"""The structures of an RTSTRUCT as the file holds them: names, colours, codes, contours. Sizes are bounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, RTStructureSetStorage

from medseg.errors import InputError, MedsegError
from medseg.io.dicom.quiet import quiet
from medseg.labels import Code

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
"""The geometric types of contours that enclose something."""
_MAX_BYTES = 2**29
MAX_ITEMS = 2**18  # of sequences in a file, two for each contour; below 3 kB of memory each
_MAX_POINTS = 2**24
_FARTHEST_MM = 1e6
_ITEM = b"\xfe\xff\x00\xe0"  # starts each item of a sequence (PS3.5 section 7.5)
_META_BYTES = 4096
_LONGEST_NAME = 64
_BYTE = np.iinfo(np.uint8).max


@dataclass(frozen=True, eq=False)
class Contour:
    """One contour.

    Attributes
    ----------
    kind : str
        Its geometric type: ``"CLOSED_PLANAR"``, ``"CLOSEDPLANAR_XOR"``, ``"OPEN_PLANAR"``, ``"POINT"`` ...
    points_lps : (n, 3) float64, mm
        Its vertices.
    """

    kind: str
    points_lps: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Roi:
    """One structure.

    Attributes
    ----------
    number : int
        By which the file refers to it.
    name : str
        As a person called it; may be empty.
    color : tuple of int or None
        Red, green, blue.
    code : Code or None
        What it is, where the file says so in a code.
    contours : tuple of Contour
        All of them; masks are made of the closed ones.
    frame_of_reference_uid : str or None
        What the coordinates refer to.
    series_uids : tuple of str
        The image series the file names for this frame of reference.
    notes : tuple of str
        What is not in a mask of it, for people.
    """

    number: int
    name: str
    color: tuple[int, int, int] | None
    code: Code | None
    contours: tuple[Contour, ...]
    frame_of_reference_uid: str | None
    series_uids: tuple[str, ...]
    notes: tuple[str, ...] = ()


def rois_of(path: Path) -> tuple[Roi, ...]:
    """Return the structures of an RTSTRUCT, in the order of the file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple of Roi
        Structures without contours, too.

    Raises
    ------
    InputError
        Where the file is no RTSTRUCT, is damaged, or is too large to be true.
    """
    try:
        with quiet():
            return _rois(_loaded(path))
    except MedsegError as error:
        raise error.at(path.name) from error
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file is no RTSTRUCT that can be read", where=path.name, code="unreadable") from error


def _loaded(path: Path) -> Dataset:
    """Return the data set of an RTSTRUCT of sane size."""
    if not path.is_file():
        raise InputError("there is no such file")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"the file holds {path.stat().st_size} bytes", expected=f"an RTSTRUCT of at most {_MAX_BYTES}")
    content = path.read_bytes()
    if content.count(_ITEM) > MAX_ITEMS:
        raise InputError("the file holds more contours than can be true", expected=f"at most {MAX_ITEMS} items")
    if DeflatedExplicitVRLittleEndian.encode() in content[:_META_BYTES]:  # a few bytes may inflate without bounds
        raise InputError("the file is deflated", expected="another transfer syntax", code="undecodable")
    dataset = pydicom.dcmread(BytesIO(content), force=True)
    meta = getattr(dataset, "file_meta", None)
    declared = dataset.get("SOPClassUID") or (meta.get("MediaStorageSOPClassUID") if meta is not None else None)
    if declared != RTStructureSetStorage:
        raise InputError("the file is no RTSTRUCT", expected="an RT Structure Set")
    return dataset


def _rois(dataset: Dataset) -> tuple[Roi, ...]:
    described = dataset.get("StructureSetROISequence") or []
    numbers = [int(item.ROINumber) for item in described]
    twice = [number for number, count in Counter(numbers).items() if count > 1]
    if twice:
        raise InputError(f"two structures have the number {twice[0]}", expected="each number once")
    drawn = _by_number(dataset.get("ROIContourSequence") or [])
    observed = _by_number(dataset.get("RTROIObservationsSequence") or [])
    budget = _Budget()
    return tuple(
        _roi(item, drawn.get(number), observed.get(number), _series(dataset, _frame(item)), budget)
        for number, item in zip(numbers, described, strict=True)
    )


def _by_number(items: Sequence[Dataset]) -> dict[int, Dataset]:
    """Return the items about structures by the structure's number; the first one where there are several."""
    return {int(item.ReferencedROINumber): item for item in reversed(items)}


def _frame(item: Dataset) -> str:
    return str(item.get("ReferencedFrameOfReferenceUID") or "")


def _roi(
    item: Dataset, drawn: Dataset | None, observed: Dataset | None, series: tuple[str, ...], budget: _Budget
) -> Roi:
    name = str(item.get("ROIName") or "")[:_LONGEST_NAME]
    sequence = (drawn.get("ContourSequence") or []) if drawn is not None else []
    contours = tuple(
        Contour(str(contour.get("ContourGeometricType") or ""), budget.points(contour, name)) for contour in sequence
    )
    other = Counter(contour.kind or "none" for contour in contours if contour.kind not in CLOSED)
    notes = tuple(
        f"{count} contour{'s' if count > 1 else ''} of type {kind}, left out as enclosing nothing"
        for kind, count in other.items()
    )
    return Roi(
        number=int(item.ROINumber),
        name=name,
        color=_color(drawn),
        code=_code(observed),
        contours=contours,
        frame_of_reference_uid=_frame(item) or None,
        series_uids=series,
        notes=notes,
    )


class _Budget:
    """Reads the vertices of contours, up to as many as one file may hold."""

    def __init__(self) -> None:
        self._left = _MAX_POINTS

    def points(self, contour: Dataset, name: str) -> NDArray[np.float64]:
        """Return the vertices of one contour, (n, 3) in LPS mm."""
        value = contour.get_item("ContourData").value if "ContourData" in contour else b""
        text = bytes(value or b"").strip(b" \0")  # as long as nobody asked for it, pydicom keeps the bytes
        count = text.count(b"\\") + 1 if text else 0
        self._left -= count // 3
        if self._left < 0:
            raise InputError("the contours hold more points than can be true", expected=f"at most {_MAX_POINTS}")
        declared = contour.get("NumberOfContourPoints")
        if count % 3 or (declared is not None and int(declared) != count // 3):
            raise InputError(
                f"a contour of {name!r} holds {count} coordinates",
                expected=f"three for each of {declared if declared is not None else 'its'} points",
                code="truncated",
            )
        try:
            points = np.array(text.split(b"\\") if text else [], np.float64).reshape(-1, 3)
        except ValueError as error:
            raise InputError(f"a contour of {name!r} holds what is no number", code="unreadable") from error
        if not (np.abs(points) <= _FARTHEST_MM).all():  # true for numbers that are none, too
            raise InputError(f"a contour of {name!r} lies nowhere in a patient", expected="coordinates in mm")
        return points


def _series(dataset: Dataset, frame: str) -> tuple[str, ...]:
    """Return the UIDs of the series that the file names for a frame of reference."""
    return tuple(
        str(series.SeriesInstanceUID)
        for reference in dataset.get("ReferencedFrameOfReferenceSequence") or []
        if frame in {"", str(reference.get("FrameOfReferenceUID") or "")}
        for study in reference.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
        if series.get("SeriesInstanceUID")
    )


def _color(drawn: Dataset | None) -> tuple[int, int, int] | None:
    value = drawn.get("ROIDisplayColor") if drawn is not None else None
    if value is None or isinstance(value, (str, int)) or len(value) != 3:
        return None
    r, g, b = (int(v) for v in value)
    return (r, g, b) if min(r, g, b) >= 0 and max(r, g, b) <= _BYTE else None


def _code(observed: Dataset | None) -> Code | None:
    found = (observed.get("RTROIIdentificationCodeSequence") or []) if observed is not None else []
    if not found:
        return None
    scheme, value, meaning = (
        str(found[0].get(keyword) or "") for keyword in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    )
    if not (value and scheme and meaning) or max(len(value), len(scheme)) > 16:
        return None
    return Code(scheme, value, meaning[:_LONGEST_NAME])
