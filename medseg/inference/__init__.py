"""From a model and a scan to a mask: the `Segmenter`, and the choice of device and precision."""

from __future__ import annotations

from medseg.inference.hardware import NumericPath, describe_machine, resolve_device, resolve_path, resolve_precision
from medseg.inference.region import Look
from medseg.inference.result import Flag, Result
from medseg.inference.segmenter import Segmenter

__all__ = [
    "Flag",
    "Look",
    "NumericPath",
    "Result",
    "Segmenter",
    "describe_machine",
    "resolve_device",
    "resolve_path",
    "resolve_precision",
]
