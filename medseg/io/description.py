"""What a file's header says about its image, without the voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Description:
    """An image file's header in our words.

    Attributes
    ----------
    geometry : Geometry
        The grid of each volume.
    volumes : int
        Number of volumes or channels on that grid.
    dtype : str
        Stored voxel type, NumPy's name for it.
    is_placed : bool
        Whether the file says where its voxels lie in the patient; where not, orientation and origin are the format's
        default and left may be right.
    """

    geometry: Geometry
    volumes: int
    dtype: str
    is_placed: bool
