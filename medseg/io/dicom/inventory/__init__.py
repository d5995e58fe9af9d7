"""What is in a folder: files grouped into series, put in order, placed in the patient, and judged."""

from __future__ import annotations

from medseg.io.dicom.inventory.tree import inspect_files, inspect_folder

__all__ = ["inspect_files", "inspect_folder"]
