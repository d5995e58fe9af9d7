"""plan: a data set and a machine measured, and a recipe resolved against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from medseg.datasets import left_out, open_dataset, with_labels, with_patients
from medseg.documents import read_yaml
from medseg.errors import PlanError
from medseg.inference import hardware
from medseg.io.atomic import write_text
from medseg.plan import Plan, Recipe, is_plan, read_recipe
from medseg.planning import Estimate, Resources, estimate, fingerprint, parse_size, resolve
from medseg.progress import Progress, ignore
from medseg.training.throughput import measure_flops_per_second

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.case import Dataset
    from medseg.plan import Fingerprint


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a person asks for: a recipe (or plan), settings, and what there is to plan for.

    With `measured`, the machine's speed is measured for the estimate, which takes some seconds; it changes no plan.
    """

    recipe: str = "unet3d"
    settings: tuple[str, ...] = ()
    memory: str | None = None
    device: str = "auto"
    measured: bool = False

    def names_optimizer(self, field: str) -> bool:
        """Tell whether somebody said a field of the optimiser, in a recipe, a plan or a setting.

        Examples
        --------
        >>> PlanRequest(settings=("train.optimizer.warmup=0.2",)).names_optimizer("learning_rate")
        False
        """
        if _plan_document(self.recipe) is not None:
            return True
        keys = ("train", "train.optimizer", f"train.optimizer.{field}")
        return read_recipe(self.recipe).train.optimizer != "auto" or any(_names(self.settings, key) for key in keys)

    def resources(self) -> Resources:
        """Return the machine to plan for: the device asked for, with the memory named or free now."""
        device = hardware.resolve_device(self.device)
        kind = cast("Literal['cpu', 'cuda']", device.partition(":")[0])
        memory = parse_size(self.memory) if self.memory else hardware.free_memory_bytes(device)
        speed = measure_flops_per_second(device=device) if self.measured else None
        return Resources(kind, memory, cores=hardware.usable_cores(), flops_per_second=speed)


@dataclass(frozen=True, slots=True)
class PlanProposal:
    """A plan, what it was made from, and what it will take."""

    dataset: Dataset
    fingerprint: Fingerprint
    plan: Plan
    estimate: Estimate
    left_out: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write the plan as YAML."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.plan.to_yaml())

    def summary_rows(self) -> list[tuple[str, object]]:
        """Return the plan in a few lines."""
        plan, network = self.plan, self.plan.network
        return [
            ("data", f"{self.dataset.name}, {len(self.dataset.cases)} cases, channels {', '.join(plan.channels)}"),
            ("labels", ", ".join(plan.labels.names)),
            *((("ignored", f"voxels of the id {plan.ignore_label}"),) if plan.ignore_label is not None else ()),
            *(("left out", sentence) for sentence in self.left_out),
            ("folds", _folds_in_words(plan, self.dataset)),
            ("working grid", f"{_mm(plan.preprocess.spacing_mm)} mm, {plan.preprocess.orientation}"),
            ("normalisation", ", ".join(n.kind for n in plan.preprocess.normalisation)),
            ("network", network.in_words),
            ("patch and batch", f"{' x '.join(map(str, plan.train.patch_size))}, {plan.train.batch_size}"),
            (
                "schedule",
                f"{plan.train.epochs} epochs of {plan.train.steps_per_epoch} steps, {plan.train.optimizer.kind}",
            ),
        ]

    def estimate_rows(self) -> list[tuple[str, object]]:
        """Return what it will take, with what the numbers rest on."""
        amounts = self.estimate
        return [
            ("parameters", f"{amounts.parameters / 1e6:.2f} million"),
            (
                "time, one fold",
                f"{_duration(amounts.seconds_total)} without --budget ({amounts.seconds_per_step:.2g} s a step)",
            ),
            ("RAM to train", f"{amounts.train_ram_bytes / 1e9:.1f} GB"),
            ("RAM to segment", f"{amounts.infer_ram_bytes / 1e9:.1f} GB"),
            ("disk", f"{amounts.disk_bytes / 1e9:.2f} GB"),
            *(("assumed", text) for text in amounts.assumptions),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"schema": 1, "plan": self.plan.model_dump(mode="json"), "estimate": self.estimate.to_json()}


def make_plan(path: Path, request: PlanRequest, *, progress: Progress = ignore) -> PlanProposal:
    """Measure a data set and resolve a recipe against it and this machine.

    A recipe that is a plan already is taken as it is. Where there are fewer patients than the folds that nobody asked
    for, each patient is a fold.

    Raises
    ------
    InputError, PlanError
        Where the data set cannot be used, or recipe and data contradict each other.
    """
    document = _plan_document(request.recipe)
    recipe = Recipe() if document is not None else read_recipe(request.recipe)
    folds_asked = "folds" in recipe.train.model_fields_set or _names(request.settings, "train.folds")
    now, later = _settings_in_order(recipe, request.settings) if document is None else ((), request.settings)
    recipe = recipe.with_settings(now)
    dataset = with_patients(open_dataset(path, channels=recipe.channels or None), progress=progress)
    dataset = with_labels(dataset, progress=progress)
    measured = fingerprint(dataset, progress=progress)
    resources = request.resources()
    plan = (
        resolve(recipe, measured, resources=resources)
        if document is None
        else Plan.from_document(document, where=request.recipe)
    )
    plan = plan.with_settings(later)
    if document is None and not folds_asked:
        plan = _with_folds(plan, dataset)
    require_same_labels(plan, dataset, where=request.recipe)
    gone = left_out(dataset, progress=progress)
    return PlanProposal(dataset, measured, plan, estimate(plan, measured, resources=resources), gone)


def require_same_labels(plan: Plan, dataset: Dataset, *, where: str, begun: bool = False) -> None:
    """Refuse a plan with other labels than the data set, or that ignores another id.

    Parameters
    ----------
    plan, dataset : Plan, Dataset
        What is compared.
    where : str
        The plan's path, for errors.
    begun : bool
        Whether a run by this plan has begun, so that the plan can no longer change.

    Raises
    ------
    PlanError
        Where they differ.
    """
    if plan.labels.ids != dataset.labels.ids:
        raise PlanError(
            f"the plan's labels are {', '.join(plan.labels.names)}",
            expected=f"those of the data set: {', '.join(dataset.labels.names)}",
            where=where,
        )
    if plan.ignore_label != dataset.ignore:
        instead = "begin another run (--overwrite, or another folder)" if begun else "change ignore_label in the plan"
        raise PlanError(
            f"the plan ignores {_id_or_none(plan.ignore_label)}",
            expected=f"{_id_or_none(dataset.ignore)}, as the data set does",
            where=where,
            remedy=f"Say 'ignore' in the data set's labels.yaml as the plan does, or {instead}",
        )


def _id_or_none(ignore: int | None) -> str:
    return "no id" if ignore is None else f"the id {ignore}"


def _with_folds(plan: Plan, dataset: Dataset) -> Plan:
    """Return the plan with as many folds as there are patients, where these are fewer and more than one."""
    patients = dataset.patients
    if dataset.splits or not 2 <= patients < plan.train.folds:
        return plan
    return plan.with_settings((f"train.folds={patients}",))


def _folds_in_words(plan: Plan, dataset: Dataset) -> str:
    if dataset.splits:
        return f"{len(dataset.splits)}, the data set's own"
    few = dataset.patients <= plan.train.folds
    return f"{plan.train.folds}, one for each patient" if few else str(plan.train.folds)


def _names(settings: Sequence[str], key: str) -> bool:
    return any(setting.partition("=")[0].strip() == key for setting in settings)


def _plan_document(name: str) -> dict[str, Any] | None:
    """Return the document of a plan.yaml; None where `name` is a recipe."""
    if not name.endswith((".yaml", ".yml")):
        return None
    from pathlib import Path

    document = read_yaml(Path(name))
    return document if isinstance(document, dict) and is_plan(document) else None


def _settings_in_order(recipe: Recipe, settings: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part settings into those the recipe holds, and those of parts it leaves to ``auto``, which wait for the plan."""
    document = recipe.model_dump(mode="json")
    later = tuple(s for s in settings if _passes_auto(document, s.partition("=")[0].strip().split(".")))
    return tuple(s for s in settings if s not in later), later


def _passes_auto(document: Any, keys: Sequence[str]) -> bool:
    for key in keys[:-1]:
        document = document.get(key) if isinstance(document, dict) else None
        if document == "auto":
            return True
    return False


def _duration(seconds: float) -> str:
    """Return a time as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _mm(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing_mm)
