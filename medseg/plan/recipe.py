"""Recipe: what a person asks for, short, with ``auto`` wherever the data may decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from medseg.errors import PlanError
from medseg.plan.crf import CrfRecipe
from medseg.plan.instances import InstanceRecipe
from medseg.plan.loss import DiceCrossEntropy, Loss
from medseg.plan.network_recipe import NetworkRecipe, UNetRecipe
from medseg.plan.part import Auto, AxisName, Codes, Count, Fraction, Part, PatchSize, Positive, Selection, Share, Triple
from medseg.plan.training import AugmentPlan, Optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping


class PreprocessRecipe(Part):
    """`PreprocessPlan` with ``auto``."""

    orientation: Codes = "SPL"
    spacing_mm: Triple | Auto = "auto"
    normalisation: tuple[Literal["zscore", "clip_zscore", "rescale"], ...] | Auto = "auto"


class TrainRecipe(Part):
    """`TrainPlan` with ``auto``; `gpu_memory_gb` is what a plan for a GPU fills at most, 11 where it is ``auto``."""

    gpu_memory_gb: Positive | Auto = "auto"

    patch_size: PatchSize | Auto = "auto"
    batch_size: Count | Auto = "auto"
    epochs: Count | Auto = "auto"
    steps_per_epoch: Count | Auto = "auto"
    optimizer: Optimizer | Auto = "auto"
    loss: Loss = Field(default_factory=DiceCrossEntropy)
    foreground_fraction: Fraction = 0.33
    augment: AugmentPlan | Auto = "auto"
    ema_decay: Share | Auto = "auto"
    folds: Annotated[int, Field(ge=2)] = 5
    seed: int = 0
    patience: Count | None = None


class InferRecipe(Part):
    """`InferPlan` with ``auto``; what is tidied goes by label names, or ``all``; `select` is a rule for `segment`."""

    overlap: Share = 0.5
    windows: Literal["even", "nnunet", "monai"] = "even"
    mirror_axes: tuple[AxisName, ...] | Auto = "auto"
    largest_component: tuple[str, ...] | Literal["all"] = ()
    minimum_ml: dict[str, Positive] = Field(default_factory=dict)
    fill_holes: tuple[str, ...] | Literal["all"] = ()
    instances: InstanceRecipe | None = None
    select: Selection = ""
    crf: CrfRecipe | None = None


class Recipe(Part):
    """What a person asks for; everything has a default, and ``auto`` leaves a choice to the data."""

    channels: tuple[str, ...] = ()
    preprocess: PreprocessRecipe = Field(default_factory=PreprocessRecipe)
    network: NetworkRecipe = Field(default_factory=UNetRecipe)
    train: TrainRecipe = Field(default_factory=TrainRecipe)
    infer: InferRecipe = Field(default_factory=InferRecipe)


def recipe_folder() -> Path:
    """Return the folder of the recipes that come with medseg: inside the package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent.parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"


def read_recipe(name_or_path: str) -> Recipe:
    """Return a recipe by name (``unet3d``; one of ``configs/more`` also as ``more/nuclei``) or path.

    Raises
    ------
    PlanError
        Where neither exists, or the file is not a recipe.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        own, more = (recipe_folder() / part / f"{name_or_path}.yaml" for part in ("", "more"))
        path = own if own.is_file() else more
    if not path.is_file():
        folders = (recipe_folder(), recipe_folder() / "more")
        known = ", ".join(p.stem for folder in folders for p in sorted(folder.glob("*.yaml")))
        raise PlanError(f"there is no recipe {name_or_path!r}", expected=f"a path to a YAML file, or one of {known}")
    return Recipe.read(path)


def is_plan(document: Mapping[str, Any]) -> bool:
    """Tell a plan from a recipe: only a plan says what its labels are."""
    return "labels" in document
