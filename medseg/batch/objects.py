"""The step from a case's mask to numbered objects: what was asked for, what is written, and what came back."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from medseg.errors import OutputError
from medseg.instances import measured, separate, summarised, table_text
from medseg.io import write_volume
from medseg.io.atomic import write_text
from medseg.io.planes import Planes
from medseg.plan import InstancePlan
from medseg.report import objects_png
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.batch.outputs import Finished
    from medseg.instances import Measured, Objects
    from medseg.volume import Segmentation

AskedInstances = Literal["components", "watershed", "none"]
NEED_OBJECTS = frozenset({"instances", "objects"})
"""Formats that cannot be written without the step."""


def instance_plan(
    asked: AskedInstances | None, planned: InstancePlan | None, formats: Collection[str]
) -> InstancePlan | None:
    """Return how the mask is taken apart; ``None`` where it is not.

    Parameters
    ----------
    asked : {"components", "watershed", "none"} or None
        What the person said, which goes before the plan; its other settings stay.
    planned : InstancePlan or None
        What the plan says.
    formats : collection of str
        What is to be written; one that holds objects asks for components where nobody says how.

    Examples
    --------
    >>> instance_plan("watershed", InstancePlan(minimum_mm3=5), ()).minimum_mm3
    5.0
    >>> instance_plan(None, None, ["instances"]).method, instance_plan(None, None, ["nifti"])
    ('components', None)
    """
    if asked == "none":
        return None
    if asked is not None:
        return (planned or InstancePlan()).model_copy(update={"method": asked})
    return planned or (InstancePlan() if NEED_OBJECTS & set(formats) else None)


@dataclass(frozen=True, eq=False)
class CaseObjects:
    """The objects of a case, with their table and counts; made once, when they are first needed."""

    objects: Objects

    @classmethod
    def of(cls, segmentation: Segmentation, plan: InstancePlan) -> CaseObjects:
        """Return the objects of a mask.

        Raises
        ------
        PlanError
            Where there are too many.
        """
        return cls(separate(segmentation, plan))

    @cached_property
    def rows(self) -> tuple[Measured, ...]:
        """The table."""
        return measured(self.objects)

    @cached_property
    def summary(self) -> tuple[dict[str, Any], ...]:
        """Count and sizes by label, as ``measurements.json`` and the manifest have them."""
        return summarised(self.objects, self.rows)

    @cached_property
    def planes(self) -> Planes:
        """The numbers as planes, to compare files with."""
        return Planes.on_grid(self.objects.array, self.objects.geometry, self.objects.numbers)


class TableDifference(NamedTuple):
    """How far a table is from the voxels: whether its rows are right at all, and how far places and volumes are off."""

    rows_agree: bool
    centroid_mm: float
    volume_ml: float


def numbered(finished: Finished) -> CaseObjects:
    """Return the objects of a case, for formats that are nothing without them.

    Raises
    ------
    OutputError
        Where its mask was not taken apart.
    """
    if finished.instances is None:
        raise OutputError("the mask was not taken apart into objects", remedy="Pass --instances components")
    return finished.instances


def write_numbers(finished: Finished, path: Path) -> None:
    """Write the object numbers on the scan's grid."""
    objects = numbered(finished).objects
    write_volume(Volume(objects.array[None], objects.geometry), path)


def write_table(finished: Finished, path: Path) -> None:
    """Write the table of the objects."""
    case = numbered(finished)
    write_text(path, table_text(case.objects, case.rows))


def drawn_objects(case: CaseObjects, finished: Finished) -> bytes:
    """Return the picture of a case whose mask is taken apart."""
    numbers, label_ids = case.objects.array, case.objects.label_ids
    return objects_png(finished.volume, finished.segmentation, numbers, label_ids, letters=finished.is_placed)


def table_difference(path: Path, case: CaseObjects) -> TableDifference:
    """Return how far ``objects.csv`` is from the objects' voxels, counted by another way than the table was made.

    Raises
    ------
    KeyError, ValueError
        Where it is no such table.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    moments = case.planes.moments
    voxels = moments.voxels.sum(axis=0)
    wanted = list(zip(case.objects.numbers, case.objects.label_ids, voxels.tolist(), strict=True))
    if [(int(r["object"]), int(r["label"]), int(r["voxels"])) for r in rows] != wanted:
        return TableDifference(rows_agree=False, centroid_mm=float("inf"), volume_ml=float("inf"))
    volumes = _column(rows, "volume_ml") - voxels * case.objects.geometry.voxel_ml
    names = ("centroid_l_mm", "centroid_p_mm", "centroid_s_mm")
    places = np.stack([_column(rows, name) for name in names], axis=1) - case.planes.centroids_lps(moments)
    off_mm = np.linalg.norm(places, axis=1)
    return TableDifference(
        rows_agree=True, centroid_mm=float(off_mm.max(initial=0.0)), volume_ml=float(np.abs(volumes).max(initial=0.0))
    )


def _column(rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows])
