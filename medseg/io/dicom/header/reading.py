"""Reading a DICOM file's header: what place, size, kind and coding it has, and nothing about the patient."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from medseg.errors import InputError
from medseg.io.dicom.header.attributes import (
    B_VALUE_TAGS,
    Numbers,
    Pair,
    as_length,
    as_lengths,
    b_value,
    cosines,
    number,
    numbers,
    text,
    texts,
    whole,
)
from medseg.io.dicom.header.mosaic import MOSAIC_TAGS, Mosaic, read_mosaic
from medseg.io.dicom.header.multiframe import PER_FRAME, SHARED, Frame, read_frames
from medseg.io.dicom.header.parsing import Parsed, parse
from medseg.io.dicom.header.regions import REGIONS, region_spacing

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.io.dicom.header.lengths import PixelElement

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
    "TriggerTime",
    "FrameReferenceTime",
    "DiffusionBValue",
    "Manufacturer",
    "EchoTime",
    "ConvolutionKernel",
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
    "LossyImageCompression",
)
_TAGS = frozenset({*(int(Tag(keyword)) for keyword in _KEYWORDS), *B_VALUE_TAGS})
_MODALITY_LUT = 0x00283000
_LOCATED = frozenset({_MODALITY_LUT, REGIONS, SHARED, PER_FRAME})
_CHARACTER_SET = 0x00080005
_LONGEST_MOSAIC = 2**22  # bytes of a private header: tens of times a usual one
_COLOUR = frozenset({"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"})


@dataclass(frozen=True, slots=True)
class Header:
    """One file's header; ``None`` or an empty string where the file does not say, or says nonsense.

    UIDs that are empty in the data set are taken from the file meta information, where that has them (PS3.10
    section 7.1: class and instance only). The header of one frame of a multi-frame object, or of one tile of a mosaic,
    has that one's place, size and order, and in `whole` the header of its file. `delays_ms` are the time behind the R
    wave and the time since the scan began.
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
    kernel: tuple[str, ...]
    instance_number: int
    acquisition: int | None
    temporal_position: int
    delays_ms: Pair
    b_value: float
    echo_time: float
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    position: Numbers | None
    orientation: Numbers | None
    orientation_error: float | None
    pixel_spacing: Pair | None
    imager_spacing: Pair | None
    thickness: float | None
    spacing_between: float | None
    slope: float | None
    intercept: float | None
    has_modality_lut: bool
    is_lossy: bool
    pixels: PixelElement | None
    region_spacing: Pair | None = None
    groups: tuple[Frame, ...] | None = None
    elements: int = 0
    mosaic: Mosaic | None = None
    frame_type: tuple[str, ...] = ()
    dimension_index: tuple[int, ...] = ()
    frame: int = 0
    tile: int | None = None
    whole: Header | None = None

    @property
    def of_file(self) -> Header:
        """The header of the whole file, where this one is of a frame or tile in it."""
        return self.whole or self

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
            return _header(path, parse(stream, _TAGS, _LOCATED), stream)
    except OSError as error:
        raise InputError(
            f"the file cannot be opened ({error.strerror or type(error).__name__})", where=path.name, code="unreadable"
        ) from error
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the DICOM header is damaged", where=path.name, code="unreadable") from error


def _header(path: Path, parsed: Parsed, stream: BinaryIO) -> Header | None:
    dataset, pixels = parsed.dataset, parsed.pixels
    meta = getattr(dataset, "file_meta", None) or Dataset()
    sop_class = text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    modality = text(dataset, "Modality").upper()
    if not (sop_class or modality or pixels or set(dataset.keys()) - {_CHARACTER_SET}):
        return None
    groups = read_frames(parsed, whole(dataset, "NumberOfFrames") or 1)
    orientation, orientation_error = cosines(numbers(dataset, "ImageOrientationPatient", 6))
    image_type = texts(dataset, "ImageType")
    return Header(
        path=path,
        transfer_syntax=text(meta, "TransferSyntaxUID"),
        sop_class=sop_class,
        sop_instance=text(dataset, "SOPInstanceUID") or text(meta, "MediaStorageSOPInstanceUID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        frame_uid=text(dataset, "FrameOfReferenceUID"),
        modality=modality,
        description=text(dataset, "SeriesDescription"),
        protocol=text(dataset, "ProtocolName"),
        body_part=text(dataset, "BodyPartExamined").upper(),
        image_type=image_type,
        kernel=texts(dataset, "ConvolutionKernel"),
        instance_number=whole(dataset, "InstanceNumber") or 0,
        acquisition=whole(dataset, "AcquisitionNumber"),
        temporal_position=whole(dataset, "TemporalPositionIdentifier") or 0,
        delays_ms=(_finite(number(dataset, "TriggerTime")), _finite(number(dataset, "FrameReferenceTime"))),
        b_value=b_value(dataset) or 0.0,
        echo_time=_finite(number(dataset, "EchoTime")),
        rows=whole(dataset, "Rows") or 0,
        columns=whole(dataset, "Columns") or 0,
        frames=max(1, whole(dataset, "NumberOfFrames") or 1),
        samples=max(1, whole(dataset, "SamplesPerPixel") or 1),
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        bits_allocated=whole(dataset, "BitsAllocated") or 0,
        position=numbers(dataset, "ImagePositionPatient", 3),
        orientation=orientation,
        orientation_error=orientation_error,
        pixel_spacing=as_lengths(numbers(dataset, "PixelSpacing", 2)),
        imager_spacing=as_lengths(numbers(dataset, "ImagerPixelSpacing", 2)),
        thickness=as_length(number(dataset, "SliceThickness")),
        spacing_between=as_length(number(dataset, "SpacingBetweenSlices")),
        slope=number(dataset, "RescaleSlope"),
        intercept=number(dataset, "RescaleIntercept"),
        has_modality_lut=_MODALITY_LUT in parsed.located,
        is_lossy=text(dataset, "LossyImageCompression") == "01",
        pixels=pixels,
        region_spacing=region_spacing(parsed),
        groups=groups,
        elements=parsed.walker.walked,
        mosaic=read_mosaic(parse(stream, MOSAIC_TAGS, longest=_LONGEST_MOSAIC)) if "MOSAIC" in image_type else None,
    )


def _finite(found: float | None) -> float:
    return found if found is not None and math.isfinite(found) else 0.0
