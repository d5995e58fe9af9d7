"""What is said of contours that can be read but hold less than they seem to."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.io.dicom.remarks import remarks_on
from medseg.io.dicom.rtstruct.reading import rasterised
from medseg.io.dicom.rtstruct.rois import Contour, Roi

GRID = Geometry((9, 6, 7), np.array([[0, 0.1, 0.7, 10], [0, 0.8, 0, 20], [3.0, 0, 0, 30], [0, 0, 0, 1]]))


def roi(*planes, kind="CLOSED_PLANAR", notes=()):
    corners = [(1, 1), (1, 4), (4, 4), (4, 1)]
    contours = tuple(Contour(kind, GRID.to_lps(np.array([(z, *corner) for corner in corners]))) for z in planes)
    return Roi(1, "GTV", None, None, contours, None, (), notes)


@pytest.mark.parametrize(
    ("drawn", "codes"),
    [
        (roi(2, 3, 4), []),
        (roi(2, 3, 6, 7), []),  # two parts
        (roi(2), []),
        (roi(0, 2, 4, 6), ["sparse-contours"]),
        (roi(0, 3, 4, 8), ["sparse-contours"]),
        (roi(2.3, 3.3, 4.3), ["off-slice"]),
        (roi(2.05, 3, 4), []),
        (roi(), ["empty-roi"]),
        (roi(1, 2, kind="OPEN_PLANAR", notes=("2 contours",)), ["not-closed", "empty-roi"]),
    ],
)
def test_what_is_said(drawn, codes):
    found = list(remarks_on(drawn, GRID))
    assert [remark.code for remark in found] == codes
    assert all("GTV" in remark.message for remark in found)


def test_the_slices_counted_are_those_of_the_mask():
    drawn = roi(0, 2, 4, 6)
    (remark,) = remarks_on(drawn, GRID)
    filled = rasterised(drawn, GRID).any(axis=(1, 2))
    assert "4 of 7 slices" in remark.message
    assert (filled.sum(), np.flatnonzero(filled)[-1] + 1) == (4, 7)
