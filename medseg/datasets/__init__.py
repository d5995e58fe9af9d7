"""Data sets on disk: the layouts of the field become a `Dataset`, and a lint says what is wrong with one.

`open_dataset` reads names only; `with_patients` looks into headers for cases of one study; `with_labels` looks into the
masks where the layout names no label; `read_case` gives one image with its mask; `check_dataset` looks at every voxel.
"""

from __future__ import annotations

from medseg.datasets.each import for_each
from medseg.datasets.findings import DatasetFinding, DatasetReport
from medseg.datasets.ignored import said_ignore, usual_ignore
from medseg.datasets.label_file import read_label_file
from medseg.datasets.labelling import with_labels
from medseg.datasets.layouts import open_dataset
from medseg.datasets.left_out import left_out
from medseg.datasets.lint import check_dataset
from medseg.datasets.patients import with_patients
from medseg.datasets.reading import (
    colour_channels,
    combined_sha256,
    content_sha256,
    dataset_sha256,
    pixel_on_pixel,
    read_case,
    read_images,
)

__all__ = [
    "DatasetFinding",
    "DatasetReport",
    "check_dataset",
    "colour_channels",
    "combined_sha256",
    "content_sha256",
    "dataset_sha256",
    "for_each",
    "left_out",
    "open_dataset",
    "pixel_on_pixel",
    "read_case",
    "read_images",
    "read_label_file",
    "said_ignore",
    "usual_ignore",
    "with_labels",
    "with_patients",
]
