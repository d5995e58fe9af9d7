"""Recipe, Fingerprint, Plan: what a person asked for, what the data is like, and what will be done.

A *Recipe* is short and may say ``auto``. A *Fingerprint* is measured from a data set. `medseg.planning.resolve` makes a
*Plan* of both; it holds no ``auto``, no path and no device, and decides everything after it. All three are frozen and
refuse fields they do not know.
"""

from __future__ import annotations

from medseg.plan.crf import (
    CrfPlan,
    CrfRecipe,
)
from medseg.plan.encoder import (
    EncoderSpec,
    ResNetSpec,
    VGGSpec,
    dilations_for,
    published_strides,
    total_stride,
)
from medseg.plan.fingerprint import (
    CaseFingerprint,
    ChannelFingerprint,
    Fingerprint,
)
from medseg.plan.instances import (
    InstanceMethod,
    InstancePlan,
    InstanceRecipe,
)
from medseg.plan.interpolation import (
    Interpolation,
    ScanFirst,
)
from medseg.plan.loss import (
    Boundary,
    CentrelineDice,
    CrossEntropy,
    Dice,
    DiceCrossEntropy,
    DiceFocal,
    Focal,
    GeneralisedDice,
    Loss,
    Tversky,
)
from medseg.plan.monai_networks import (
    MedNeXtSpec,
    SegResNetSpec,
    SwinUNETRSpec,
)
from medseg.plan.network import (
    ClassicUNetSpec,
    DeepLabSpec,
    FCNSpec,
    NetworkSpec,
    PSPNetSpec,
    UNetSpec,
    smallest_batch,
)
from medseg.plan.network_recipe import (
    ClassicUNetRecipe,
    DeepLabRecipe,
    FCNRecipe,
    MedNeXtRecipe,
    NetworkRecipe,
    PSPNetRecipe,
    SegResNetRecipe,
    SwinUNETRRecipe,
    UNetRecipe,
)
from medseg.plan.plan import (
    ClipZScore,
    Divide,
    InferPlan,
    InitialNote,
    Normalisation,
    Plan,
    PreprocessPlan,
    Rescale,
    Unchanged,
    ZScore,
)
from medseg.plan.recipe import (
    InferRecipe,
    PreprocessRecipe,
    Recipe,
    TrainRecipe,
    is_plan,
    read_recipe,
    recipe_folder,
)
from medseg.plan.training import (
    AdamW,
    AugmentPlan,
    Optimizer,
    Sgd,
    TrainPlan,
)

__all__ = [
    "AdamW",
    "AugmentPlan",
    "Boundary",
    "CaseFingerprint",
    "CentrelineDice",
    "ChannelFingerprint",
    "ClassicUNetRecipe",
    "ClassicUNetSpec",
    "ClipZScore",
    "CrfPlan",
    "CrfRecipe",
    "CrossEntropy",
    "DeepLabRecipe",
    "DeepLabSpec",
    "Dice",
    "DiceCrossEntropy",
    "DiceFocal",
    "Divide",
    "EncoderSpec",
    "FCNRecipe",
    "FCNSpec",
    "Fingerprint",
    "Focal",
    "GeneralisedDice",
    "InferPlan",
    "InferRecipe",
    "InitialNote",
    "InstanceMethod",
    "InstancePlan",
    "InstanceRecipe",
    "Interpolation",
    "Loss",
    "MedNeXtRecipe",
    "MedNeXtSpec",
    "NetworkRecipe",
    "NetworkSpec",
    "Normalisation",
    "Optimizer",
    "PSPNetRecipe",
    "PSPNetSpec",
    "Plan",
    "PreprocessPlan",
    "PreprocessRecipe",
    "Recipe",
    "ResNetSpec",
    "Rescale",
    "ScanFirst",
    "SegResNetRecipe",
    "SegResNetSpec",
    "Sgd",
    "SwinUNETRRecipe",
    "SwinUNETRSpec",
    "TrainPlan",
    "TrainRecipe",
    "Tversky",
    "UNetRecipe",
    "UNetSpec",
    "Unchanged",
    "VGGSpec",
    "ZScore",
    "dilations_for",
    "is_plan",
    "published_strides",
    "read_recipe",
    "recipe_folder",
    "smallest_batch",
    "total_stride",
]
