"""import: a trained model folder of nnU-Net v2 becomes a model folder of medseg."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from medseg import __version__
from medseg.errors import ModelError, PlanError
from medseg.model import Card, DataNote, ImportNote, save_model
from medseg.nnunet import (
    find_folder,
    has_batch_norm,
    read_checkpoint,
    read_configuration,
    to_plan,
    to_state,
    unpacked,
)
from medseg.progress import Progress, Step, ignore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.model import Model
    from medseg.nnunet import Checkpoint, Configuration, TrainedFolder
    from medseg.plan import UNetSpec

_CHECKPOINTS = ("final", "best")
_LIMITS = (
    "Imported from nnU-Net. Its masks are nnU-Net's; how good they are is told by whoever trained it, and was not "
    "measured here."
)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Which of what a folder holds is meant, and what the model is to be called.

    Attributes
    ----------
    configuration : str or None
        ``3d_fullres``, ``2d``, ...; needed where the folder holds several.
    folds : tuple of str or None
        Numbers, or ``all``; None for all numbered folds.
    checkpoint : "final" or "best"
        Which checkpoint of a fold.
    name : str or None
        None: data set and configuration.
    """

    configuration: str | None = None
    folds: tuple[str, ...] | None = None
    checkpoint: str = "final"
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no folder could have."""
        if self.checkpoint not in _CHECKPOINTS:
            raise PlanError(f"the checkpoint {self.checkpoint!r} is not known", expected="final or best")
        if self.folds is not None and (not self.folds or not all(f == "all" or f.isdecimal() for f in self.folds)):
            raise PlanError(f"the folds are {', '.join(self.folds) or 'none'}", expected="numbers such as 0,1, or all")


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The model that was made, and what to know about using it."""

    model: Model

    def rows(self) -> list[tuple[str, str]]:
        """Return what it is, for people."""
        plan, card = self.model.plan, self.model.card
        mirrored = ", ".join(plan.infer.mirror_axes)
        return [
            ("name", card.name),
            ("network", plan.network.in_words),
            ("folds", ", ".join(map(str, self.model.weights))),
            ("channels", ", ".join(plan.channels)),
            ("labels", ", ".join(plan.labels.names)),
            ("spacing", " x ".join(f"{s:g}" for s in plan.preprocess.spacing_mm) + " mm"),
            ("--tta mirrors", mirrored or "nothing: training did not allow it"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        plan, card = self.model.plan, self.model.card
        return {
            "schema": 1,
            "model": str(self.model.folder),
            "name": card.name,
            "sha256": self.model.sha256,
            "folds": list(self.model.weights),
            "channels": list(plan.channels),
            "labels": list(plan.labels.names),
            "mirror_axes": list(plan.infer.mirror_axes),
            "imported": card.imported.model_dump(mode="json") if card.imported else None,
        }


def import_model(source: Path, output: Path, request: ImportRequest, *, progress: Progress = ignore) -> ImportReport:
    """Make a model folder of a trained model of nnU-Net v2.

    Parameters
    ----------
    source : Path
        ``TRAINER__PLANS__CONFIGURATION``, a folder above it, or a zip that nnU-Net exported.
    output : Path
        The model folder to make; an older model there is replaced.
    request : ImportRequest
        Which of several, and its name.
    progress : Progress
        Told before each checkpoint as stage ``checkpoint``.

    Raises
    ------
    ModelError
        Where there is no such model, or it asks for what medseg does not have; the sentence says what.
    OutputError
        Where the folder cannot be written.
    """
    if not source.exists():
        raise ModelError("there is no such file or folder", where=str(source))
    with unpacked(source) as folder:
        trained = find_folder(
            folder, configuration=request.configuration, folds=request.folds, checkpoint=request.checkpoint
        )
        checkpoints = {}
        for n, (member, path) in enumerate(trained.members.items()):
            progress(Step("checkpoint", n, len(trained.members)))
            checkpoints[member] = read_checkpoint(path)
        return ImportReport(_made(trained, checkpoints, output, request))


def _made(trained: TrainedFolder, checkpoints: Mapping[int, Checkpoint], output: Path, request: ImportRequest) -> Model:
    """Write the model of checkpoints of one configuration."""
    first = next(iter(checkpoints.values()))
    name = first.configuration or trained.path.name.rpartition("__")[2]
    for fold, checkpoint in checkpoints.items():
        if checkpoint.configuration != first.configuration:
            raise ModelError(
                f"fold {fold} is of configuration {checkpoint.configuration!r}",
                expected=f"{first.configuration!r}, as the others",
                where=str(trained.path),
            )
    if request.configuration not in {None, name}:
        raise ModelError(
            f"the checkpoints are of configuration {name!r}",
            expected=repr(request.configuration),
            where=str(trained.path),
        )
    configuration = read_configuration(trained.path, name)
    plan = to_plan(configuration, mirror_axes=first.mirror_axes, has_batch_norm=has_batch_norm(first.weights))
    spec = cast("UNetSpec", plan.network)  # the one kind a configuration becomes
    members = {}
    for (fold, checkpoint), path in zip(checkpoints.items(), trained.members.values(), strict=True):
        members[fold] = to_state(checkpoint.weights, spec, where=str(path))
    card = _card(configuration, plan.channels, checkpoints, request)
    try:
        return save_model(output, plan=plan, members=members, card=card)
    except ModelError as error:
        raise error.at(str(trained.path)) from error


def _card(
    configuration: Configuration,
    channels: tuple[str, ...],
    checkpoints: Mapping[int, Checkpoint],
    request: ImportRequest,
) -> Card:
    plans, dataset = configuration.plans, configuration.dataset
    data = plans.dataset_name or dataset.name or "unknown"
    return Card(
        name=request.name or f"{data} {configuration.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        medseg=__version__,
        data=DataNote(name=data, cases=max(0, dataset.number)),
        imported=ImportNote(
            program="nnU-Net",
            configuration=configuration.name,
            plans=plans.plans_name,
            trainer=next(iter(checkpoints.values())).trainer,
            checkpoints={str(fold): checkpoint.sha256 for fold, checkpoint in checkpoints.items()},
        ),
        modalities=channels,
        licence="unknown; ask whoever published the model",
        limits=_LIMITS,
    )
