"""What a plan will take before anything starts: time, memory and disk, with what the numbers rest on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medseg.planning.cost import network_cost
from medseg.planning.rules import median_shape
from medseg.planning.sizing import BYTES_PER_ACTIVATION, BYTES_PER_PARAMETER, FORWARD_AND_BACK, FRAMEWORK_BYTES

if TYPE_CHECKING:
    from medseg.plan import Fingerprint, Plan
    from medseg.planning.resources import Resources

ASSUMED_FLOPS = {"cpu": 3e10, "cuda": 1.5e13}  # a second, per core or per card: cautious
CHECKPOINTS = 4  # copies of weights and optimiser state a run folder holds, last, best and model together
FLOAT = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What training and segmenting with a plan will take.

    Attributes
    ----------
    parameters : int
        Weights of the network.
    flops_per_step : float
        Operations of one training step.
    seconds_per_step, seconds_total : float
        Time of one step, and of all epochs of one fold.
    train_ram_bytes : int
        Memory of training on its device.
    infer_ram_bytes : int
        Memory of segmenting the data set's largest image.
    disk_bytes : int
        Prepared cases and the run folder of one fold.
    assumptions : tuple of str
        What the numbers rest on, as sentences.
    """

    parameters: int
    flops_per_step: float
    seconds_per_step: float
    seconds_total: float
    train_ram_bytes: int
    infer_ram_bytes: int
    disk_bytes: int
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as a plain dict."""
        return asdict(self)


def estimate(plan: Plan, fingerprint: Fingerprint, *, resources: Resources) -> Estimate:
    """Return what a plan will take on a machine.

    Time is the network's operations over the machine's: measured where `resources` says, else assumed; reading and
    varying patches is taken to go on beside it. Memory counts weights, optimiser, kept activations and the framework.
    """
    cost = network_cost(
        plan.network, plan.spatial_patch, in_channels=len(plan.channels), out_channels=len(plan.labels) + 1
    )
    train = plan.train
    flops_per_step = float(FORWARD_AND_BACK * cost.flops * train.batch_size)
    speed, reason = _speed(resources)
    seconds = flops_per_step / speed
    activations = cost.activations * train.batch_size * BYTES_PER_ACTIVATION[resources.device]
    weights = cost.parameters * BYTES_PER_PARAMETER
    return Estimate(
        parameters=cost.parameters,
        flops_per_step=flops_per_step,
        seconds_per_step=seconds,
        seconds_total=seconds * train.steps_per_epoch * train.epochs,
        train_ram_bytes=FRAMEWORK_BYTES + weights + activations,
        infer_ram_bytes=FRAMEWORK_BYTES
        + cost.parameters * FLOAT
        + cost.largest_stage * FLOAT
        + _image(plan, fingerprint),
        disk_bytes=_prepared(plan, fingerprint) + CHECKPOINTS * weights,
        assumptions=(
            reason,
            f"{train.epochs} epochs of {train.steps_per_epoch} steps, one fold, without validation",
            f"{BYTES_PER_ACTIVATION[resources.device]} bytes for each number kept for the way back",
            *(("segmenting without the CRF, which takes more memory (docs/crf.md)",) if plan.infer.crf else ()),
        ),
    )


def _speed(resources: Resources) -> tuple[float, str]:
    if resources.flops_per_second is not None:
        return resources.flops_per_second, f"{resources.flops_per_second:.2g} operations a second, measured here"
    units = resources.cores if resources.device == "cpu" else 1
    speed = ASSUMED_FLOPS[resources.device] * units
    return speed, f"{speed:.2g} operations a second, assumed"


def _image(plan: Plan, fingerprint: Fingerprint) -> int:
    """Return the bytes of the largest image on both grids, with the scores of all classes on the network's."""
    target = plan.preprocess.spacing_mm
    stored = max(math.prod(case.shape) for case in fingerprint.cases)
    working = max(math.prod(case.shape) * math.prod(case.spacing_mm) / math.prod(target) for case in fingerprint.cases)
    per_voxel = FLOAT * (len(plan.channels) + len(plan.labels) + 1)
    return int(working * per_voxel + stored * (FLOAT * len(plan.channels) + 2))


def _prepared(plan: Plan, fingerprint: Fingerprint) -> int:
    voxels = float(median_shape(fingerprint, plan.preprocess.spacing_mm).prod()) * len(fingerprint.cases)
    return int(voxels * (FLOAT * len(plan.channels) + 1))
