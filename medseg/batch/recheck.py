"""Is in a file what was to be written? Each output is opened again by another path than its writer's, and compared.

================  ==================================  =========================================================
format            opened by                           compared
================  ==================================  =========================================================
``nifti``         SimpleITK, or the header's bytes    grid, voxels, centroids, laterality
``dicom-seg``     pydicom                             the same, on the slices of the series
``rtstruct``      pydicom, filled by winding number   the same
``sr``            pydicom                             volumes
``stl``           the bytes of the file               closed, between the right voxels, centroids, laterality
``png``           SimpleITK                           that it is a picture
``png-mask``      the bytes of the file               voxels, colours
``measurements``  json                                volumes, numbers of objects
``instances``     SimpleITK, or the header's bytes    as ``nifti``, object by object
``objects``       csv                                 voxels, volumes, centroids
maps              the bytes of the file               grid, voxels
``channels``      json                                numbers and names
================  ==================================  =========================================================
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medseg.batch.maps import map_apart, tells_channels
from medseg.batch.objects import numbered, table_difference
from medseg.errors import InputError, OutputError
from medseg.io.dicom.regularise import on_slices, slice_positions
from medseg.io.dicom.sr import read_sr_volumes
from medseg.io.mesh_check import check_surfaces
from medseg.io.planes import Apart, Planes, apart
from medseg.io.reopen import reopen_indexed, reopen_nifti, reopen_picture, reopen_rtstruct, reopen_seg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from medseg.batch.outputs import Finished
    from medseg.io.maps import MapApart

_GRID_MM = 0.01
_SLICE_MM, _SLICE = 0.02, 0.02  # how far (of a slice spacing) a header may place a slice off the grid of its series
_VOLUME_ML = 2e-6  # volumes are written with six decimals
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Check:
    """What came of opening an output again.

    Attributes
    ----------
    passed : bool
    reader : str
        What opened it.
    grid_mm : float or None
        The largest distance of a corner, or of a mesh's vertex, from its place; ``None`` where a format has no grid.
    voxels_differing : int or None
        For meshes: pairs of neighbouring voxels that are not parted as they should be.
    centroid_mm : float or None
        The largest distance between centroids of a label.
    laterality : bool or None
        Whether every label is on its side, left or right.
    volume_ml : float or None
        The largest difference between volumes of a label.
    closed : bool or None
        Whether all surfaces are closed and face outwards.
    """

    passed: bool
    reader: str
    grid_mm: float | None = None
    voxels_differing: int | None = None
    centroid_mm: float | None = None
    laterality: bool | None = None
    volume_ml: float | None = None
    closed: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest tells of it: what was compared."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: round(value, _DECIMALS) if isinstance(value, float) else value for name, value in told.items()}


class Recheck:
    """The check of one case; what its outputs are compared with is made once.

    Parameters
    ----------
    finished : Finished
        The case.
    """

    def __init__(self, finished: Finished) -> None:
        self._finished = finished
        self._mask = finished.segmentation

    def check(self, name: str, path: Path) -> Check:
        """Return how an output came back.

        Parameters
        ----------
        name : str
            One of `medseg.batch.FORMATS`.
        path : Path
            The file, or folder.

        Raises
        ------
        OutputError
            Where it does not hold what was to be written.
        """
        try:
            check = _CHECKS[name](self, path)
        except (InputError, OSError, ValueError, KeyError) as error:
            words = error.found if isinstance(error, InputError) else type(error).__name__
            raise OutputError(f"the file cannot be read back: {words}") from error
        if not check.passed:
            numbers = ", ".join(f"{key} {value}" for key, value in check.to_json().items() if key != "passed")
            raise OutputError(f"the file does not hold what was written ({numbers})")
        return check

    @cached_property
    def _on_grid(self) -> Planes:
        return Planes.on_grid(self._mask.array, self._mask.geometry, self._mask.labels.ids)

    @cached_property
    def _on_slices(self) -> Planes:
        """The mask on the slices that were acquired, where DICOM objects hold it."""
        source = self._finished.series
        if not source.is_resampled:
            return self._on_grid
        array, steps = on_slices(self._mask, source), self._on_grid.steps_lps
        return Planes(array, slice_positions(source), steps, self._mask.labels.ids)

    @cached_property
    def _volumes_ml(self) -> dict[int, float]:
        """Volumes by the counts that centroids are made of."""
        counts = self._on_grid.moments.voxels.sum(axis=0)
        voxel_ml = self._mask.geometry.voxel_ml
        return {i: float(n) * voxel_ml for i, n in zip(self._mask.labels.ids, counts, strict=True)}

    def _nifti(self, path: Path) -> Check:
        found, reader = reopen_nifti(path, self._mask.labels.ids)
        return _placed(apart(found, self._on_grid), reader, within_mm=_GRID_MM)

    def _dicom_seg(self, path: Path) -> Check:
        numbers = {tracking.uid: i for i, tracking in self._finished.identity.tracking.items()}
        found = reopen_seg(path, self._on_slices, numbers)
        return _placed(apart(found, self._on_slices), "pydicom", within_mm=self._off_slice_mm)

    def _rtstruct(self, path: Path) -> Check:
        found = reopen_rtstruct(path, self._on_slices)
        words = "pydicom, contours filled by winding number"
        return _placed(apart(found, self._on_slices), words, within_mm=self._off_slice_mm)

    @property
    def _off_slice_mm(self) -> float:
        return max(_SLICE_MM, _SLICE * self._mask.geometry.spacing_mm[0])

    def _sr(self, path: Path) -> Check:
        tracking = self._finished.identity.tracking
        found = read_sr_volumes(path)
        return self._measured({i: found[tracking[i].uid] for i in self._mask.labels.ids}, "pydicom")

    def _measurements(self, path: Path) -> Check:
        document = json.loads(path.read_text("utf-8"))
        check = self._measured({row["id"]: row["volume_ml"] for row in document["labels"]}, "json")
        case = self._finished.instances
        counts = None if case is None else Counter(case.objects.label_ids)
        told = {row["id"]: row["count"] for row in document["objects"]} if "objects" in document else None
        agree = counts == told if counts is None or told is None else counts == Counter(told)
        return replace(check, passed=check.passed and agree)

    def _instances(self, path: Path) -> Check:
        case = numbered(self._finished)
        found, reader = reopen_nifti(path, case.objects.numbers)
        return _placed(apart(found, case.planes), reader, within_mm=_GRID_MM)

    def _objects(self, path: Path) -> Check:
        off = table_difference(path, numbered(self._finished))
        passed = off.rows_agree and off.centroid_mm <= _GRID_MM and off.volume_ml <= _VOLUME_ML
        return Check(passed, "csv", centroid_mm=off.centroid_mm, volume_ml=off.volume_ml)

    def _uncertainty(self, path: Path) -> Check:
        return _mapped(map_apart(self._finished, "uncertainty", path))

    def _probabilities(self, path: Path) -> Check:
        return _mapped(map_apart(self._finished, "probabilities", path))

    def _channels(self, path: Path) -> Check:
        return Check(tells_channels(self._finished, path), "json")

    def _measured(self, found: Mapping[int, float], reader: str) -> Check:
        off_ml = max((abs(found[i] - volume) for i, volume in self._volumes_ml.items()), default=0.0)
        passed = off_ml <= _VOLUME_ML and len(found) == len(self._volumes_ml)
        return Check(passed, reader, volume_ml=off_ml)

    def _stl(self, path: Path) -> Check:
        found = check_surfaces(path, self._mask)
        passed = found.closed and found.grid_mm <= _GRID_MM and not found.voxels_differing and found.laterality
        return Check(passed, "the bytes of the file", **asdict(found))

    def _png(self, path: Path) -> Check:
        return Check(min(reopen_picture(path)) > 0, "SimpleITK")

    def _png_mask(self, path: Path) -> Check:
        ids, colours = reopen_indexed(path)
        differing = int((ids != self._mask.array[0]).sum()) if ids.shape == self._mask.array.shape[1:] else ids.size
        passed = not differing and colours == self._mask.labels.palette
        return Check(passed, "the bytes of the file", voxels_differing=differing)


def _placed(off: Apart, reader: str, *, within_mm: float) -> Check:
    passed = off.grid_mm <= within_mm and not off.voxels_differing and off.centroid_mm <= within_mm and off.laterality
    return Check(passed, reader, **asdict(off))


def _mapped(off: MapApart) -> Check:
    return Check(off.grid_mm <= _GRID_MM and not off.voxels_differing, "the bytes of the file", **off._asdict())


_CHECKS: Mapping[str, Callable[[Recheck, Path], Check]] = MappingProxyType(
    {
        "nifti": Recheck._nifti,
        "dicom-seg": Recheck._dicom_seg,
        "rtstruct": Recheck._rtstruct,
        "sr": Recheck._sr,
        "stl": Recheck._stl,
        "png": Recheck._png,
        "png-mask": Recheck._png_mask,
        "measurements": Recheck._measurements,
        "instances": Recheck._instances,
        "objects": Recheck._objects,
        "uncertainty": Recheck._uncertainty,
        "probabilities": Recheck._probabilities,
        "channels": Recheck._channels,
    }
)
