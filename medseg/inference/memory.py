"""What segmenting a scan takes in memory, told before work starts, and what is done where that is too much.

Nothing here changes a number of the result. What can be given up for memory is time: an image whose normalisation looks
at it first is then made twice instead of held in between.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psutil

from medseg.errors import InputError
from medseg.inference.hardware import free_memory_bytes
from medseg.networks.footprint import peak_features
from medseg.plan import ClassicUNetSpec, MedNeXtSpec, SegResNetSpec, SwinUNETRSpec, UNetSpec
from medseg.preprocess import is_looked_at_first, is_made_at_once, working_grid
from medseg.resample.lattice import Lattice
from medseg.tiling import SLAB_BYTES
from medseg.transforms.intensity import SLICES
from medseg.volume import id_type

if TYPE_CHECKING:
    from medseg.geometry import Geometry
    from medseg.inference.hardware import NumericPath
    from medseg.plan import NetworkSpec, Plan
    from medseg.volume import Volume

FLOAT = 4
SPLINE_TAIL = 40  # source slices beside those that 32 target slices cover, which cubic interpolation looks at
RESTORED_BYTES = 250_000_000  # for the cells on boundaries of a slab, and what libraries set up when first called
OBLIQUE_BYTES = 250_000_000  # for a block of the source, where grids are oblique to each other
AT_ONCE_COPIES = 3  # of the scan in float32, where it is cropped and normalised first
EXPORTED_MAPS = 20  # of the first stage's features, for a network run by ONNX Runtime or OpenVINO
MOST_MAPS = 80  # of the same, more than any network here holds at a time
CRF_COPIES = 12  # of the scores of all classes, those that go in included
CRF_VOXEL_BYTES = 500  # of the lattice of the appearance kernel
PIECES_BYTES = 11  # a voxel, to find the largest piece of a label: its copy, numbers twice, and where it is
TIGHT = 0.9  # share of the free memory that is taken where no limit was given


class Footprint(NamedTuple):
    """Bytes in memory by what they are for.

    Attributes
    ----------
    resident : int
        What the process and its children hold already: libraries, weights, the scan.
    network : int
        Features of the windows seen at once; on a GPU, what comes back from them.
    scores : int
        Logits that windows are still added to, and finished ones on their way.
    image : int
        Slices of the scan on the working grid, and what they are made of.
    held : int
        The whole scan on the working grid, where it is held.
    mask : int
        The mask, and what tidying it takes.
    crf : int
        The CRF, where there is one.
    """

    resident: int
    network: int
    scores: int
    image: int
    held: int
    mask: int
    crf: int

    @property
    def total(self) -> int:
        """All of it at once."""
        return sum(self)


@dataclass(frozen=True, slots=True)
class Fit:
    """How a scan fits into the memory allowed.

    Attributes
    ----------
    footprint : Footprint
        What it takes at most.
    limit : int
        What is allowed, bytes.
    is_split : bool
        Whether the image is made twice, as there is no room to hold it.
    """

    footprint: Footprint
    limit: int
    is_split: bool = False

    @property
    def in_words(self) -> str:
        """What a person is told."""
        how = "will split" if self.is_split else "fits"
        return f"{how}, {self.footprint.total / 1e9:.1f} of {self.limit / 1e9:.1f} GB at most"


def fit(volume: Volume, plan: Plan, path: NumericPath, *, max_ram: int | None = None) -> Fit:
    """Return how a scan fits.

    Parameters
    ----------
    volume : Volume
        The scan, in memory already.
    plan : Plan
        The model's.
    path : NumericPath
        How it computes.
    max_ram : int, optional
        Bytes the process and its children may hold; by default what they hold now and most of what is free.

    Raises
    ------
    InputError
        Where it does not fit; names the least that would do.
    """
    resident = resident_bytes()
    limit = max_ram or resident + int(TIGHT * free_memory_bytes("cpu"))
    working = working_grid(volume.geometry, plan)
    held = _held_bytes(volume, working, plan)
    least = footprint(volume, working, plan, path, resident=resident, is_counted=False)
    if least.total + held > limit:  # counting features takes seconds, which a bound mostly spares
        least = footprint(volume, working, plan, path, resident=resident)
    if least.total + held <= limit:
        return Fit(least._replace(held=held), limit)
    if is_made_at_once(plan):
        least = least._replace(held=held)
    if least.total > limit:
        parts = ", ".join(f"{name} {size / 1e9:.2g}" for name, size in least._asdict().items() if size > limit / 50)
        raise InputError(
            f"segmenting this scan takes {least.total / 1e9:.2f} GB of memory ({parts})",
            expected=f"at most {limit / 1e9:.2f} GB, {'as asked' if max_ram else 'which is free'}",
            remedy=f"Allow --max-ram {math.ceil(least.total / 1e8) / 10:g}GB" if max_ram else "Close other programs",
            code="memory",
        )
    return Fit(least, limit, is_split=True)


def footprint(
    volume: Volume, working: Geometry, plan: Plan, path: NumericPath, *, resident: int, is_counted: bool = True
) -> Footprint:
    """Return what a scan takes at least, on the working grid `working`; features are counted, or a bound is taken."""
    classes, channels = len(plan.labels) + 1, len(plan.channels)
    patch = plan.train.patch_size
    plane = math.prod(max(n, p) for n, p in zip(working.shape[1:], patch[1:], strict=True))
    slice_bytes = plane * classes * FLOAT
    slab = max(slice_bytes, min(SLAB_BYTES, slice_bytes * patch[0]))
    ring = slice_bytes * patch[0]
    window = path.window_batch * classes * math.prod(patch) * FLOAT
    network = 2 * window + (_features(plan, path, is_counted=is_counted) if path.device == "cpu" else 0)
    return Footprint(
        resident=resident,
        network=network,
        scores=ring + 3 * slab + RESTORED_BYTES,
        image=channels * _image_bytes(volume, working, patch[0]),
        held=0,
        mask=_mask_bytes(volume.geometry, plan),
        crf=0 if plan.infer.crf is None else _crf_bytes(working, classes),
    )


def resident_bytes() -> int:
    """Return the memory that this process and its children hold resident now."""
    process = psutil.Process()
    total = int(process.memory_info().rss)
    for child in process.children(recursive=True):
        try:
            total += int(child.memory_info().rss)
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return total


def peak_ram_mb() -> float:
    """Return the most memory this process held resident so far, in 10^6 bytes."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss begins with what the process that started this one held
        after = status.read_text(encoding="ascii", errors="replace").partition("VmHWM:")[2].split()
        if after:  # some sandboxes do not tell
            return int(after[0]) * 1024 / 1e6
    import resource  # noqa: PLC0415 - not on every system

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _features(plan: Plan, path: NumericPath, *, is_counted: bool) -> int:
    """Return what features take: counted for PyTorch; of an exported network, whose layers are not known, assumed."""
    shape = (path.window_batch, len(plan.channels), *plan.spatial_patch)
    if path.backend != "torch" or not is_counted:
        maps = EXPORTED_MAPS if is_counted else MOST_MAPS
        return maps * _width(plan.network) * path.window_batch * math.prod(plan.spatial_patch) * FLOAT
    size = 2 if path.precision == "bf16" else FLOAT
    return peak_features(plan.network, shape, len(plan.labels) + 1) * size


def _width(network: NetworkSpec) -> int:
    """Return the features of a network's first stage."""
    match network:
        case UNetSpec() | ClassicUNetSpec():
            return network.features[0]
        case SwinUNETRSpec():
            return network.features
        case SegResNetSpec() | MedNeXtSpec():
            return network.width
        case _:
            return network.encoder.width


def _image_bytes(volume: Volume, working: Geometry, depth: int) -> int:
    """Return what a patch's depth of one channel takes, with the source slices it is made of."""
    kept = 2 * (depth + 2 * SLICES) * math.prod(working.shape[1:]) * FLOAT
    lattice = Lattice.between(volume.geometry, working)
    step = np.abs(lattice.matrix[:, 0])
    across = math.prod(n for axis, n in enumerate(volume.geometry.shape) if axis != step.argmax())
    made = 2 * (SLICES * step.max() + SPLINE_TAIL) * across * FLOAT
    return kept + int(made) + (OBLIQUE_BYTES if lattice.steps() is None else 0)


def _held_bytes(volume: Volume, working: Geometry, plan: Plan) -> int:
    """Return what is held of the image on the working grid, where there is room; nothing where it is not looked at."""
    whole = math.prod((len(plan.channels), *working.shape)) * FLOAT
    if is_made_at_once(plan):
        return whole + AT_ONCE_COPIES * math.prod(volume.array.shape) * FLOAT
    return whole if is_looked_at_first(plan) else 0


def _mask_bytes(scan: Geometry, plan: Plan) -> int:
    voxels = math.prod(scan.shape)
    size = np.dtype(id_type(plan.labels)).itemsize
    is_tidied = plan.infer.largest_component or plan.infer.minimum_ml or plan.infer.fill_holes
    return voxels * (size + (PIECES_BYTES if is_tidied else 0))


def _crf_bytes(working: Geometry, classes: int) -> int:
    voxels = math.prod(working.shape)
    return voxels * (CRF_COPIES * classes * FLOAT + CRF_VOXEL_BYTES)
