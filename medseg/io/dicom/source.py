"""A series ready to read: its files in slice order, and the grid they span."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from medseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Geometry
    from medseg.io.dicom.findings import Finding


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The files of one image series, sorted; no voxel is read yet.

    Attributes
    ----------
    id : str
        As in `medseg inspect`; never from a patient attribute.
    modality : str
        ``"CT"``, ``"MR"`` ...; empty where the files do not say.
    volumes : tuple of tuple of Path
        For each volume of the series (one, unless it is 4-D), one file per slice along z of `geometry`.
    geometry : Geometry or None
        The grid; ``None`` where the slices span none.
    findings : tuple of Finding
    """

    id: str
    modality: str
    volumes: tuple[tuple[Path, ...], ...]
    geometry: Geometry | None
    findings: tuple[Finding, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the only volume, one per slice along z.

        Raises
        ------
        InputError
            Where the series holds several volumes: `pick` one first.
        """
        if len(self.volumes) != 1:
            raise InputError(
                f"the series holds {len(self.volumes)} volumes on one grid",
                where=self.id,
                remedy="Choose one volume with --volume N, counted from 0",
                code="four-d",
            )
        return self.volumes[0]

    def pick(self, volume: int) -> Self:
        """Return the series with volume number `volume` alone, counted from 0.

        Raises
        ------
        InputError
            Where there is no such volume.
        """
        if not 0 <= volume < len(self.volumes):
            raise InputError(
                f"there is no volume {volume}", expected=f"0 to {len(self.volumes) - 1}", where=self.id, code="four-d"
            )
        found = tuple(f for f in self.findings if f.code != "four-d")
        return replace(self, volumes=(self.volumes[volume],), findings=found)
