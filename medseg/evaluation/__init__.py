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
from medseg.evaluation.tidying import RULE, LabelTrial, Tidying, choose, label_trials, read_pairs

__all__ = [
    "INSTANCES",
    "MASK",
    "METRICS",
    "RULE",
    "TABLE",
    "CaseScore",
    "Evaluation",
    "InstanceEvaluation",
    "InstanceScore",
    "LabelScore",
    "LabelTrial",
    "Pairing",
    "Tidying",
    "cases_of_table",
    "choose",
    "compare",
    "evaluate",
    "evaluate_instances",
    "label_trials",
    "masks_in",
    "pair",
    "read_pairs",
    "score_case",
    "summarise",
]
