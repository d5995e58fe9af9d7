"""Scoring predicted masks against reference masks: cases paired by id, tables, intervals, paired tests.

`evaluate` is the verb; `score_case` scores one pair; `compare` tests two evaluations of the same cases.
"""

from __future__ import annotations

from medseg.evaluation.comparison import compare
from medseg.evaluation.evaluate import Evaluation, evaluate
from medseg.evaluation.instances import INSTANCES, InstanceEvaluation, InstanceScore, evaluate_instances
from medseg.evaluation.pairing import MASK, Pairing, masks_in, pair
from medseg.evaluation.scoring import CaseScore, LabelScore, score_case
from medseg.evaluation.summary import METRICS, summarise
from medseg.evaluation.table import TABLE, cases_of_table

__all__ = [
    "INSTANCES",
    "MASK",
    "METRICS",
    "TABLE",
    "CaseScore",
    "Evaluation",
    "InstanceEvaluation",
    "InstanceScore",
    "LabelScore",
    "Pairing",
    "cases_of_table",
    "compare",
    "evaluate",
    "evaluate_instances",
    "masks_in",
    "pair",
    "score_case",
    "summarise",
]
