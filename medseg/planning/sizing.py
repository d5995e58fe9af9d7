"""The size of a network, its patch and its batch: as large as the images, the memory and the device's speed allow.

nnU-Net's procedure (Isensee 2021, supplementary note 4): start from the median image, fit strides, and shrink the axis
that is largest beside the image until a batch of two fits. On a CPU the limit that counts is time, not memory: patches
and batches are held to what makes a step of a second or some.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import PlanError
from medseg.plan import smallest_batch
from medseg.planning.cost import network_cost
from medseg.planning.designs import Design, designed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.plan import NetworkRecipe, NetworkSpec
    from medseg.planning.resources import Resources

LARGEST_PATCH = {2: 2048**2, 3: 256**3}  # voxels nnU-Net starts from
CPU_PATCH = {2: 512 * 512, 3: 64**3}  # voxels of a patch on a CPU
CPU_BATCH = {2: 512 * 512, 3: 90_000}  # voxels of a batch on a CPU: where time is short, many steps beat large ones
CPU_MAX_BATCH = 16
CPU_STEP_FLOPS = 1.2e11  # operations of a step on a CPU: some seconds; what costs more has smaller patches and batches
FORWARD_AND_BACK = 3  # a backward pass costs twice the forward one
SMALLEST_PATCH = {2: 32**2, 3: 16**3}  # voxels; less shows no anatomy
MIN_BATCH = {"cpu": 1, "cuda": 2}
SHARE_OF_CASES = 0.05  # a batch holds at most this share of all voxels
MEMORY_SHARE = 0.9  # of what the machine offers; the rest is for what nobody counted
FRAMEWORK_BYTES = 700_000_000  # Python, PyTorch and MONAI in memory
CUDA_TARGET_GB = 11.0  # nnU-Net's plans are made for cards of this size; its presets L and XL for 24 and 40
BYTES_PER_ACTIVATION = {"cpu": 4, "cuda": 2}
BYTES_PER_PARAMETER = 20  # weight, gradient, two moments of the optimiser, moving average


@dataclass(frozen=True, slots=True)
class Task:
    """What the network is for: the median image on its grid, and the channels that go in and come out.

    `shape` and `spacing_mm` are those of the network's axes: three, or two for slices.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    in_channels: int
    out_channels: int
    total_voxels: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """A network with the patch and batch it is trained on."""

    network: NetworkSpec
    patch: tuple[int, ...]
    batch: int


def sized(
    task: Task,
    recipe: NetworkRecipe,
    resources: Resources,
    *,
    patch: Sequence[int] | None = None,
    batch: int | None = None,
    gpu_memory_gb: float = CUDA_TARGET_GB,
) -> Sizes:
    """Return network, patch and batch for a task; a given patch or batch is kept.

    On a GPU a batch takes `gpu_memory_gb` at most, in 10^9 bytes.

    Raises
    ------
    PlanError
        Where the memory does not hold the batch given, or one of the smallest patch; or a given patch does not fit the
        strides.
    """
    budget = _budget(resources, gpu_memory_gb)
    sides = _first_patch(task) if patch is None else tuple(patch)
    while True:
        shape = designed(recipe, sides, task.spacing_mm, device=resources.device)
        per_sample, fixed, flops = _taken(shape.network, shape.patch, task, resources.device)
        fewest = batch or _fewest(shape.network, resources)
        fits = fixed + fewest * per_sample <= budget
        if patch is not None:
            break
        is_quick = flops * _fewest(shape.network, resources) <= _most_flops(resources)
        if fits and is_quick and math.prod(shape.patch) <= _most_voxels(task, resources):
            break
        smaller = _shrunk(shape, task.shape)
        if smaller is None:
            break
        sides = smaller
    if fixed + fewest * per_sample > budget:
        is_own_limit = resources.device == "cuda" and budget == int(gpu_memory_gb * 1e9)
        ways_out = ["Allow more with " + ("--set train.gpu_memory_gb" if is_own_limit else "--memory")]
        ways_out += ["ask for less"] if batch or patch else ["use slices: -r unet2d"] * (len(shape.patch) > 2)
        raise _too_large(shape, fewest, fixed=fixed, budget=budget, ways_out=ways_out)
    if patch is not None and shape.patch != tuple(patch):
        raise PlanError(
            f"the patch {tuple(patch)} does not fit the network's strides {shape.network.divisor}",
            expected=f"multiples of them, such as {shape.patch}",
        )
    most = int(min((budget - fixed) // per_sample, _most_flops(resources) / flops))
    return Sizes(shape.network, shape.patch, batch or _batch(task, shape, resources, most))


def _too_large(shape: Design, fewest: int, *, fixed: int, budget: int, ways_out: Sequence[str]) -> PlanError:
    """Return what does not fit, and the ways out."""
    there = f"the {max(0, budget) / 1e9:.2g} GB that are there beside PyTorch"
    if fixed > budget > 0:
        found = f"the weights of {shape.network.in_words} take {fixed / 1e9:.2g} GB in training, more than {there}"
        ways_out = [*ways_out, "a narrower network: --set network.width=16"]
    else:
        found = f"a batch of {fewest} of patches of {shape.patch} takes more than {there}"
    return PlanError(found, remedy=", or ".join(ways_out))


def _first_patch(task: Task) -> tuple[int, ...]:
    """Return a cube in mm of nnU-Net's largest patch, no larger than the median image."""
    density = 1 / np.array(task.spacing_mm)
    dims = len(task.shape)
    sides = np.rint(density * (LARGEST_PATCH[dims] / density.prod()) ** (1 / dims))
    return tuple(int(max(1, min(side, n))) for side, n in zip(sides, task.shape, strict=True))


def _shrunk(shape: Design, image: Sequence[int]) -> tuple[int, ...] | None:
    """Return the patch one divisor smaller along the axis that is largest beside the image; None at the smallest."""
    divisor = shape.network.divisor
    ratios = [side / n if side > d else 0.0 for side, n, d in zip(shape.patch, image, divisor, strict=True)]
    axis = int(np.argmax(ratios))
    smaller = tuple(side - divisor[a] if a == axis else side for a, side in enumerate(shape.patch))
    if ratios[axis] == 0.0 or math.prod(smaller) < SMALLEST_PATCH[len(smaller)]:
        return None
    return smaller


def _taken(network: NetworkSpec, patch: Sequence[int], task: Task, device: str) -> tuple[int, int, int]:
    """Return the bytes one more sample takes in training, those the network takes anyway, and a sample's operations."""
    cost = network_cost(network, patch, in_channels=task.in_channels, out_channels=task.out_channels)
    kept = cost.activations * BYTES_PER_ACTIVATION[device]
    return kept, cost.parameters * BYTES_PER_PARAMETER, FORWARD_AND_BACK * cost.flops


def _fewest(network: NetworkSpec, resources: Resources) -> int:
    """Return the smallest batch worth its time.

    On a CPU, PyTorch takes a slow way through dilated convolutions of a single small map, and a good one for two.
    """
    dilations = network.encoder.dilations if hasattr(network, "encoder") else ()
    of_kernels = 2 if resources.device == "cpu" and max(dilations, default=1) > 1 else 1
    return max(MIN_BATCH[resources.device], smallest_batch(network), of_kernels)


def _batch(task: Task, shape: Design, resources: Resources, most: int) -> int:
    voxels, dims = math.prod(shape.patch), len(shape.patch)
    least = _fewest(shape.network, resources)
    limits = [most, max(least, round(SHARE_OF_CASES * task.total_voxels / voxels))]
    if resources.device == "cpu":
        limits += [max(least, round(CPU_BATCH[dims] / voxels)), CPU_MAX_BATCH]
    return max(least, min(limits))


def _budget(resources: Resources, gpu_memory_gb: float) -> int:
    share = int(MEMORY_SHARE * resources.memory_bytes) - FRAMEWORK_BYTES
    return share if resources.device == "cpu" else min(share, int(gpu_memory_gb * 1e9))


def _most_flops(resources: Resources) -> float:
    return CPU_STEP_FLOPS if resources.device == "cpu" else math.inf


def _most_voxels(task: Task, resources: Resources) -> float:
    return CPU_PATCH[len(task.shape)] if resources.device == "cpu" else math.inf
