"""DICOM in and out: what is in a folder, image series, and the objects made of them.

====================  ==============================================================================================
room                  what it is about
====================  ==============================================================================================
``header/``           one file: what it says of place, size, kind and coding, frame by frame
``inventory/``        a folder: files grouped into series, put in order, placed in the patient, judged
``voxels/``           from the bytes of pixel data to physical values
``series.py``         the verb of the three: find a series and read it
``seg/``              DICOM SEG, out and in
``rtstruct/``         RTSTRUCT, out and in
``sr.py``             TID 1500 reports, out
``codes/``            SNOMED CT concepts by the names of labels
====================  ==============================================================================================

Every list of files goes through one inventory (`inspect_folder`), so that reading and reporting cannot disagree.
"""

from __future__ import annotations

from medseg.io.dicom.header.reading import is_dicom
from medseg.io.dicom.inventory import inspect_files, inspect_folder
from medseg.io.dicom.item import Inventory, Item
from medseg.io.dicom.origin import Origin, origin_of
from medseg.io.dicom.referring import seg_obstacle
from medseg.io.dicom.rtstruct import rois_of, write_rtstruct
from medseg.io.dicom.seg import read_seg, write_seg
from medseg.io.dicom.series import find_series, read_series, read_series_geometry
from medseg.io.dicom.source import Repairs, SourceSeries
from medseg.io.dicom.sr import write_sr
from medseg.io.dicom.write import write_series

__all__ = [
    "Inventory",
    "Item",
    "Origin",
    "Repairs",
    "SourceSeries",
    "find_series",
    "inspect_files",
    "inspect_folder",
    "is_dicom",
    "origin_of",
    "read_seg",
    "read_series",
    "read_series_geometry",
    "rois_of",
    "seg_obstacle",
    "write_rtstruct",
    "write_seg",
    "write_series",
    "write_sr",
]
