"""RTSTRUCT, out and in: outlines of masks, and masks of outlines."""

from __future__ import annotations

from medseg.io.dicom.rtstruct.reading import rasterised, read_rtstruct
from medseg.io.dicom.rtstruct.rois import Roi, rois_of
from medseg.io.dicom.rtstruct.writing import write_rtstruct

__all__ = ["Roi", "rasterised", "read_rtstruct", "rois_of", "write_rtstruct"]
