"""DICOM SEG, out and in."""

from __future__ import annotations

from medseg.io.dicom.seg.reading import read_seg, segment_names
from medseg.io.dicom.seg.writing import write_seg

__all__ = ["read_seg", "segment_names", "write_seg"]
