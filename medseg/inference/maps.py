"""What a scan's segmentation tells of each voxel beside its label: maps on the scan's grid, made as scores go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from medseg import scratch
from medseg.errors import PlanError
from medseg.inference.uncertainty import Uncertainty
from medseg.preprocess import Probabilities
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.geometry import Box, Geometry
    from medseg.plan import Plan

MapName = Literal["uncertainty", "probabilities"]
"""``uncertainty``: `medseg.inference.uncertainty`. ``probabilities``: each class's, background first."""
MAPS: tuple[MapName, ...] = get_args(MapName)


def channels_of(name: MapName, plan: Plan) -> tuple[str, ...]:
    """Return what the channels of a map are called."""
    return ("background", *plan.labels.names) if name == "probabilities" else (name,)


def require_known(names: Sequence[str]) -> None:
    """Refuse names of maps that there are not.

    Raises
    ------
    PlanError
        Where one is not known.
    """
    unknown = next((name for name in names if name not in MAPS), None)
    if unknown is not None:
        raise PlanError(f"the map {unknown!r} is not known", expected=f"some of {', '.join(MAPS)}")


class Maps:
    """Maps of one scan, in temporary files.

    Parameters
    ----------
    names : sequence of MapName
        Which to make; may be none.
    working : Geometry
        The grid of the scores.
    scan : Geometry
        The grid of the maps.
    plan : Plan
        What the scores were made by.
    region : Box, optional
        Where in the scan; outside, background is certain.

    Raises
    ------
    InputError
        Where there is no place for them on the disk.
    """

    def __init__(
        self, names: Sequence[MapName], working: Geometry, scan: Geometry, *, plan: Plan, region: Box | None = None
    ) -> None:
        self._scan, self._names = scan, {name: channels_of(name, plan) for name in names}
        is_part = region is not None
        self._arrays = {name: _fresh(name, (len(c), *scan.shape), certain=is_part) for name, c in self._names.items()}
        onto = scan if region is None else scan.crop(region)
        self._makers: list[Uncertainty | Probabilities] = []
        for name, array in self._arrays.items():
            part = array if region is None else array[(slice(None), *region.slices)]
            is_cropped = plan.preprocess.scan_first is not None
            if name == "uncertainty":
                self._makers.append(Uncertainty(working, onto, part[0], is_cropped=is_cropped))
                continue
            self._makers.append(Probabilities(working, onto, part, is_cropped=is_cropped))

    def add(self, logits_kzyx: Tensor) -> None:
        """Take the next slices' scores (K, n, Y, X)."""
        for maker, array in zip(self._makers, self._arrays.values(), strict=True):
            maker.add(logits_kzyx)
            scratch.let_go(array)

    @property
    def volumes(self) -> dict[MapName, Volume]:
        """The maps, whole once all slices were taken: float32 in files that go when the arrays are let go of."""
        return {name: Volume(self._arrays[name], self._scan, channels) for name, channels in self._names.items()}


def certain_background(names: Sequence[MapName], scan: Volume, plan: Plan) -> dict[MapName, Volume]:
    """Return the maps of a scan in which nothing was looked at."""
    shape, told = scan.geometry.shape, {name: channels_of(name, plan) for name in names}
    return {
        name: Volume(_fresh(name, (len(channels), *shape), certain=True), scan.geometry, channels)
        for name, channels in told.items()
    }


def _fresh(name: MapName, shape: tuple[int, ...], *, certain: bool) -> NDArray[np.float32]:
    """Return the array of a map; where background is certain, its probability is one already."""
    array = scratch.empty(shape)
    if certain and name == "probabilities":
        for plane in array[0]:
            plane.fill(1.0)
            scratch.let_go(array)
    return array
