"""Seeded phantoms with known truth (torso CT, head MR, ellipsoid), as Volumes: for the demo, sample data and tests.

They are drawn, not measured: anatomy in layers of analytic solids, with realistic densities, partial volume, blur and
noise. Good for proving that a pipeline learns and puts masks in the right place; no evidence of accuracy on patients.
"""

from __future__ import annotations

from medseg.phantom.head import HEAD_LABELS, head_mr
from medseg.phantom.scene import Phantom
from medseg.phantom.solids import ELLIPSOID_LABELS, ellipsoid, ellipsoid_ml
from medseg.phantom.torso import TORSO_LABELS, torso_ct

__all__ = [
    "ELLIPSOID_LABELS",
    "HEAD_LABELS",
    "TORSO_LABELS",
    "Phantom",
    "ellipsoid",
    "ellipsoid_ml",
    "head_mr",
    "torso_ct",
]
