"""Self-contained HTML pages about a segmentation, an evaluation or a training, and their pictures."""

from __future__ import annotations

from medseg.report.evaluation import evaluation_report
from medseg.report.objects import objects_png
from medseg.report.pictures import overlay_png
from medseg.report.segment import segment_report
from medseg.report.training import training_report

__all__ = ["evaluation_report", "objects_png", "overlay_png", "segment_report", "training_report"]
