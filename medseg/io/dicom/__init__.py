"""DICOM in and out: what is in a folder, image series, segmentations.

Every list of files goes through one inventory (`inspect_folder`), so that reading and reporting cannot disagree.
"""

from __future__ import annotations

from medseg.io.dicom.headers import is_dicom
from medseg.io.dicom.inventory import inspect_files, inspect_folder
from medseg.io.dicom.item import Inventory, Item
from medseg.io.dicom.seg import write_seg
from medseg.io.dicom.seg_read import read_seg
from medseg.io.dicom.seg_source import seg_obstacle
from medseg.io.dicom.series import find_series, read_series, read_series_geometry
from medseg.io.dicom.source import SourceSeries
from medseg.io.dicom.write import write_series

__all__ = [
    "Inventory",
    "Item",
    "SourceSeries",
    "find_series",
    "inspect_files",
    "inspect_folder",
    "is_dicom",
    "read_seg",
    "read_series",
    "read_series_geometry",
    "seg_obstacle",
    "write_seg",
    "write_series",
]
