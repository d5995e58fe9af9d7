"""What is worth saying of a reference that can be read: structures that hold less than their name promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.io.dicom.rtstruct.rois import CLOSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.io.dicom.rtstruct.rois import Roi

RemarkCode = Literal["empty-roi", "not-closed", "sparse-contours", "off-slice", "other-series"]
_OFF_SLICE = 0.1  # slice spacings: more than rounding of coordinates


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing worth saying: a code for programs, a phrase for people."""

    code: RemarkCode
    message: str


def remarks_on(roi: Roi, onto: Geometry) -> Iterator[Remark]:
    """Yield what a person may not expect of the mask that a structure of an RTSTRUCT becomes.

    Parameters
    ----------
    roi : Roi
        The structure.
    onto : Geometry
        The grid of the mask.

    Yields
    ------
    Remark
        ``not-closed``: contours that enclose nothing; ``empty-roi``: no other contour; ``sparse-contours``: drawn on
        every second slice or fewer; ``off-slice``: planes that are not those of the image.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.io.dicom.rtstruct.rois import Roi
    >>> grid = Geometry((2, 3, 4), np.eye(4))
    >>> [remark.message for remark in remarks_on(Roi(1, "box", None, None, (), None, ()), grid)]
    ["'box' has no closed contour"]
    """
    for note in roi.notes:
        yield Remark("not-closed", f"{roi.name!r} has {note}")
    loops = [contour.points_lps for contour in roi.contours if contour.kind in CLOSED and len(contour.points_lps)]
    if not loops:
        yield Remark("empty-roi", f"{roi.name!r} has no closed contour")
        return
    middle = np.array([float(onto.to_index(loop)[:, 0].mean()) for loop in loops])
    drawn = np.unique(np.rint(middle))
    yield from _gaps(roi.name, drawn)
    off = float(np.abs(middle - np.rint(middle)).max())
    if off > _OFF_SLICE:
        yield Remark("off-slice", f"{roi.name!r} is drawn up to {off:.2g} slice spacings off the image's slices")


def _gaps(name: str, drawn: NDArray[np.float64]) -> Iterator[Remark]:
    """Yield that most slices have no neighbour; a single gap may lie between two parts of a structure."""
    if len(drawn) > 2 and np.median(np.diff(drawn)) > 1:
        span = int(drawn[-1] - drawn[0]) + 1
        yield Remark(
            "sparse-contours", f"{name!r} is drawn on {len(drawn)} of {span} slices, and its mask is empty on the rest"
        )
