"""Reading an image series: find it, put its slices in order, decode them in threads, rescale each by its own tags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.io.dicom.inventory.tree import inspect_files, inspect_folder
from medseg.io.dicom.item import Item
from medseg.io.dicom.regularise import interpolated
from medseg.io.dicom.source import Repairs, SourceSeries
from medseg.io.dicom.voxels.decoding import decode
from medseg.progress import Progress, ignore
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.geometry import Geometry

Source = Path | SourceSeries | Item | list[Path] | tuple[Path, ...]

AS_IT_IS = Repairs()


def find_series(
    source: Source, *, item: str | None = None, volume: int | None = None, repairs: Repairs = AS_IT_IS
) -> SourceSeries:
    """Find the one series or image to read, looking at headers only.

    Parameters
    ----------
    source : Path, sequence of Path, Item or SourceSeries
        A folder or file, the files themselves, or what an inventory found.
    item : str, optional
        Id of the item to take where there are several.
    volume : int, optional
        Number of the volume to take from a 4-D series, counted from 0; in short for ``Repairs(volume=...)``.
    repairs : Repairs
        The steps that are allowed to make the series readable.

    Raises
    ------
    InputError
        Where there is none, several, or one that cannot be read honestly; the sentence says why.
    """
    if isinstance(source, SourceSeries):
        return (source if volume is None else source.pick(volume)).repaired(repairs)
    chosen = source if isinstance(source, Item) else _choose(source, item)
    if chosen.source is None:
        raise InputError("no DICOM image", where=chosen.id)
    series = chosen.source if volume is None else chosen.source.pick(volume)
    return _readable(chosen, series.repaired(repairs))


def read_series(
    source: Source,
    *,
    item: str | None = None,
    volume: int | None = None,
    repairs: Repairs = AS_IT_IS,
    progress: Progress = ignore,
) -> Volume:
    """Read a DICOM image series, or a two-dimensional DICOM image.

    Slices are ordered by their position along the slice normal (PS3.3 section C.7.6.2), values are physical (HU for
    CT), each slice rescaled by its own tags.

    Parameters
    ----------
    source : Path, sequence of Path, Item or SourceSeries
        A folder or file, the files themselves, or what `inspect_folder` or `find_series` found.
    item : str, optional
        Id of the item to take where the folder holds several.
    volume : int, optional
        Number of the volume to take from a 4-D series, counted from 0; in short for ``Repairs(volume=...)``.
    repairs : Repairs
        The steps that are allowed to make the series readable.
    progress : Progress, optional
        Told after each slice (stage ``"read"``); may cancel.

    Returns
    -------
    Volume
        (1, Z, Y, X): integers where every rescale is whole, else float32. The channel is named as the modality.

    Raises
    ------
    InputError
        Where the series cannot be read honestly; the sentence says why and what to do.
    """
    series = find_series(source, item=item, volume=volume, repairs=repairs)
    if series.geometry is None:
        raise InputError("the slices span no regular grid", where=series.id, code="no-geometry")
    array = decode(series.slices, modality=series.modality, progress=progress)
    if series.is_resampled and series.irregular is not None:
        array = interpolated(array, series.irregular)
    return Volume(array[None], series.geometry, (series.modality or "image",))


def read_series_geometry(
    source: Source, *, item: str | None = None, volume: int | None = None, repairs: Repairs = AS_IT_IS
) -> Geometry:
    """Return the grid `read_series` would give, from headers alone.

    Raises
    ------
    InputError
        As `read_series`.
    """
    series = find_series(source, item=item, volume=volume, repairs=repairs)
    if series.geometry is None:
        raise InputError("the slices span no regular grid", where=series.id, code="no-geometry")
    return series.geometry


def _choose(source: Path | Sequence[Path], item: str | None) -> Item:
    if isinstance(source, Path):
        inventory, where = inspect_folder(source), source.name
    else:
        inventory, where = inspect_files(source), f"{len(source)} files"
    images = [i for i in inventory.items if i.source is not None and i.kind in {"series", "image"}]
    if item is not None:
        images = [i for i in images if i.id == item]
    readable = [i for i in images if i.status in {"ok", "repairable"}]
    if len(readable) == 1:
        return readable[0]
    if len(readable) > 1:
        raise InputError(
            f"{len(readable)} series are here: {', '.join(i.id for i in readable[:8])}",
            expected="one",
            where=where,
            remedy="Name one of them, or give each a folder of its own",
            code="several-series",
        )
    if images:
        return images[0]
    raise InputError("no DICOM image series is here", where=where, remedy="Look with medseg inspect")


def _readable(item: Item, series: SourceSeries) -> SourceSeries:
    """Return the series, or raise what keeps it from being read as it is."""
    for finding in series.findings:
        if finding.effect != "ok" and not (finding.effect == "ignored" and item.status == "ignored"):
            raise InputError(finding.message, where=item.id, remedy=finding.remedy, code=finding.code)
    if item.status == "ignored":
        raise InputError(item.reason, where=item.id, code=item.findings[0].code)
    return series
