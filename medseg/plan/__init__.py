"""Recipe, Fingerprint, Plan: what a person asked for, what the data is like, and what will be done.

A *Recipe* is short and may say ``auto``. A *Fingerprint* is measured from a data set. `medseg.planning.resolve` makes a
*Plan* of both; it holds no ``auto``, no path and no device, and decides everything after it. All three are frozen and
refuse fields they do not know.
"""

from __future__ import annotations

from medseg.plan.crf import CrfPlan
from medseg.plan.fingerprint import CaseFingerprint, ChannelFingerprint, Fingerprint
from medseg.plan.network import NetworkSpec, UNetSpec
from medseg.plan.plan import ClipZScore, InferPlan, Normalisation, Plan, PreprocessPlan, Rescale, ZScore
from medseg.plan.recipe import (
    InferRecipe,
    NetworkRecipe,
    PreprocessRecipe,
    Recipe,
    TrainRecipe,
    UNetRecipe,
    is_plan,
    read_recipe,
    recipe_folder,
)
from medseg.plan.training import AdamW, AugmentPlan, DiceCrossEntropy, Optimizer, Sgd, TrainPlan

__all__ = [
    "AdamW",
    "AugmentPlan",
    "CaseFingerprint",
    "ChannelFingerprint",
    "ClipZScore",
    "CrfPlan",
    "DiceCrossEntropy",
    "Fingerprint",
    "InferPlan",
    "InferRecipe",
    "NetworkRecipe",
    "NetworkSpec",
    "Normalisation",
    "Optimizer",
    "Plan",
    "PreprocessPlan",
    "PreprocessRecipe",
    "Recipe",
    "Rescale",
    "Sgd",
    "TrainPlan",
    "TrainRecipe",
    "UNetRecipe",
    "UNetSpec",
    "ZScore",
    "is_plan",
    "read_recipe",
    "recipe_folder",
]
