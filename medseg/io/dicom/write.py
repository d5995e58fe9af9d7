"""Writing an image as a DICOM series (CT or MR, one file per slice): for phantoms, demonstrations and tests.

What is written follows the CT and MR Image IODs (PS3.3 sections A.3 and A.4), in Explicit VR Little Endian, for a
made-up patient. No real patient's data is meant to go this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.valuerep import DSfloat

from medseg.errors import OutputError
from medseg.io.atomic import atomic_path
from medseg.io.dicom.uids import derived_uid

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.volume import Volume

_CLASSES = {"CT": uid.CTImageStorage, "MR": uid.MRImageStorage}
_CT_INTERCEPT = -1024
_EMPTY = (
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "Laterality",
    "PositionReferenceIndicator",
    "ContentDate",
    "ContentTime",
)
_SQUARE = 1e-4  # cosine: rows and columns of an image are at right angles


def write_series(
    volume: Volume,
    folder: Path,
    *,
    modality: str = "CT",
    name: str = "phantom",
    description: str = "Phantom",
    patient: str = "Phantom^Torso",
) -> tuple[Path, ...]:
    """Write an image as a DICOM series, one file per slice.

    Parameters
    ----------
    volume : Volume
        (1, Z, Y, X) whole numbers: HU for CT. Oblique and sheared grids are fine, as long as rows and columns are at
        right angles.
    folder : Path
        Made where it is not there; must hold no file.
    modality : {"CT", "MR"}
        Which kind of object to write.
    name : str
        What the UIDs are made from: the same name and modality give the same UIDs; all series of one name are of one
        study and frame of reference.
    description : str
        Series description.
    patient : str
        Name of the made-up patient.

    Returns
    -------
    tuple of Path
        The files, by slice index.

    Raises
    ------
    OutputError
        Where the object cannot hold the image, or the folder is not empty.
    """
    geometry = volume.geometry
    stored, intercept = _stored(volume, modality)
    _check_square(geometry)
    if folder.exists() and any(folder.iterdir()):
        raise OutputError("the folder holds files already", expected="an empty or new folder", where=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    common = _common(geometry, modality, name)
    common.SeriesDescription = description
    common.PatientName = patient
    _describe_pixels(common, stored, intercept)
    paths = []
    for z, plane in enumerate(stored):
        paths.append(folder / f"slice_{z + 1:04d}.dcm")
        dataset = _slice(common, geometry, z, name)
        dataset.PixelData = np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<")).tobytes()
        dataset["PixelData"].VR = "OW"
        with atomic_path(paths[-1]) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
    return tuple(paths)


def _stored(volume: Volume, modality: str) -> tuple[NDArray[Any], int]:
    """Return the values to store, 16 bits each, and the intercept that leads back."""
    if modality not in _CLASSES:
        raise OutputError(f"series of modality {modality} are not written", expected=" or ".join(_CLASSES))
    if volume.array.shape[0] != 1 or volume.array.dtype.kind not in "iu":
        raise OutputError(
            f"the image is {volume.array.dtype} with {volume.array.shape[0]} channels",
            expected="one channel of whole numbers",
            remedy="Round the values first",
        )
    array = volume.array[0]
    intercept = _CT_INTERCEPT if modality == "CT" else 0
    low, high = int(array.min()) - intercept, int(array.max()) - intercept
    preferred = (np.uint16, np.int16) if array.dtype.kind == "u" or intercept else (np.int16, np.uint16)
    for dtype in preferred:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return (array.astype(np.int64) - intercept).astype(dtype), intercept
    raise OutputError(f"the values {low + intercept} to {high + intercept} do not fit into 16 bits")


def _check_square(geometry: Geometry) -> None:
    directions = geometry.directions_lps
    if abs(directions[:, 1] @ directions[:, 2]) > _SQUARE:
        raise OutputError(
            "rows and columns are not at right angles", expected="a grid sheared along its slices at most"
        )


def _common(geometry: Geometry, modality: str, name: str) -> Dataset:
    """Return what all slices share."""
    d = Dataset()
    d.SOPClassUID = _CLASSES[modality]
    d.StudyInstanceUID = derived_uid(name, "study")
    d.SeriesInstanceUID = derived_uid(name, "series", modality)
    d.FrameOfReferenceUID = geometry.frame_of_reference_uid or derived_uid(name, "frame of reference")
    d.Modality = modality
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"]
    d.Manufacturer = "medseg phantom"
    d.PatientID = "PHANTOM"
    d.PatientPosition = "HFS"
    d.SeriesNumber, d.AcquisitionNumber, d.StudyID = 1, 1, "1"
    for keyword in _EMPTY:
        setattr(d, keyword, "")
    _acquisition(d, modality)
    directions, spacing = geometry.directions_lps, geometry.spacing_mm
    d.ImageOrientationPatient = [_number(v) for v in (*directions[:, 2], *directions[:, 1])]
    d.PixelSpacing = [_number(spacing[1]), _number(spacing[2])]
    normal = np.cross(directions[:, 2], directions[:, 1])
    d.SliceThickness = _number(abs(float(normal @ geometry.affine[:3, 0])))
    return d


def _acquisition(d: Dataset, modality: str) -> None:
    """Fill in what the scanner would say."""
    if modality == "CT":
        d.KVP = ""
        return
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions = "RM", "NONE", ""
    d.MRAcquisitionType, d.EchoTime, d.EchoTrainLength, d.RepetitionTime = "3D", "", "", ""


def _describe_pixels(d: Dataset, stored_zyx: NDArray[Any], intercept: int) -> None:
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = stored_zyx.shape[1:]
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
    d.PixelRepresentation = int(stored_zyx.dtype.kind == "i")
    if d.Modality == "CT":
        d.RescaleIntercept, d.RescaleSlope, d.RescaleType = intercept, 1, "HU"


def _slice(common: Dataset, geometry: Geometry, z: int, name: str) -> Dataset:
    """Return one slice's data set, without pixels."""
    d = Dataset()
    d.update(common)
    d.SOPInstanceUID = derived_uid(name, "instance", common.Modality, str(z))
    d.InstanceNumber = z + 1
    d.ImagePositionPatient = [_number(v) for v in geometry.to_lps([z, 0, 0])]
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    return d


def _number(value: float) -> DSfloat:
    """Return a decimal string of at most 16 characters (PS3.5 section 6.2), as precise as that allows."""
    return DSfloat(float(value), auto_format=True)
