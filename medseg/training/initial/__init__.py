"""Starting from weights: those of a published encoder or network, or of a model trained before.

Examples
--------
What `medseg train --init` does before training::

    source = read_source(Path("resnet50.safetensors"))
    initial = initial_weights(plan, source, fold=0)
    train(plan, training, validation, folder=folder, settings=TrainSettings(initial=initial.weights))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg import networks
from medseg.errors import InputError
from medseg.training.engine import own_random_state
from medseg.training.initial.encoders import require_encoder
from medseg.training.initial.matching import Blueprint, Fitter
from medseg.training.initial.names import ENCODER, as_ours
from medseg.training.initial.report import InitReport
from medseg.training.initial.source import Source, read_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from medseg.plan import Plan
    from medseg.training.initial.matching import Taken

__all__ = ["InitReport", "Initial", "Source", "initial_weights", "read_source"]


@dataclass(frozen=True, slots=True)
class Initial:
    """The whole state of a network to begin with, and what of it was drawn and what taken."""

    weights: Mapping[str, Tensor]
    report: InitReport


def initial_weights(plan: Plan, source: Source, *, fold: int = 0, inflate: bool = False) -> Initial:
    """Return a plan's network as a run would draw it, with the weights of `source` wherever they fit.

    Weights are known by their names: ours or torchvision's. Of a model whose labels and channels are known, scores are
    taken by label name and the stem by channel name, whatever their numbers; what is new stays fresh. Of a file, the
    stem is adapted to the number of channels (`adapt.for_channels`), and scores are taken where there are as many.

    Parameters
    ----------
    plan : Plan
        What will be trained.
    source : Source
        What to start from.
    fold : int
        Of the plan's folds; a model of several members gives that of the same fold.
    inflate : bool
        Whether 2-D kernels may become 3-D ones (`adapt.inflated`).

    Raises
    ------
    InputError
        Where the weights are of another kind of network, another encoder or width, or of 2-D without `inflate`.
    """
    try:
        given = source.tensors(fold)
        found, remarks = _of_use(plan, source, given)
        with own_random_state(plan.train.seed):
            size = (len(plan.channels), len(plan.labels) + 1)
            fresh = networks.build(plan.network, *size).state_dict()
            blueprint = Blueprint.of(plan.network, *size)
        names = as_ours(found, fresh)
        by_name = {ours: found[theirs] for ours, theirs in names.items()}
        taken = _taken(Fitter(plan, source.plan, blueprint, inflate=inflate), fresh, by_name)
        remarks += require_encoder(plan.network, fresh, by_name, taken)
    except InputError as error:
        raise error.at(source.where) from error
    if source.plan is None and any(name in blueprint.classes for name in taken):
        remarks += ("The file does not name its classes: their scores were taken in its order.",)
    used = {names[name] for name in taken}
    report = InitReport(
        note=source.note,
        matched=tuple(name for name, one in taken.items() if not one.ways),
        adapted={name: ", ".join(one.ways) for name, one in taken.items() if one.ways},
        fresh=tuple(name for name in fresh if name not in taken),
        unused=tuple(name for name in given if name not in used),
        remarks=remarks,
        is_whole=all(name in taken or name in blueprint.classes for name in fresh),
    )
    return Initial({name: taken[name].tensor if name in taken else tensor for name, tensor in fresh.items()}, report)


def _of_use(plan: Plan, source: Source, tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return the weights a network of the plan's kind can use; of another kind, those of the encoder both stand on."""
    if source.plan is None or source.plan.network.kind == plan.network.kind:
        return tensors, ()
    origin = source.plan.network
    mine, theirs = (getattr(spec, "encoder", None) for spec in (plan.network, origin))
    if mine is None or theirs is None or mine.kind != theirs.kind:
        raise InputError(
            f"the model is a {origin.in_words}",
            expected=f"a {plan.network.in_words}, or a network on the same encoder",
            remedy="Start from a model of the same kind, or without --init",
        )
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith(ENCODER)}
    return encoder, (f"The model is a {origin.in_words}: its encoder alone was taken.",)


def _taken(fitter: Fitter, fresh: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Taken]:
    """Return what fits, by name, layer by layer: where a layer's kernel does not fit, its bias stays fresh too."""
    tried = {name: fitter.fit(name, tensor, found[name]) for name, tensor in fresh.items() if name in found}
    misfit = {name.rpartition(".")[0] for name, one in tried.items() if one is None}
    return {name: one for name, one in tried.items() if one is not None and name.rpartition(".")[0] not in misfit}
