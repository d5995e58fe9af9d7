"""Which series, study and patient an image is of: to be compared in memory, never to be written or shown."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from medseg.errors import InputError
from medseg.io.dicom.header.reading import is_dicom, read_header
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.series import find_series
from medseg.io.dicom.source_headers import slice_header

if TYPE_CHECKING:
    from pathlib import Path

_TRIED = 16  # files of a folder, until one says what study it is of


class Origin(NamedTuple):
    """Marks that are equal where study or patient are; hashes, empty where the file does not say.

    Attributes
    ----------
    study : str
        Of StudyInstanceUID.
    patient : str
        Of PatientID and date of birth.
    """

    study: str
    patient: str


def origin_of(path: Path) -> Origin:
    """Return the marks of a DICOM file, or of the first file in a folder that belongs to a study.

    Only one header is read, so a folder is taken to hold one patient.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in islice(files, _TRIED):
        try:
            with quiet():
                if not is_dicom(file) or read_header(file) is None:
                    continue  # whatever a file claims, this much of it can be read in bounds
                header = slice_header(file)
        except InputError:
            continue  # a foreign or damaged file among the slices; reading the image says so
        if study := str(header.get("StudyInstanceUID") or ""):
            person = str(header.get("PatientID") or "").strip()
            return Origin(_mark(study), _mark(f"{person}\0{header.get('PatientBirthDate') or ''}") if person else "")
    return Origin("", "")


def series_uid_of(path: Path) -> str:
    """Return the SeriesInstanceUID of the one series or image that `path` is or holds; empty where it has none.

    Raises
    ------
    InputError
        Where there is no readable series, or several.
    """
    with quiet():
        return str(slice_header(find_series(path).volumes[0][0].path).get("SeriesInstanceUID") or "")


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
