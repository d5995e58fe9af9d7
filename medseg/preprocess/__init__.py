"""From a scan to what the network sees, and from its scores back to the scan: a pair in one room.

Forth: the scan is taken onto the *working grid*, right-angled, in the plan's orientation and spacing, and its grey
values are normalised. Back: the scores of all classes are interpolated linearly at every voxel of the scan, and the
largest wins. Both are the choice of another grid; nothing about the way forth is remembered for the way back.

Both go slices at a time, forth on demand (`WorkingImage`) and back as slices are finished (`Restoration`), so that
neither the scan on the working grid nor the scores of all classes need be in memory as a whole.
"""

from __future__ import annotations

from medseg.preprocess.grid import working_grid
from medseg.preprocess.image import (
    IMAGE_ORDER,
    WorkingImage,
    is_looked_at_first,
    is_made_at_once,
    prepare,
    prepare_mask,
)
from medseg.preprocess.restoration import Probabilities, Restoration, restore
from medseg.preprocess.scan_first import nearest_slices

__all__ = [
    "IMAGE_ORDER",
    "Probabilities",
    "Restoration",
    "WorkingImage",
    "is_looked_at_first",
    "is_made_at_once",
    "nearest_slices",
    "prepare",
    "prepare_mask",
    "restore",
    "working_grid",
]
