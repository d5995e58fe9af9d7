"""Reviewing masks without a window: the queue, versions, the audit log, edits that survive a crash, and the export.

The state of a review lies in the folder ``review`` of the folder under review:

===========================  ======================================================================================
``review.sqlite``            the audit log; what a case's status is follows from it and from nothing else
``log.head``                 how many entries the log had, and the last one's digest
``images.json``              where the images were found
``<case>/v0001.nii.gz``      a version of the mask, with ``v0001.json`` beside it; none is ever written over
``<case>/unsaved-*.edits``   edits that are in no version yet, one file a reviewer
===========================  ======================================================================================

What is under review stays as it is: the predicted mask is version 0.
"""

from __future__ import annotations

from medseg.review.agreement import Agreement, agreement
from medseg.review.cases import REVIEW, ReviewCase, find_cases, mask_elsewhere
from medseg.review.changes import Edit
from medseg.review.desk import Desk
from medseg.review.export import ExportReport, export_reviewed
from medseg.review.log import AuditLog, Event
from medseg.review.opened import OpenCase
from medseg.review.queue import Entry, Queue, Status
from medseg.review.versions import Comparison, Version, Versions, compare

__all__ = [
    "REVIEW",
    "Agreement",
    "AuditLog",
    "Comparison",
    "Desk",
    "Edit",
    "Entry",
    "Event",
    "ExportReport",
    "OpenCase",
    "Queue",
    "ReviewCase",
    "Status",
    "Version",
    "Versions",
    "agreement",
    "compare",
    "export_reviewed",
    "find_cases",
    "mask_elsewhere",
]
