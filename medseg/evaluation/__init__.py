"""Scoring predicted masks against reference masks: cases paired by id, tables, intervals, paired tests.

`evaluate` is the verb; `score_case` scores one pair; `compare` tests two evaluations of the same cases.
"""

from __future__ import annotations

from medseg.evaluation.comparison import compare
from medseg.evaluation.evaluate import Evaluation, evaluate
from medseg.evaluation.pairing import Pairing, masks_in, pair
from medseg.evaluation.scoring import CaseScore, LabelScore, score_case
from medseg.evaluation.summary import METRICS, summarise

__all__ = [
    "METRICS",
    "CaseScore",
    "Evaluation",
    "LabelScore",
    "Pairing",
    "compare",
    "evaluate",
    "masks_in",
    "pair",
    "score_case",
    "summarise",
]
