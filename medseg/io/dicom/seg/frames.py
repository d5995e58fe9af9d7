"""The frames of a DICOM SEG, read with pydicom alone: which segment, where in the patient, which pixels.

This is the independent way back that every written SEG is checked by; the writer is highdicom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

_UNSAFE = "gdcm"  # on damaged frames it can end the process instead of raising


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes
    ----------
    segment : int or None
        Number of its segment; ``None`` in a label map, whose pixels are segment numbers.
    position_lps : (3,) float64, mm
        Centre of its first pixel.
    pixels_yx : (Y, X) unsigned integer
        0 and 1; segment numbers in a label map; 0 to MaximumFractionalValue in a fractional one.
    sources : tuple of pairs of str and int or None
        Instances it says it was derived from, and which of their frames, counted from 1; ``None``: the whole.
    """

    segment: int | None
    position_lps: NDArray[np.float64]
    pixels_yx: NDArray[Any]
    sources: tuple[tuple[str, int | None], ...]

    @property
    def source_uids(self) -> tuple[str, ...]:
        """Instances it says it was derived from."""
        return tuple(uid for uid, _ in self.sources)


def frames_of(dataset: Dataset) -> Iterator[Frame]:
    """Yield the frames of a SEG, one by one.

    Parameters
    ----------
    dataset : Dataset
        A DICOM SEG of type BINARY, LABELMAP or FRACTIONAL, with pixel data.

    Raises
    ------
    InputError
        Where it is of another type, or a frame does not say where it lies.
    """
    kind = str(dataset.get("SegmentationType", ""))
    if kind not in {"BINARY", "LABELMAP", "FRACTIONAL"}:
        raise InputError(f"the segmentation is {kind or 'of no known type'}", expected="BINARY, LABELMAP or FRACTIONAL")
    pixels = _Bits(dataset) if kind == "BINARY" else _Bytes(dataset)
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(groups) != int(dataset.NumberOfFrames):
        raise InputError(f"{len(groups)} frames are described", expected=f"{dataset.NumberOfFrames}")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    for index, own in enumerate(groups):
        segment = None
        if kind != "LABELMAP":
            segment = int(_group(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        position = _group(own, shared, "PlanePositionSequence").ImagePositionPatient
        yield Frame(segment, np.array([float(v) for v in position]), pixels.frame(index), _sources(own, shared))


def plane_of(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, float], float | None]:
    """Return the direction cosines, pixel spacing and slice spacing that all frames share.

    Raises
    ------
    InputError
        Where the frames do not share them.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    first = (dataset.get("PerFrameFunctionalGroupsSequence") or [None])[0]
    orientation = _group(first, shared, "PlaneOrientationSequence").ImageOrientationPatient
    measures = _group(first, shared, "PixelMeasuresSequence")
    spacing = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    row, column = (float(v) for v in measures.PixelSpacing)
    return tuple(float(v) for v in orientation), (row, column), float(spacing) if spacing else None


def _group(own: Dataset | None, shared: Dataset | None, keyword: str) -> Dataset:
    for place in (own, shared):
        sequence = None if place is None else place.get(keyword)
        if sequence:
            item: Dataset = sequence[0]
            return item
    raise InputError(f"a frame has no {keyword}")


def _sources(own: Dataset, shared: Dataset | None) -> tuple[tuple[str, int | None], ...]:
    return tuple(
        (str(image.ReferencedSOPInstanceUID), number)
        for place in (own, shared)
        for derivation in ((place.get("DerivationImageSequence") or []) if place is not None else [])
        for image in derivation.get("SourceImageSequence") or []
        for number in _frame_numbers(image)
    )


def _frame_numbers(image: Dataset) -> list[int | None]:
    value = image.get("ReferencedFrameNumber")
    if value is None or value == "":
        return [None]
    return [int(v) for v in value] if isinstance(value, MultiValue) else [int(value)]


class _Bits:
    """Frames of single bits, packed across frame borders from the lowest bit on (PS3.5 section 8.1.1)."""

    def __init__(self, dataset: Dataset) -> None:
        self._shape = (int(dataset.Rows), int(dataset.Columns))
        self._bytes = np.frombuffer(dataset.PixelData, np.uint8)
        needed = -(-self._shape[0] * self._shape[1] * int(dataset.NumberOfFrames) // 8)
        if self._bytes.size < needed:
            raise InputError(f"the pixel data hold {self._bytes.size} bytes", expected=f"{needed}", code="truncated")

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return one frame of 0 and 1."""
        count = self._shape[0] * self._shape[1]
        start = index * count
        packed = self._bytes[start // 8 : -(-(start + count) // 8)]
        bits = np.unpackbits(packed, bitorder="little")
        return bits[start % 8 : start % 8 + count].reshape(self._shape)


class _Bytes:
    """Frames of segment numbers, or of fractions, decoded one after the other."""

    def __init__(self, dataset: Dataset) -> None:
        self._shape = (int(dataset.Rows), int(dataset.Columns))
        self._frames = iter_pixels(dataset, raw=True, decoding_plugin=_library(dataset.file_meta.TransferSyntaxUID))

    def frame(self, index: int) -> NDArray[Any]:
        """Return the next frame as stored; `index` must rise by one."""
        try:
            return np.asarray(next(self._frames)).reshape(self._shape)
        except StopIteration as end:
            raise InputError(f"the pixel data end before frame {index + 1}", code="truncated") from end


def _library(syntax: UID) -> str:
    """Return what decodes frames of a transfer syntax; nothing where they are not compressed."""
    if not syntax.is_encapsulated:
        return ""
    for library in get_decoder(syntax).available_plugins:
        if library != _UNSAFE:
            return library
    raise InputError(f"no decoder for the transfer syntax {syntax.name}", code="undecodable")
