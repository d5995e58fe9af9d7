"""The scans and networks every program is given: a torso phantom, and a briefly trained U-Net in nnU-Net's form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from medseg.geometry import Geometry
from medseg.io import write_volume
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.phantom import torso_ct
from medseg.plan import Plan, PreprocessPlan, TrainPlan, UNetSpec
from medseg.plan.plan import ClipZScore
from medseg.preprocess import prepare, prepare_mask
from medseg.resample import resample
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.phantom import Phantom

WINDOW_HU = ClipZScore(low=-1000.0, high=400.0, mean=-150.0, std=350.0)
PATIENTS = 4  # phantoms the network is trained on; the scan is of another one


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes
    ----------
    native, working : (Z, Y, X)
        Voxels of the scan, and of the network's grid.
    spacing_mm : float
        Of the network's grid.
    patch : int
        A window's side.
    features : tuple of int
        Of the network's stages.
    slices : tuple of int
        Scans of other lengths, for the memory by slices.
    """

    name: str
    native: tuple[int, int, int]
    working: tuple[int, int, int]
    spacing_mm: float
    patch: int
    features: tuple[int, ...]
    slices: tuple[int, ...]

    @property
    def native_mm(self) -> tuple[float, ...]:
        """Spacing of the scan."""
        return tuple(self.spacing_mm * w / n for w, n in zip(self.working, self.native, strict=True))

    @property
    def divisor(self) -> int:
        """What windows must be divisible by."""
        return 2 ** (len(self.features) - 1)


FULL = Size("full", (300, 512, 512), (244, 202, 224), 1.5, 128, (32, 64, 128, 256, 320, 320), (100, 300, 1000))
QUICK = Size("quick", (60, 96, 96), (48, 56, 64), 5.0, 32, (8, 16, 32), (30, 60, 120))
TINY = Size("tiny", (20, 24, 24), (16, 18, 20), 15.0, 16, (4, 8), (10, 20))
SIZES = {size.name: size for size in (FULL, QUICK, TINY)}


def make_patient(size: Size, seed: int) -> Phantom:
    """Return a torso at half the resolution of the network's grid."""
    return torso_ct(seed, shape=[max(8, n // 2) for n in size.working], spacing_mm=[size.spacing_mm * 2.0] * 3)


def make_scan(size: Size) -> Volume:
    """Return the scan: a patient the network has not seen, interpolated onto a scanner's grid."""
    coarse = make_patient(size, PATIENTS).volume
    grid = coarse.geometry
    voxels = [n * s / fine for n, s, fine in zip(grid.shape, grid.spacing_mm, size.native, strict=True)]
    return resample(coarse, onto=grid.with_spacing(voxels))


def stretched(scan: Volume, slices: int) -> Volume:
    """Return a scan of another number of slices as thick as before; beyond its end it goes back and forth."""
    period = np.r_[np.arange(scan.array.shape[1]), np.arange(scan.array.shape[1])[::-1]]
    array = scan.array[:, np.resize(period, slices)]
    return Volume(array, Geometry(array.shape[1:], scan.geometry.affine), scan.channels)


def save_scan(scan: Volume, folder: Path, name: str = "scan") -> None:
    """Write a scan as an array with its place, and as a NIfTI file."""
    np.save(folder / f"{name}.npy", scan.array[0])
    (folder / f"{name}.json").write_text(json.dumps(scan.geometry.affine.tolist()), encoding="utf-8")
    write_volume(scan, folder / f"{name}.nii.gz")


def load_scan(folder: Path, name: str = "scan") -> Volume:
    """Return a scan that `save_scan` wrote."""
    array = np.load(folder / f"{name}.npy")
    affine = np.array(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    return Volume(array[None], Geometry(array.shape, affine), ("CT",))


def make_plan(size: Size, classes: int) -> Plan:
    """Return the plan: nnU-Net's default network and windows."""
    stages = len(size.features)
    return Plan(
        channels=("CT",),
        labels=LabelSet.from_names({k: f"label_{k}" for k in range(1, classes)}),
        preprocess=PreprocessPlan(spacing_mm=(size.spacing_mm,) * 3, normalisation=(WINDOW_HU,)),
        network=UNetSpec(
            dimensions=3,
            features=size.features,
            strides=((1, 1, 1), *((2, 2, 2),) * (stages - 1)),
            kernels=((3, 3, 3),) * stages,
        ),
        train=TrainPlan(patch_size=(size.patch,) * 3, batch_size=2),
    )


def make_model(size: Size, classes: int, steps: int, folder: Path) -> Path:
    """Return the folder of a model trained for some steps; one that lies there is taken."""
    place = folder / f"model-{classes}-{steps}"
    if not place.exists():
        plan = make_plan(size, classes)
        card = Card(
            name="bench", created="2026-01-01T00:00:00Z", medseg="0", data=DataNote(name="torso"), modalities=("CT",)
        )
        save_model(place, plan=plan, members={0: trained(size, plan, steps)}, card=card)
    return place


def trained(size: Size, plan: Plan, steps: int) -> dict[str, torch.Tensor]:
    """Return weights after some steps on patches of torso phantoms; random ones label noise as no network does."""
    classes = len(plan.labels) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(plan.network, 1, classes).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    side = max(min(size.patch, 64), 2 * size.divisor)
    patients: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    draw = np.random.default_rng(0)
    for _ in range(steps):
        seed = int(draw.integers(PATIENTS))
        if seed not in patients:
            patients[seed] = _as_seen(make_patient(size, seed), plan)
        image, truth = patients[seed]
        first = [int(draw.integers(max(1, n - side + 1))) for n in image.shape]
        part = tuple(slice(a, a + side) for a in first)
        loss = F.cross_entropy(network(image[part][None, None]), _as_classes(truth[part][None], classes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


def _as_seen(patient: Phantom, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a patient's image and mask (z, y, x) on the network's grid."""
    truth = prepare_mask(patient.segmentation, plan).array.astype(np.int64)
    return torch.from_numpy(prepare(patient.volume, plan).array[0]), torch.from_numpy(truth)


def _as_classes(truth: torch.Tensor, classes: int) -> torch.Tensor:
    """Return a torso's eight organs as the classes there are; with more classes the others never occur."""
    return torch.where(truth > 0, (truth - 1) % (classes - 1) + 1, 0)


def as_json(size: Size, classes: int) -> dict[str, Any]:
    """Return what a program without our types must know."""
    return {
        "patch": [size.patch] * 3,
        "spacing_mm": [size.spacing_mm] * 3,
        "native_mm": list(size.native_mm),
        "features": list(size.features),
        "classes": classes,
        "window_hu": WINDOW_HU.model_dump(),
    }
