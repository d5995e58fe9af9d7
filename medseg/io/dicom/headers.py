"""Reading a DICOM file's header: what place, size, kind and coding it has, and nothing about the patient."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import Tag

from medseg.errors import InputError
from medseg.io.dicom.lengths import PixelElement, is_deflated, measure

if TYPE_CHECKING:
    from pathlib import Path

Numbers = tuple[float, ...]
Pair = tuple[float, float]

_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "ImageType",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoTime",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "LossyImageCompression",
)
_TAGS: list[Any] = [Tag(keyword) for keyword in _KEYWORDS]
_LONG_VR = frozenset({"OB", "OD", "OF", "OL", "OW", "OV", "SQ", "UC", "UN", "UR", "UT", "UV", "SV"})
_FIRST_PIXEL_TAG = min(_PIXELS)
_CHARACTER_SET = 0x00080005
_COSINE_TOLERANCE = 0.01  # off unit length and off the right angle: far above rounding, far below a real defect
_BAD_VALUE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError, struct.error)
_COLOUR = frozenset({"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"})


@dataclass(frozen=True, slots=True)
class Header:
    """One file's header; ``None`` or an empty string where the file does not say, or says nonsense.

    UIDs that are empty in the data set are taken from the file meta information, where that has them (PS3.10
    section 7.1: class and instance only).
    """

    path: Path
    transfer_syntax: str
    sop_class: str
    sop_instance: str
    study_uid: str
    series_uid: str
    frame_uid: str
    modality: str
    description: str
    protocol: str
    body_part: str
    image_type: tuple[str, ...]
    instance_number: int
    acquisition: int | None
    temporal_position: int
    echo_time: float
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    position: Numbers | None
    orientation: Numbers | None
    pixel_spacing: Pair | None
    imager_spacing: Pair | None
    thickness: float | None
    spacing_between: float | None
    slope: float | None
    intercept: float | None
    has_modality_lut: bool
    is_lossy: bool
    pixels: PixelElement | None

    @property
    def is_image(self) -> bool:
        """Whether there are pixels and their size is known."""
        return self.pixels is not None and self.rows > 0 and self.columns > 0

    @property
    def has_geometry(self) -> bool:
        """Whether the header places the image in the patient."""
        return None not in (self.position, self.orientation, self.pixel_spacing)

    @property
    def is_colour(self) -> bool:
        """Whether the pixels are coloured."""
        return self.samples > 1 or self.photometric in _COLOUR

    @property
    def is_compressed(self) -> bool:
        """Whether the transfer syntax wraps the pixel data."""
        syntax = uid.UID(self.transfer_syntax)
        return syntax.is_transfer_syntax and syntax.is_encapsulated

    @property
    def raw_bytes(self) -> int:
        """Length of the pixel data, decoded."""
        return math.ceil(self.rows * self.columns * self.samples * self.frames * self.bits_allocated / 8)

    @property
    def syntax_name(self) -> str:
        """Name of the transfer syntax, for people."""
        return str(uid.UID(self.transfer_syntax).name) if self.transfer_syntax else "unknown"


def is_dicom(path: Path) -> bool:
    """Tell from the first bytes whether `path` looks like a DICOM file, with or without preamble and extension.

    Parameters
    ----------
    path : Path
        A file.

    Returns
    -------
    bool
        False also where the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return looks_like_dicom(stream.read(132))
    except OSError:
        return False


def looks_like_dicom(start: bytes) -> bool:
    """Tell from the first 132 bytes of a file whether it is DICOM (PS3.10 section 7.1), or a bare data set.

    Examples
    --------
    >>> looks_like_dicom(bytes(128) + b"DICM"), looks_like_dicom(b"patient notes")
    (True, False)
    """
    if start[128:132] == b"DICM":
        return True
    if len(start) < 16:
        return False
    group, element = struct.unpack("<HH", start[:4])
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    if start[4:6].isalpha() and start[4:6].isupper():
        return True
    return int(struct.unpack("<L", start[4:8])[0]) <= 256  # implicit VR: a short first value


def read_header(path: Path) -> Header | None:
    """Read the header of a DICOM file, up to its pixels.

    Call it inside `medseg.io.dicom.quiet.quiet`.

    Parameters
    ----------
    path : Path
        A file that `is_dicom` takes for one.

    Returns
    -------
    Header or None
        ``None`` where nothing in the file tells of a DICOM object.

    Raises
    ------
    InputError
        Where the file cannot be opened or is damaged (code ``unreadable``).
    """
    try:
        with path.open("rb") as stream:
            dataset, pixels = _parsed(stream)
    except OSError as error:
        raise InputError(
            f"the file cannot be opened ({error.strerror or type(error).__name__})", where=path.name, code="unreadable"
        ) from error
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the DICOM header is damaged", where=path.name, code="unreadable") from error
    return _header(path, dataset, pixels)


def _parsed(stream: BinaryIO) -> tuple[Dataset, PixelElement | None]:
    seen: list[tuple[int, str | None, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if int(tag) >= _FIRST_PIXEL_TAG:
            seen.append((int(tag), vr, length))
        return bool(seen)

    deflated = is_deflated(stream)
    dataset = read_partial(stream, stop_when=at_pixels, force=True, specific_tags=_TAGS)
    keyword = _PIXELS.get(seen[0][0]) if seen else None
    if keyword is None:
        return dataset, None
    _, vr, length = seen[0]
    if deflated:  # already inflated to its end
        return dataset, PixelElement(keyword, length, length, complete=True)
    stream.seek(12 if vr in _LONG_VR else 8, 1)  # past tag, VR and length, which the reader stepped back over
    return dataset, measure(stream, keyword, length)


def _header(path: Path, dataset: Dataset, pixels: PixelElement | None) -> Header | None:
    meta = getattr(dataset, "file_meta", None) or Dataset()
    sop_class = _text(dataset, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")
    modality = _text(dataset, "Modality").upper()
    if not (sop_class or modality or pixels or set(dataset.keys()) - {_CHARACTER_SET}):
        return None
    return Header(
        path=path,
        transfer_syntax=_text(meta, "TransferSyntaxUID"),
        sop_class=sop_class,
        sop_instance=_text(dataset, "SOPInstanceUID") or _text(meta, "MediaStorageSOPInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        frame_uid=_text(dataset, "FrameOfReferenceUID"),
        modality=modality,
        description=_text(dataset, "SeriesDescription"),
        protocol=_text(dataset, "ProtocolName"),
        body_part=_text(dataset, "BodyPartExamined").upper(),
        image_type=_texts(dataset, "ImageType"),
        instance_number=_whole(dataset, "InstanceNumber") or 0,
        acquisition=_whole(dataset, "AcquisitionNumber"),
        temporal_position=_whole(dataset, "TemporalPositionIdentifier") or 0,
        echo_time=_number(dataset, "EchoTime") or 0.0,
        rows=_whole(dataset, "Rows") or 0,
        columns=_whole(dataset, "Columns") or 0,
        frames=max(1, _whole(dataset, "NumberOfFrames") or 1),
        samples=max(1, _whole(dataset, "SamplesPerPixel") or 1),
        photometric=_text(dataset, "PhotometricInterpretation").upper(),
        bits_allocated=_whole(dataset, "BitsAllocated") or 0,
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_cosines(dataset),
        pixel_spacing=_lengths(dataset, "PixelSpacing"),
        imager_spacing=_lengths(dataset, "ImagerPixelSpacing"),
        thickness=_length(dataset, "SliceThickness"),
        spacing_between=_length(dataset, "SpacingBetweenSlices"),
        slope=_number(dataset, "RescaleSlope"),
        intercept=_number(dataset, "RescaleIntercept"),
        has_modality_lut="ModalityLUTSequence" in dataset,
        is_lossy=_text(dataset, "LossyImageCompression") == "01",
        pixels=pixels,
    )


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except _BAD_VALUE:
        return None  # a value that its own representation forbids says nothing


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(dataset, keyword)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else list(value) if hasattr(value, "__iter__") else [value]
    texts = [str(v).strip().strip("\0") for v in values]
    while texts and not texts[-1]:
        texts.pop()
    return tuple(texts)


def _text(dataset: Dataset, keyword: str) -> str:
    texts = _texts(dataset, keyword)
    return texts[0] if texts else ""


def _numbers(dataset: Dataset, keyword: str, count: int) -> Numbers | None:
    value = _value(dataset, keyword)
    if value is None or isinstance(value, str):
        return None
    try:
        numbers = tuple(float(v) for v in value) if hasattr(value, "__iter__") else (float(value),)
    except _BAD_VALUE:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    value = _value(dataset, keyword)
    try:
        return None if value is None or value == "" else float(value)
    except _BAD_VALUE:
        return None


def _whole(dataset: Dataset, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return int(number) if number is not None and math.isfinite(number) else None


def _length(dataset: Dataset, keyword: str) -> float | None:
    number = _number(dataset, keyword)
    return abs(number) if number and math.isfinite(number) else None  # some write the spacing between slices negative


def _lengths(dataset: Dataset, keyword: str) -> Pair | None:
    numbers = _numbers(dataset, keyword, 2)
    return (numbers[0], numbers[1]) if numbers and min(numbers) > 0 else None


def _cosines(dataset: Dataset) -> Numbers | None:
    """Return row and column direction as unit vectors, or None where they are not at right angles."""
    numbers = _numbers(dataset, "ImageOrientationPatient", 6)
    if numbers is None:
        return None
    row, column = numbers[:3], numbers[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if any(abs(length - 1) > _COSINE_TOLERANCE for length in lengths):
        return None
    if abs(sum(a * b for a, b in zip(row, column, strict=True))) > _COSINE_TOLERANCE:
        return None
    return (*(v / lengths[0] for v in row), *(v / lengths[1] for v in column))
