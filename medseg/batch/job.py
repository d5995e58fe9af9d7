"""One case to be: what the model can take, and the scan that lies in the case's files."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from medseg.batch.finite import finite
from medseg.errors import InputError
from medseg.io import read_geometry
from medseg.io.dicom import read_series
from medseg.io.hashing import file_sha256
from medseg.io.mapped import map_volume
from medseg.io.voxels import as_colours
from medseg.progress import ignore
from medseg.resample import resample
from medseg.selection import DICOM_WORDS
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.io.dicom import SourceSeries
    from medseg.io.dicom.findings import Finding
    from medseg.progress import Progress

_BYTES_A_VOXEL = 8
Verdict = Literal["segment", "refused", "ignored"]

_MODALITIES = frozenset(
    {"CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "IO", "PX", "RTIMAGE"}
)  # of images


@dataclass(frozen=True, slots=True)
class Target:
    """What the model can take: its channels, and the modalities its card names; without any, every modality."""

    channels: tuple[str, ...]
    modalities: tuple[str, ...]

    def takes(self, modality: str | None) -> bool:
        """Tell whether the card names a DICOM modality."""
        known = {_dicom_word(name) for name in self.modalities}
        return not known or (modality or "").upper() in known

    def one_by_one(self) -> tuple[Target, ...]:
        """Return each channel as a model of its own; one named by a sequence (T1) takes what a person names for it.

        Examples
        --------
        >>> [one.takes("MR") for one in Target(("T1", "PET"), ("T1", "PET")).one_by_one()]
        [True, False]
        """
        names = zip(self.channels, self.modalities, strict=True)
        return tuple(Target((channel,), (name,) if _dicom_word(name) in _MODALITIES else ()) for channel, name in names)


def _dicom_word(modality: str) -> str:
    return DICOM_WORDS.get(modality.upper(), modality.upper())


class Scan(NamedTuple):
    """What was read for a case, and what was done to its voxels."""

    volume: Volume
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Job:
    """One case to be.

    Attributes
    ----------
    id : str
        Unique in the batch; never from a patient attribute.
    inputs : tuple of str
        Relative to the INPUT they were found under; of all channels.
    files : tuple of Path
        The same, to open; of the first channel where there are `others`.
    verdict : {"segment", "refused", "ignored"}
    reason : str
        Why it will not be segmented.
    findings : tuple of Finding
        What was found, and which repairs were made.
    source : SourceSeries or None
        For DICOM: the series, repaired as was allowed; of the first channel.
    volume : int or None
        Which volume of a 4-D file that is not DICOM.
    fill : bool
        Whether voxels that are no numbers are filled.
    others : tuple of Job
        The further channels, where each lies in files of its own.
    """

    id: str
    inputs: tuple[str, ...]
    files: tuple[Path, ...]
    verdict: Verdict
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    source: SourceSeries | None = None
    volume: int | None = None
    fill: bool = False
    others: tuple[Job, ...] = ()

    def read(self, target: Target, *, progress: Progress = ignore) -> Scan:
        """Return the scan, its channels named as the model's, on the first one's grid.

        Raises
        ------
        InputError
            Where it cannot be read, holds voxels that are no numbers, or has not as many channels as the model.
        """
        scans = [job._alone(progress) for job in (self, *self.others)]
        volume = scans[0].volume if len(scans) == 1 else _stacked([scan.volume for scan in scans])
        volume = as_colours(volume, target.channels)
        if volume.array.shape[0] != len(target.channels):
            raise InputError(
                f"the scan has {volume.array.shape[0]} channels", expected=f"{len(target.channels)}, as the model has"
            )
        found = tuple(dict.fromkeys(f for scan in scans for f in scan.findings))
        return Scan(replace(volume, channels=target.channels), found)

    def expected_bytes(self, target: Target) -> int:
        """Return the memory that reading the scan may take, more or less, from headers: stored and converted.

        Raises
        ------
        InputError
            Where a header cannot be read.
        """
        grids = [job.source.geometry if job.source else read_geometry(job.files[0]) for job in (self, *self.others)]
        each = len(target.channels) if len(grids) == 1 else 1
        return sum(_BYTES_A_VOXEL * each * math.prod(grid.shape) for grid in grids if grid is not None)

    def _alone(self, progress: Progress) -> Scan:
        """Return what lies in the job's own files."""
        if self.source is not None:
            volume = read_series(self.source, progress=progress)
        else:
            volume = map_volume(self.files[0], volume=self.volume)
        return Scan(*finite(volume, fill=self.fill))

    def content_sha256(self) -> str:
        """Return one hash over the content of all files, in order; names do not count.

        Raises
        ------
        InputError
            Where a file is gone or may not be read.
        """
        whole = hashlib.sha256()
        for path in self._all_files:
            try:
                whole.update(bytes.fromhex(file_sha256(path)))
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise InputError(f"the file cannot be read ({reason})", where=path.name, code="unreadable") from error
        return whole.hexdigest()

    def stamps(self) -> tuple[tuple[int, int], ...]:
        """Return size and time of the last change (ns) of every file, zeros for one that is gone.

        A mapped file that changes while it is segmented is told by these, as its voxels are read bit by bit.
        """
        found = []
        for path in self._all_files:
            try:
                stat = path.stat()
            except OSError:
                found.append((0, 0))
            else:
                found.append((stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    @property
    def _all_files(self) -> tuple[Path, ...]:
        return tuple(file for job in (self, *self.others) for file in job.files)


def _stacked(volumes: Sequence[Volume]) -> Volume:
    """Return single-channel scans as one, on the first one's grid."""
    first = volumes[0]
    onto = [resample(volume, onto=first.geometry).array for volume in volumes]
    names = tuple(name for volume in volumes for name in volume.channels)
    return Volume(np.concatenate(onto), first.geometry, names)
