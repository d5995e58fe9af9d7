"""What segmenting a scan takes in memory, told before work starts, and what is done where that is too much.

Nothing here changes a number of the result. What can be given up for memory is time: an image whose normalisation looks
at it first is then made twice instead of held in between. What lies in temporary files (`medseg.scratch`) is no memory,
and is held against the disk.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psutil

from medseg import scratch
from medseg.errors import InputError
from medseg.inference.hardware import free_memory_bytes
from medseg.inference.region import seen_box
from medseg.networks.crf import AT_ONCE_BYTES
from medseg.networks.footprint import peak_features
from medseg.networks.permutohedral import RINGED
from medseg.plan import ClassicUNetSpec, MedNeXtSpec, SegResNetSpec, SwinUNETRSpec, UNetSpec
from medseg.preprocess import is_looked_at_first, is_made_at_once, working_grid
from medseg.resample.cells import CHUNK_VOXELS
from medseg.resample.lattice import Lattice
from medseg.tiling import SLAB_BYTES
from medseg.transforms.intensity import SLICES
from medseg.volume import id_type, is_mapped

if TYPE_CHECKING:
    from collections.abc import Collection

    from medseg.geometry import Box, Geometry
    from medseg.inference.hardware import NumericPath
    from medseg.inference.maps import MapName
    from medseg.plan import NetworkSpec, Plan
    from medseg.volume import Volume

FLOAT = 4
SPLINE_TAIL = 40  # source slices beside those that 32 target slices cover, which cubic interpolation looks at
RESTORED_BYTES = 250_000_000  # for the cells on boundaries of a slab, and what libraries set up when first called
OBLIQUE_BYTES = 250_000_000  # for a block of the source, where grids are oblique to each other
AT_ONCE_COPIES = 3  # of the scan in float32, where it is cropped and normalised first
EXPORTED_MAPS = 20  # of the first stage's features, for a network run by ONNX Runtime or OpenVINO
MOST_MAPS = 80  # of the same, more than any network here holds at a time
UNET_MAPS, UNET_SCORES = 16, 4  # of the same and of the scores, more than any U-Net in nnU-Net's form holds at a time
CRF_COPIES = 8  # of the scores of the classes that messages are sent of at once
CRF_VOXEL_BYTES = 100  # of the lattice of the appearance kernel, for each vertex of a simplex
CRF_RING_BYTES = 32  # of each neighbour of a vertex, while a lattice is widened
CRF_FILES = 2  # of the scores of all classes; one where each slice is refined by itself
MAP_VOXEL_BYTES = 200  # a voxel of those that a map is made of at once, and two probabilities of each class
PIECES_BYTES = 11  # a voxel, to find the largest piece of a label: its copy, numbers twice, and where it is
CARD_FEATURES = 2  # times what features take on a card, for what libraries work in
CARD_SLABS = 3  # finished slices on their way off the card: picked, cut, and what weights are multiplied into
_ON_CARD = frozenset({"torch", "torchscript"})  # backends whose scores lie on the card that made them
TIGHT = 0.9  # share of the free memory that is taken where no limit was given


class Footprint(NamedTuple):
    """Bytes in memory by what they are for.

    Attributes
    ----------
    resident : int
        What the process and its children hold already: libraries, weights, the scan; a mapped one as if it was read.
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
        The CRF, where there is one; its scores lie in files.
    maps : int
        Making maps; they lie in files themselves.
    """

    resident: int
    network: int
    scores: int
    image: int
    held: int
    mask: int
    crf: int
    maps: int

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
    scores_on : str or None
        The device where windows' scores are added up; None where all is done on the CPU.
    disk : int
        What temporary files take, bytes.
    """

    footprint: Footprint
    limit: int
    is_split: bool = False
    scores_on: str | None = None
    disk: int = 0

    @property
    def in_words(self) -> str:
        """What a person is told."""
        how = "will split" if self.is_split else "fits"
        told = f"{how}, {self.footprint.total / 1e9:.1f} of {self.limit / 1e9:.1f} GB at most"
        if self.scores_on is not None:
            told += f", scores {'in main memory' if self.scores_on == 'cpu' else 'on the card'}"
        return f"{told}; temporary files of {self.disk / 1e9:.1f} GB" if self.disk else told


def fit(
    volume: Volume,
    plan: Plan,
    path: NumericPath,
    *,
    max_ram: int | None = None,
    region: Box | None = None,
    maps: Collection[MapName] = (),
) -> Fit:
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
    region : Box, optional
        What of the scan is looked at; what stands for a whole image is counted for all of it even so.
    maps : collection of MapName
        What is made beside the mask.

    Raises
    ------
    InputError
        Where it does not fit; names the least that would do. Also where the disk has no place for temporary files.
    """
    resident = resident_bytes() + (volume.array.nbytes if is_mapped(volume.array) else 0)  # pages while looked at
    limit = max_ram or resident + int(TIGHT * free_memory_bytes("cpu"))
    working = working_grid(volume.geometry, plan)
    held = _held_bytes(volume, working, plan)
    seen = working if region is None else working.crop(seen_box(volume.geometry.crop(region), working, plan))
    disk = disk_bytes(volume.geometry, seen, plan, maps)
    scratch.require_room(disk)
    scores_on = _scores_on(seen, plan, path)
    needed = partial(footprint, volume, seen, plan, path, resident=resident, maps=maps)
    least = _beside(scores_on, needed(is_counted=False), seen, plan)
    if least.total + held > limit:  # counting features takes seconds, which a bound mostly spares
        least = _beside(scores_on, needed(), seen, plan)
    if least.total + held <= limit:
        return Fit(least._replace(held=held), limit, scores_on=scores_on, disk=disk)
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
    return Fit(least, limit, is_split=True, scores_on=scores_on, disk=disk)


def footprint(  # noqa: PLR0913 - what it follows from
    volume: Volume,
    seen: Geometry,
    plan: Plan,
    path: NumericPath,
    *,
    resident: int,
    maps: Collection[MapName] = (),
    is_counted: bool = True,
) -> Footprint:
    """Return what a scan takes at least where the network sees the part `seen` of the working grid, or all of it.

    Features are counted, or a bound is taken. Scores are taken to be added up in main memory. Slices of the image are
    made as a whole, whatever is seen of them.
    """
    classes, channels = len(plan.labels) + 1, len(plan.channels)
    patch = plan.train.patch_size
    ring, slab = _score_bytes(seen, plan)
    window = path.window_batch * classes * math.prod(patch) * FLOAT
    network = 2 * window + (_features(plan, path, is_counted=is_counted) if path.device == "cpu" else 0)
    return Footprint(
        resident=resident,
        network=network,
        scores=ring + 3 * slab + RESTORED_BYTES,
        image=channels * _image_bytes(volume, working_grid(volume.geometry, plan), patch[0]),
        held=0,
        mask=_mask_bytes(volume.geometry, plan),
        crf=0 if plan.infer.crf is None else _crf_bytes(seen, plan),
        maps=_maps_bytes(volume.geometry, seen, slab // classes, maps, classes=classes),
    )


def disk_bytes(scan: Geometry, working: Geometry, plan: Plan, maps: Collection[MapName]) -> int:
    """Return what temporary files take at once."""
    classes = len(plan.labels) + 1
    channels = ("uncertainty" in maps) + classes * ("probabilities" in maps)
    files = 0 if plan.infer.crf is None else CRF_FILES if plan.slice_axis is None else 1
    return FLOAT * (channels * math.prod(scan.shape) + files * classes * math.prod(working.shape))


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


def _score_bytes(working: Geometry, plan: Plan) -> tuple[int, int]:
    """Return what a patch's depth of scores takes, and what a slab of finished ones does."""
    patch = plan.train.patch_size
    plane = math.prod(max(n, p) for n, p in zip(working.shape[1:], patch[1:], strict=True))
    slice_bytes = plane * (len(plan.labels) + 1) * FLOAT
    return slice_bytes * patch[0], max(slice_bytes, min(SLAB_BYTES, slice_bytes * patch[0]))


def _scores_on(working: Geometry, plan: Plan, path: NumericPath) -> str | None:
    """Return the device to add up scores on: the card that predicts them, where it holds them beside the network."""
    if path.device == "cpu":
        return None
    if path.backend not in _ON_CARD:
        return "cpu"
    ring, slab = _score_bytes(working, plan)
    room = int(TIGHT * free_memory_bytes(path.device)) - ring - CARD_SLABS * slab
    needs = (CARD_FEATURES * _features(plan, path, is_counted=is_counted) for is_counted in (False, True))
    return path.device if any(need <= room for need in needs) else "cpu"


def _beside(scores_on: str | None, found: Footprint, working: Geometry, plan: Plan) -> Footprint:
    """Return what is left in main memory where scores are added up on a card."""
    if scores_on in {None, "cpu"}:
        return found
    ring, _ = _score_bytes(working, plan)
    return found._replace(network=0, scores=found.scores - ring)


def _features(plan: Plan, path: NumericPath, *, is_counted: bool) -> int:
    """Return what features take: counted for PyTorch; of an exported network, whose layers are not known, assumed."""
    shape = (path.window_batch, len(plan.channels), *plan.spatial_patch)
    classes = len(plan.labels) + 1
    if path.backend != "torch" or not is_counted:
        kept = EXPORTED_MAPS * _width(plan.network) if is_counted else _most_kept(plan.network, classes)
        return kept * path.window_batch * math.prod(plan.spatial_patch) * FLOAT
    size = 2 if path.precision == "bf16" else FLOAT
    return peak_features(plan.network, shape, classes) * size


def _most_kept(network: NetworkSpec, classes: int) -> int:
    """Return more than a network holds at a time for each voxel of a window."""
    if isinstance(network, UNetSpec):
        return UNET_MAPS * network.features[0] + UNET_SCORES * classes
    return MOST_MAPS * _width(network)


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


def _crf_bytes(working: Geometry, plan: Plan) -> int:
    """Return what the CRF takes: the image, and of as many voxels as know of each other the lattice and messages."""
    voxels, channels = math.prod(working.shape), len(plan.channels)
    slices = 1 if plan.slice_axis is None else working.shape[plan.slice_axis]
    vertices = 1 + channels + (3 if plan.slice_axis is None else 2)
    touched = min(voxels // slices * vertices, RINGED)
    lattice = voxels // slices * CRF_VOXEL_BYTES * vertices + touched * CRF_RING_BYTES * (2 * vertices + 1)
    one = voxels // slices * FLOAT
    sent = CRF_COPIES * min(max(one, AT_ONCE_BYTES), one * (len(plan.labels) + 1))
    return FLOAT * channels * voxels + lattice + sent


def _maps_bytes(scan: Geometry, working: Geometry, slab: int, maps: Collection[MapName], *, classes: int) -> int:
    """Return what making maps takes: the pages of what a slab (bytes a class) becomes, and what is made at once."""
    if not maps:
        return 0
    voxels = math.prod(scan.shape)
    at_once = min(voxels, max(CHUNK_VOXELS, voxels // min(scan.shape)))
    numbers = classes if "probabilities" in maps else 1
    return int(numbers * slab * voxels / math.prod(working.shape)) + at_once * (MAP_VOXEL_BYTES + 2 * FLOAT * numbers)
