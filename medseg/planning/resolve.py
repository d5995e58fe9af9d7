"""From recipe and fingerprint to plan: every ``auto`` is decided here, by rules that depend on nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from medseg.errors import PlanError
from medseg.plan import AdamW, AugmentPlan, InferPlan, InstancePlan, Plan, PreprocessPlan, Sgd, TrainPlan
from medseg.plan.part import faults
from medseg.planning import rules
from medseg.planning.sizing import CUDA_TARGET_GB, Sizes, Task, sized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelSet
    from medseg.plan import Fingerprint, InstanceRecipe, Optimizer, Recipe
    from medseg.plan.part import AxisName
    from medseg.planning.resources import Resources

EPOCHS = {"cpu": (100, 50), "cuda": (1000, 250)}  # epochs and steps in each; nnU-Net's on a GPU
EMA_DECAY = {"cpu": 0.99, "cuda": 0.999}  # a memory of about 100 and 1000 steps: short runs need the short one


def resolve(recipe: Recipe, fingerprint: Fingerprint, *, resources: Resources) -> Plan:
    """Return the plan a recipe means for a data set on a machine.

    Parameters
    ----------
    recipe : Recipe
        What was asked for; whatever it states is kept.
    fingerprint : Fingerprint
        What the data is like.
    resources : Resources
        What there is to train with. The plan itself names no device.

    Raises
    ------
    PlanError
        Where the recipe contradicts the data or itself, or the channels' names are known to nobody.
    """
    try:
        return _resolved(recipe, fingerprint, resources)
    except ValidationError as error:
        raise PlanError(
            f"the recipe asks for what does not go together: {faults(error)}", remedy="Change the recipe or settings"
        ) from error


def _resolved(recipe: Recipe, fingerprint: Fingerprint, resources: Resources) -> Plan:
    names = rules.channel_names(recipe, fingerprint)
    spacing = rules.target_spacing(fingerprint)
    if recipe.preprocess.spacing_mm != "auto":
        spacing = recipe.preprocess.spacing_mm
    _refuse_flat(recipe, fingerprint)
    axis = rules.slice_axis(fingerprint, spacing) if recipe.network.dimensions == 2 else None
    axis = _given_slice_axis(recipe, axis)
    sizes = _sizes(recipe, fingerprint, resources, spacing=spacing, axis=axis)
    mirror = rules.mirror_axes(recipe, fingerprint, without=axis)
    if resources.device == "cpu" and recipe.network.dimensions == 3:
        mirror = ()  # bodies lie one way on the working grid; a short run has no time to learn the others too
    normalisation = rules.normalisation(recipe, names, fingerprint.channels)
    return Plan(
        channels=names,
        labels=fingerprint.labels,
        preprocess=PreprocessPlan(
            orientation=recipe.preprocess.orientation,
            spacing_mm=spacing,
            normalisation=normalisation,
        ),
        network=sizes.network,
        train=_train(recipe, sizes, resources.device, axis=axis, augment=AugmentPlan(mirror_axes=mirror)),
        infer=_infer(recipe, fingerprint, mirror, kinds=[n.kind for n in normalisation]),
        ignore_label=fingerprint.ignore_label,
    )


def _refuse_flat(recipe: Recipe, fingerprint: Fingerprint) -> None:
    """Refuse a 3-D network for images of one slice."""
    if recipe.network.dimensions == 3 and all(1 in case.shape for case in fingerprint.cases):
        raise PlanError(
            "the images have one slice, which leaves nothing to a 3-D network", remedy="Use the 2-D recipe: -r unet2d"
        )


def _given_slice_axis(recipe: Recipe, axis: int | None) -> int | None:
    """Return the slice axis; a given patch of a 2-D network says by its side of 1 which it is."""
    patch = recipe.train.patch_size
    if axis is None or patch == "auto":
        return axis
    if patch.count(1) != 1:
        raise PlanError(f"the patch {patch} of a 2-D network is no slice", expected="exactly one side of 1")
    return patch.index(1)


def _sizes(
    recipe: Recipe,
    fingerprint: Fingerprint,
    resources: Resources,
    *,
    spacing: tuple[float, float, float],
    axis: int | None,
) -> Sizes:
    axes = [a for a in range(3) if a != axis]
    shape = rules.median_shape(fingerprint, spacing)
    task = Task(
        shape=tuple(int(shape[a]) for a in axes),
        spacing_mm=tuple(spacing[a] for a in axes),
        in_channels=len(fingerprint.channels),
        out_channels=len(fingerprint.labels) + 1,
        total_voxels=float(np.prod(shape)) * len(fingerprint.cases),
    )
    given = recipe.train.patch_size
    patch = None if given == "auto" else tuple(given[a] for a in axes)
    batch = None if recipe.train.batch_size == "auto" else recipe.train.batch_size
    most_gb = CUDA_TARGET_GB if recipe.train.gpu_memory_gb == "auto" else recipe.train.gpu_memory_gb
    sizes = sized(task, recipe.network, resources, patch=patch, batch=batch, gpu_memory_gb=most_gb)
    full = list(sizes.patch)
    if axis is not None:
        full.insert(axis, 1)
    return Sizes(sizes.network, tuple(full), sizes.batch)


def _train(recipe: Recipe, sizes: Sizes, device: str, *, axis: int | None, augment: AugmentPlan) -> TrainPlan:
    asked = recipe.train
    epochs, steps = EPOCHS[device]
    optimizer: Optimizer = AdamW() if device == "cpu" else Sgd()
    z, y, x = sizes.patch
    return TrainPlan(
        patch_size=(z, y, x),
        batch_size=sizes.batch,
        epochs=epochs if asked.epochs == "auto" else asked.epochs,
        steps_per_epoch=steps if asked.steps_per_epoch == "auto" else asked.steps_per_epoch,
        optimizer=optimizer if asked.optimizer == "auto" else asked.optimizer,
        loss=asked.loss,
        foreground_fraction=asked.foreground_fraction,
        augment=_turning(augment, sizes.patch, axis) if asked.augment == "auto" else asked.augment,
        ema_decay=EMA_DECAY[device] if asked.ema_decay == "auto" else asked.ema_decay,
        folds=asked.folds,
        seed=asked.seed,
        patience=asked.patience,
    )


def _turning(augment: AugmentPlan, patch: tuple[int, ...], axis: int | None) -> AugmentPlan:
    """Turn only within the slice where slices are seen one by one or the patch is flat, as nnU-Net does."""
    sides = [math.inf if a == axis else side for a, side in enumerate(patch)]
    flat = axis if axis is not None else int(np.argmin(sides))
    if axis is None and max(patch) < rules.ANISOTROPIC * min(patch):
        return augment
    a, b, c = (deg if i == flat else 0.0 for i, deg in enumerate(augment.rotation_deg))
    return augment.model_copy(update={"rotation_deg": (a, b, c)})


def _infer(
    recipe: Recipe, fingerprint: Fingerprint, mirror: tuple[AxisName, ...], *, kinds: Sequence[str]
) -> InferPlan:
    asked = recipe.infer
    labels = fingerprint.labels
    return InferPlan(
        overlap=asked.overlap,
        windows=asked.windows,
        mirror_axes=mirror if asked.mirror_axes == "auto" else asked.mirror_axes,
        largest_component=_ids(asked.largest_component, labels),
        minimum_ml={labels.by_name(name).id: ml for name, ml in asked.minimum_ml.items()},
        fill_holes=_ids(asked.fill_holes, labels),
        instances=None if asked.instances is None else _instances(asked.instances, labels),
        select=asked.select,
        crf=None if asked.crf is None else asked.crf.resolved(kinds),
    )


def _ids(names: Sequence[str], labels: LabelSet) -> tuple[int, ...]:
    """Return the ids of labels by name; of all where ``all`` is said."""
    return tuple(labels.by_name(name).id for name in (labels.names if names == "all" else names))


def _instances(asked: InstanceRecipe, labels: LabelSet) -> InstancePlan:
    names = () if asked.labels == "all" else asked.labels
    return InstancePlan(**asked.model_dump(exclude={"labels"}), labels=tuple(labels.by_name(n).id for n in names))
