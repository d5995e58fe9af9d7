"""A series ready to read: its slices in order, the grid they span, and the steps that may make it readable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

from medseg.errors import InputError
from medseg.io.dicom.findings import Finding, finding

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Geometry

UNEVEN = frozenset({"missing-slice", "uneven-spacing"})


@dataclass(frozen=True, slots=True)
class Slice:
    """Where the pixels of one slice lie.

    Attributes
    ----------
    path : Path
        The file.
    frame : int
        Number of the frame in a multi-frame object, counted from 0; 0 for all others.
    tile : int or None
        Number of the tile in a Siemens mosaic, counted from 0 by rows.
    """

    path: Path
    frame: int = 0
    tile: int | None = None


@dataclass(frozen=True, slots=True)
class Repairs:
    """The steps a person allows, by name, so that a series which is not readable as it is becomes so.

    Attributes
    ----------
    volume : int or None
        Which volume to take of a series that holds several on one grid, counted from 0.
    on_irregular : {"refuse", "resample"}
        What to do with slices at uneven positions, or missing: interpolate them linearly onto a regular grid.
    mosaic : {"refuse", "split"}
        What to do with a Siemens mosaic: take it apart into slices.
    on_nonfinite : {"refuse", "fill"}
        What to do with voxels that are no numbers: set them to the lowest finite value.
    """

    volume: int | None = None
    on_irregular: Literal["refuse", "resample"] = "refuse"
    mosaic: Literal["refuse", "split"] = "refuse"
    on_nonfinite: Literal["refuse", "fill"] = "refuse"


@dataclass(frozen=True, eq=False)
class Irregular:
    """The regular grid that slices at uneven positions may be interpolated onto.

    Attributes
    ----------
    geometry : Geometry
        From the first slice to the last, at the usual spacing.
    stations : tuple of float
        Where each slice lies along z of `geometry`, in voxels, rising from 0.
    """

    geometry: Geometry
    stations: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The slices of one image series, sorted; no voxel is read yet.

    Attributes
    ----------
    id : str
        As in `medseg inspect`; never from a patient attribute.
    modality : str
        ``"CT"``, ``"MR"`` ...; empty where the files do not say.
    volumes : tuple of tuple of Slice
        For each volume of the series (one, unless it is 4-D), one slice per station along z.
    geometry : Geometry or None
        The grid; ``None`` where the slices span none.
    findings : tuple of Finding
    irregular : Irregular or None
        Where the slices lie unevenly: the grid they may be interpolated onto.
    """

    id: str
    modality: str
    volumes: tuple[tuple[Slice, ...], ...]
    geometry: Geometry | None
    findings: tuple[Finding, ...] = ()
    irregular: Irregular | None = None

    @property
    def slices(self) -> tuple[Slice, ...]:
        """The slices of the only volume, rising along z.

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

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file of each slice of the only volume, rising along z; a multi-frame file as often as it has slices."""
        return tuple(piece.path for piece in self.slices)

    @property
    def is_resampled(self) -> bool:
        """Whether `geometry` is not the slices' own grid but the regular one they are interpolated onto."""
        return self.geometry is not None and self.irregular is not None

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

    def repaired(self, repairs: Repairs) -> Self:
        """Return the series with every allowed step taken that it needs; its findings say which.

        Raises
        ------
        InputError
            Where there is no such volume.
        """
        series = self
        if repairs.volume is not None and len(self.volumes) > 1:
            series = series.pick(repairs.volume)
        if repairs.on_irregular == "resample" and series.irregular is not None:
            series = series._resampled(series.irregular)
        if repairs.mosaic == "split":
            series = series._settled({"mosaic"}, "taken apart into its slices, as --mosaic split asks")
        return series

    def _resampled(self, irregular: Irregular) -> Self:
        words = (
            f"interpolated onto {irregular.geometry.shape[0]} slices {irregular.geometry.spacing_mm[0]:.4g} mm apart, "
            "as --on-irregular resample asks"
        )
        return replace(self._settled(UNEVEN, words), geometry=irregular.geometry)

    def _settled(self, codes: frozenset[str] | set[str], words: str) -> Self:
        """Return the series with the findings of these codes as warnings that say what was done about them."""
        found = tuple(
            finding(f.code, f"{f.message}; {words}", effect="ok", remedy="")
            if f.code in codes and f.effect == "repairable"
            else f
            for f in self.findings
        )
        return replace(self, findings=found)
