"""Many scans in one go: take stock, segment one after the other, leave a manifest in which every file has its word."""

from __future__ import annotations

from medseg.batch.engine import run_batch, run_cases
from medseg.batch.manifest import CaseRecord, Manifest
from medseg.batch.options import BatchOptions
from medseg.batch.outputs import FORMATS

__all__ = ["FORMATS", "BatchOptions", "CaseRecord", "Manifest", "run_batch", "run_cases"]
