"""Masks of networks with drawn weights: by nnU-Net's predictor, and by medseg after `medseg import`.

Usage: PYTHONPATH=. python benchmarks/nnunet_drawn.py PYTHON [--out FOLDER]
PYTHON is an interpreter with nnunetv2 (docs/nnunet.md). Such a network labels most of a scan in small patches and says
something else in every window, so that any difference shows: in windows, weights, resampling, cropping, mirroring.
Nothing is trained; scans are smooth noise. `benchmarks/nnunet_import.py` is the same with networks nnU-Net trained.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Drawn:
    """A configuration by its changes, and a scan larger than the patch."""

    own: dict[str, Any]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    turn: tuple[int, int, int] = (0, 1, 2)
    folds: int = 1
    margin: int = 0
    mirrored: tuple[int, ...] | None = None


def situations() -> dict[str, Drawn]:
    """Return what is compared."""
    from tests.nnunet.folders import configuration  # noqa: PLC0415 - the peer has no medseg

    ct, thick = {"normalization_schemes": ["CTNormalization"]}, {"spacing": [5.0, 1.2, 1.2]}
    linear = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
    torch_ways = {f"resampling_fn_{what}": "resample_torch_fornnunet" for what in ("data", "probabilities")}
    torch_ways |= {f"resampling_fn_{what}_kwargs": linear for what in ("data", "probabilities")}  # type: ignore[misc]
    two = configuration(channels=2, use_mask_for_norm=[True, True], **thick)
    return {
        "plain, finer": Drawn(configuration(), (28, 44, 40), (1.2, 1.1, 0.9), mirrored=(0, 1, 2)),
        "residual, CT, thick slices": Drawn(
            configuration(residual=True, **ct, **thick), (30, 40, 44), (3.5, 1.0, 1.1), mirrored=(0, 1, 2)
        ),
        "2 channels, 2 folds, turned, cropped": Drawn(
            two, (44, 40, 26), (1.0, 1.1, 4.0), turn=(2, 1, 0), folds=2, margin=3, mirrored=(1, 2)
        ),
        "2-D": Drawn(configuration(2), (9, 50, 44), (4.0, 1.1, 1.1), mirrored=(0, 1)),
        "PyTorch's resampling": Drawn(configuration(**torch_ways), (12, 40, 36), (4.0, 1.2, 0.9)),
    }


def main() -> None:
    """Write folders and scans, have both sides segment them, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("python", help="an interpreter with nnunetv2")
    parser.add_argument("--out", type=Path, default=Path("nnunet-drawn"))
    asked = parser.parse_args()
    shutil.rmtree(asked.out, ignore_errors=True)
    jobs = [_written(asked.out.resolve() / str(n), name, drawn) for n, (name, drawn) in enumerate(situations().items())]
    (asked.out / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"nnUNet_compile": "f"}
    subprocess.run([asked.python, __file__, "peer", str(asked.out / "jobs.json")], check=True, env=environment)
    columns = ("network", "mirrored", "voxels equal %", "its sums in single", "ours in bf16", "Dice", "foreground %")
    for row in (columns, ("---",) * len(columns), *(row for job in jobs for row in _compared(job))):
        print("| " + " | ".join(row) + " |")


def _written(root: Path, name: str, drawn: Drawn) -> dict[str, Any]:
    """Write a trained folder and a scan; return where they are."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - the peer has no medseg

    from medseg.geometry import Geometry  # noqa: PLC0415
    from medseg.io import write_volume  # noqa: PLC0415
    from medseg.volume import Volume  # noqa: PLC0415
    from tests.nnunet.folders import checkpoint, dataset, network, write_folder  # noqa: PLC0415

    channels = len(drawn.own["normalization_schemes"])
    configuration = "2d" if len(drawn.own["patch_size"]) == 2 else "3d_fullres"
    folds = {
        str(fold): checkpoint(
            network(drawn.own, channels=channels, seed=10 + fold).state_dict(),
            init_args={"configuration": configuration},
            inference_allowed_mirroring_axes=drawn.mirrored,
        )
        for fold in range(drawn.folds)
    }
    back = [int(axis) for axis in np.argsort(drawn.turn)]
    about = {"transpose_forward": list(drawn.turn), "transpose_backward": back}
    names = [f"channel {c}" for c in range(channels)]
    folder = write_folder(root, drawn.own, folds, about=about, data=dataset(names))
    rng = np.random.default_rng(5)
    noise = np.stack([gaussian_filter(rng.normal(size=drawn.shape), 1.2) for _ in range(channels)])
    image = (40 + 60 * noise / noise.std()).astype(np.float32)
    if drawn.margin:
        kept = np.zeros(drawn.shape, dtype=bool)
        kept[(slice(drawn.margin, -drawn.margin),) * 3] = True
        image[:, ~kept] = 0
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag(drawn.spacing[::-1]))
    files = [root / f"case_{c:04d}.nii.gz" for c in range(channels)]
    for channel, file in zip(image, files, strict=True):
        write_volume(Volume(channel[None], Geometry(drawn.shape, affine)), file)
    paths = {"root": str(root), "folder": str(folder), "files": [str(file) for file in files]}
    return paths | {"name": name, "mirrored": [False, True] if drawn.mirrored else [False]}


def peer(jobs: list[dict[str, Any]]) -> None:
    """Predict with nnU-Net; run by its own interpreter."""
    import torch  # noqa: PLC0415 - of the other interpreter
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: PLC0415

    for job in jobs:
        for mirrored in job["mirrored"]:
            predictor = nnUNetPredictor(use_mirroring=mirrored, device=torch.device("cpu"), allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(job["folder"], None)
            for sums in (torch.float16, torch.float32):
                torch.half = sums  # the predictor's type of added-up windows: what is left of a difference in single?
                target = str(Path(job["root"]) / f"theirs_{int(mirrored)}_{sums.itemsize}")
                predictor.predict_from_files_sequential([job["files"]], [target])


def _compared(job: dict[str, Any]) -> list[tuple[str, ...]]:
    """Import, segment and compare; return a row without and one with mirroring."""
    from medseg.inference import Segmenter  # noqa: PLC0415 - the peer has no medseg
    from medseg.io import read_volume  # noqa: PLC0415
    from medseg.volume import Volume  # noqa: PLC0415
    from medseg.workflows.nnunet import ImportRequest, import_model  # noqa: PLC0415

    root = Path(job["root"])
    import_model(Path(job["folder"]), root / "model", ImportRequest())
    channels = [read_volume(file) for file in job["files"]]
    rows = []
    for mirrored in job["mirrored"]:
        theirs, single = (read_volume(root / f"theirs_{int(mirrored)}_{size}.nii.gz").array[0] for size in (2, 4))
        masks = {}
        for precision in ("fp32", "bf16"):
            segmenter = Segmenter.load(root / "model", precision=precision, mirrored=mirrored)
            array = np.concatenate([channel.array for channel in channels])
            scan = Volume(array, channels[0].geometry, segmenter.plan.channels)
            masks[precision] = segmenter.segment(scan).segmentation.array
        ours = masks["fp32"]
        labels = [label for label in np.unique(theirs) if label]
        dice = [2 * ((ours == k) & (theirs == k)).sum() / ((ours == k).sum() + (theirs == k).sum()) for k in labels]
        pairs = ((ours, theirs), (ours, single), (masks["bf16"], theirs))
        shares = [f"{100 * (a == b).mean():.3f}" for a, b in pairs]
        found = (*shares, f"{np.mean(dice):.4f}", f"{100 * (theirs > 0).mean():.1f}")
        rows.append((job["name"], "yes" if mirrored else "no", *found))
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["peer"]:
        peer(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    else:
        main()
