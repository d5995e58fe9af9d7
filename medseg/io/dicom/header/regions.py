"""The pixel size of an ultrasound image, from the regions that are calibrated in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.io.dicom.header.sequences import first_values

if TYPE_CHECKING:
    from medseg.io.dicom.header.attributes import Pair
    from medseg.io.dicom.header.parsing import Parsed

REGIONS = 0x00186011  # SequenceOfUltrasoundRegions
_FORMAT, _UNITS_X, _UNITS_Y, _DELTA_X, _DELTA_Y = 0x00186012, 0x00186024, 0x00186026, 0x0018602C, 0x0018602E
_LEAVES = {_FORMAT: "US", _UNITS_X: "US", _UNITS_Y: "US", _DELTA_X: "FD", _DELTA_Y: "FD"}
_PLANE, _CM = 1, 3  # a two-dimensional region, in centimetres (PS3.3 section C.8.5.5.1)
_MOST_REGIONS = 64
_SAME = 1e-4  # relative
_MM_PER_CM = 10.0


def region_spacing(parsed: Parsed) -> Pair | None:
    """Return the spacing of rows and columns in mm, where all two-dimensional regions agree on one."""
    sequence = parsed.located.get(REGIONS)
    if sequence is None:
        return None
    found: list[Pair] = []
    for count, (start, end) in enumerate(parsed.walker.items(sequence)):
        if count >= _MOST_REGIONS:
            return None
        said = first_values(parsed.walker, start, end, _LEAVES)
        if said.get(_FORMAT) != _PLANE:
            continue
        if said.get(_UNITS_X) != _CM or said.get(_UNITS_Y) != _CM:
            return None
        pair = abs(said.get(_DELTA_Y, 0.0)) * _MM_PER_CM, abs(said.get(_DELTA_X, 0.0)) * _MM_PER_CM
        if not all(map(math.isfinite, pair)) or min(pair) <= 0:
            return None
        found.append(pair)
    if not found or not all(math.isclose(a, b, rel_tol=_SAME) for p in found for a, b in zip(p, found[0], strict=True)):
        return None
    return found[0]
