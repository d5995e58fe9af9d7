"""Masks of nnU-Net's own networks: predicted by nnU-Net, and by medseg after `medseg import`, compared voxel by voxel.

Usage: python benchmarks/nnunet_import.py PYTHON [--out FOLDER] [--kinds mr-3d,ct-thick,...] [--iterations 400]
PYTHON is an interpreter with nnunetv2, in an environment of its own (docs/nnunet.md says how to make one). Data sets
are phantoms, and the hippocampus set of MEDSEG_TEST_DATA where it is there. nnU-Net plans, preprocesses, trains a few
iterations on the CPU and predicts held-out cases, without and with mirroring; medseg imports the folder and segments
the same files. Finished trainings and predictions are kept in FOLDER, and a second call begins behind them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Geometry

HELD_OUT = 3
CASES = 12
MR_SPACINGS_MM = ((6.0, 3.6, 3.6), (7.0, 3.4, 3.4), (5.6, 4.0, 4.0))
CT_SPACINGS_MM = ((18.0, 4.8, 4.8), (24.0, 5.6, 5.6), (15.0, 4.2, 4.2), (18.0, 6.4, 6.4))


@dataclass(frozen=True)
class Kind:
    """One network to train: its data, nnU-Net's configuration and planner, and what its plan is cut down to."""

    number: int
    data: str
    configuration: str = "3d_fullres"
    planner: str = "ExperimentPlanner"
    patch: tuple[int, ...] = ()
    folds: tuple[int, ...] = (0,)
    plan: dict[str, Any] = field(default_factory=dict)
    trainer: str = "nnUNetTrainer"


TORCH_RESAMPLING = {
    "resampling_fn_data": "resample_torch_fornnunet",
    "resampling_fn_data_kwargs": {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False},
    "resampling_fn_probabilities": "resample_torch_fornnunet",
    "resampling_fn_probabilities_kwargs": {
        "is_seg": False,
        "force_separate_z": None,
        "memefficient_seg_resampling": False,
    },
}
KINDS = {
    "mr-3d": Kind(101, "hippocampus", patch=(32, 40, 32)),
    "mr-2d": Kind(101, "hippocampus", "2d", patch=(40, 32)),
    "ct-thick": Kind(102, "ct-thick", planner="nnUNetPlannerResEncM", patch=(12, 48, 48)),
    "mr-sagittal": Kind(103, "mr-sagittal", patch=(24, 48, 48), folds=(0, 1)),
    "ct-torch": Kind(102, "ct-thick", patch=(12, 40, 48), plan=TORCH_RESAMPLING),
    "mr-2d-sagittal": Kind(103, "mr-sagittal", "2d", planner="nnUNetPlannerResEncM", patch=(40, 48)),
    "mr-3d-batchnorm": Kind(101, "hippocampus", patch=(40, 32, 24), trainer="nnUNetTrainerBN"),
}


def main() -> None:
    """Train, predict on both sides, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("python", help="an interpreter with nnunetv2")
    parser.add_argument("--out", type=Path, default=Path("nnunet-import"))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--iterations", type=int, default=400, help="steps of training, in one epoch")
    parser.add_argument("--precision", default="fp32", help="of medseg: fp32, bf16 or auto")
    asked = parser.parse_args()
    names, out = asked.kinds.split(","), asked.out.resolve()
    train_and_predict(asked.python, names, out, iterations=asked.iterations)
    rows = [row for name in names for row in compared(out, name, KINDS[name], asked.precision)]
    columns = ("network", "TTA", "cases", "voxels equal %", "fewest %", "Dice", "foreground", "nnU-Net s", "medseg s")
    for row in (columns, ("---",) * len(columns), *rows):
        print("| " + " | ".join(row) + " |")


def train_and_predict(python: str, names: list[str], out: Path, *, iterations: int) -> None:
    """Have nnU-Net do its side of some kinds, in one process of its own interpreter."""
    files = []
    for name in names:
        raw = write_data(out, KINDS[name])
        job = asdict(KINDS[name]) | {"name": name, "out": str(out), "iterations": iterations, "raw": str(raw)}
        files.append(out / f"{name}.json")
        files[-1].write_text(json.dumps(job), encoding="utf-8")
    subprocess.run([python, __file__, "peer", *map(str, files)], check=True, env=_environment(out))


def _environment(out: Path) -> dict[str, str]:
    """Return the environment nnU-Net wants: its folders, and one process."""
    folders = {f"nnUNet_{part}": str((out / part).resolve()) for part in ("raw", "preprocessed", "results")}
    steady = {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"}
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | folders | steady


# -- data, in nnU-Net's raw layout ---------------------------------------------------------------------------------


def write_data(out: Path, kind: Kind) -> Path:
    """Write the data set of a kind unless it is there, and return its folder."""
    folder = out / "raw" / f"Dataset{kind.number}_{kind.data.replace('-', '').title()}"
    if (folder / "dataset.json").is_file():
        return folder
    cases = {"hippocampus": _hippocampus, "ct-thick": _ct_thick, "mr-sagittal": _mr_sagittal}[kind.data]
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    channels, labels = cases(folder)
    document = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {"background": 0} | {name: i + 1 for i, name in enumerate(labels)},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def _hippocampus(folder: Path) -> tuple[list[str], list[str]]:
    """MR crops of 1 mm, unpadded and smaller than a usual patch (Medical Segmentation Decathlon, task 4)."""
    import shutil  # noqa: PLC0415 - the peer needs none of these

    source = Path(os.environ.get("MEDSEG_TEST_DATA", "../shared/data")) / "hippocampus"
    names = sorted(path.name for path in (source / "imagesTr").glob("*.nii.gz"))[: CASES + HELD_OUT]
    for n, name in enumerate(names):
        part, stem = ("imagesTr", "labelsTr") if n < CASES else ("imagesTs", None), name.removesuffix(".nii.gz")
        shutil.copyfile(source / "imagesTr" / name, folder / part[0] / f"{stem}_0000.nii.gz")
        if part[1]:
            shutil.copyfile(source / "labelsTr" / name, folder / part[1] / name)
    return ["MRI"], ["Anterior", "Posterior"]


def _ct_thick(folder: Path) -> tuple[list[str], list[str]]:
    """Torso CT in thick slices, each case with its own spacing: clipped, resampled slice by slice."""
    from medseg.phantom import torso_ct  # noqa: PLC0415 - the peer has no medseg

    for n in range(CASES + HELD_OUT):
        phantom = torso_ct(n, spacing_mm=CT_SPACINGS_MM[n % len(CT_SPACINGS_MM)])
        _write(folder, n, [phantom.volume.array[0]], phantom.segmentation.array, phantom.volume.geometry)
    return ["CT"], list(phantom.segmentation.labels.names)


def _mr_sagittal(folder: Path) -> tuple[list[str], list[str]]:
    """Two channels of head MR, zero around the head, stored so that the thick slices are not the first axis."""
    import numpy as np  # noqa: PLC0415 - the peer needs none of these
    from scipy import ndimage  # noqa: PLC0415

    from medseg.phantom import head_mr  # noqa: PLC0415

    for n in range(CASES + HELD_OUT):
        phantom = head_mr(n, spacing_mm=MR_SPACINGS_MM[n % len(MR_SPACINGS_MM)])
        grid = phantom.volume.geometry.reoriented("PRI" if n % 2 else "ALS")
        turned = tuple("SPL".index({"A": "P", "R": "L", "I": "S"}.get(c, c)) for c in grid.axis_codes)
        flips = [axis for axis, code in enumerate(grid.axis_codes) if code in "ARI"]
        image, mask = (
            np.flip(array.transpose(turned), flips)
            for array in (phantom.volume.array[0].astype(np.float32), phantom.segmentation.array)
        )
        smooth = ndimage.gaussian_filter(image, 1.0)
        head = ndimage.binary_fill_holes(smooth > 0.25 * np.percentile(smooth, 95))
        head = np.pad(head[6:-6, 4:-4, 2:-2], ((6, 6), (4, 4), (2, 2)))
        channels = [np.where(head, channel, 0) for channel in (image, np.abs(smooth.max() - smooth))]
        _write(folder, n, channels, np.where(head, mask, 0), grid)
    return ["T1", "T2"], list(phantom.segmentation.labels.names)


def _write(folder: Path, n: int, channels: list[NDArray[Any]], mask: NDArray[Any], grid: Geometry) -> None:
    import numpy as np  # noqa: PLC0415 - the peer needs none of these

    from medseg.io import write_volume  # noqa: PLC0415
    from medseg.volume import Volume  # noqa: PLC0415

    part = "imagesTr" if n < CASES else "imagesTs"
    for c, channel in enumerate(channels):
        array = np.ascontiguousarray(channel)[None]
        write_volume(Volume(array, grid, ("image",)), folder / part / f"case_{n:03d}_{c:04d}.nii.gz")
    if n < CASES:
        array = np.ascontiguousarray(mask).astype(np.uint8)[None]
        write_volume(Volume(array, grid, ("mask",)), folder / "labelsTr" / f"case_{n:03d}.nii.gz")


# -- nnU-Net's side, run by its own interpreter --------------------------------------------------------------------


def peer(job: dict[str, Any]) -> None:
    """Plan, train and predict with nnU-Net; what is there already is kept."""
    import torch  # noqa: PLC0415 - of the other interpreter

    torch.set_num_threads(1)
    out, raw = Path(job["out"]), Path(job["raw"])
    results = out / "results" / raw.name / f"{job['trainer']}__{job['name']}__{job['configuration']}"
    if not all((results / f"fold_{fold}" / "checkpoint_final.pth").is_file() for fold in job["folds"]):
        _train(job, _planned(job, out / "preprocessed" / raw.name), out / "preprocessed" / raw.name)
    for mirrored in (False, True):
        target = out / "predicted" / job["name"] / ("tta" if mirrored else "plain")
        if not (target / "seconds.json").is_file():
            _predict(results, raw / "imagesTs", target, mirrored=mirrored)


def _planned(job: dict[str, Any], preprocessed: Path) -> dict[str, Any]:
    """Return nnU-Net's plans for the data set, cut down to a small patch and few features, and preprocess by them."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (  # noqa: PLC0415
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    number, name, configuration = job["number"], job["name"], job["configuration"]
    path, done = preprocessed / f"{name}.json", preprocessed / f"{name}.done"
    if not done.is_file():
        os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 - nnU-Net's name; planning wants at least 1
        extract_fingerprints([number], num_processes=1, check_dataset_integrity=True, clean=False)
        plan_experiments([number], job["planner"], overwrite_plans_name=name)
        plans = json.loads(path.read_text(encoding="utf-8"))
        _cut_down(plans["configurations"][configuration], job)
        path.write_text(json.dumps(plans), encoding="utf-8")
        preprocess([number], name, configurations=[configuration], num_processes=[1])
        done.touch()
    planned: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return planned


def _cut_down(configuration: dict[str, Any], job: dict[str, Any]) -> None:
    """Give a configuration the job's patch, and a network of few features whose strides suit it."""
    network = configuration["architecture"]["arch_kwargs"]
    stages = min(4, network["n_stages"])
    for key, value in network.items():
        if isinstance(value, list) and len(value) in (network["n_stages"], network["n_stages"] - 1):
            network[key] = value[:stages] if len(value) == network["n_stages"] else value[: stages - 1]
    network["n_stages"] = stages
    network["features_per_stage"] = [8 * 2 ** min(s, 2) for s in range(stages)]
    total = [1] * len(job["patch"])
    for stride in network["strides"]:
        for axis, side in enumerate(job["patch"]):
            if side % (total[axis] * stride[axis]) or side // (total[axis] * stride[axis]) < 3:
                stride[axis] = 1
            total[axis] *= stride[axis]
    configuration.update(patch_size=job["patch"], batch_size=2 if len(job["patch"]) == 3 else 12, **job["plan"])
    configuration["data_identifier"] = f"{job['name']}_{job['configuration']}"


def _train(job: dict[str, Any], plans: dict[str, Any], preprocessed: Path) -> None:
    import torch  # noqa: PLC0415
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name  # noqa: PLC0415

    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - nnU-Net's name; in this process
    document = json.loads((preprocessed / "dataset.json").read_text(encoding="utf-8"))
    trainer_class = recursive_find_trainer_class_by_name(job["trainer"])
    for fold in job["folds"]:
        trainer = trainer_class(
            plans=json.loads(json.dumps(plans)) | {"continue_training": False},
            configuration=job["configuration"],
            fold=fold,
            dataset_json=document,
            device=torch.device("cpu"),
        )
        _without_augmentation(trainer)
        trainer.num_epochs, trainer.num_iterations_per_epoch = 1, job["iterations"]
        trainer.num_val_iterations_per_epoch = 1
        trainer.run_training()


def _without_augmentation(trainer: Any) -> None:
    """Let a trainer see patches as they are: augmenting takes longer than these networks."""
    planned = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size

    def patches() -> tuple[Any, ...]:
        rotation, is_flat, _, mirror_axes = planned()
        return rotation, is_flat, trainer.configuration_manager.patch_size, mirror_axes

    def transforms(_patch: Any, _rotation: Any, scales: Any, *_: Any, **given: Any) -> Any:
        given.pop("use_mask_for_norm")
        return trainer.get_validation_transforms(scales, **given)

    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size = patches
    trainer.get_training_transforms = transforms


def _predict(results: Path, images: Path, target: Path, *, mirrored: bool) -> None:
    import torch  # noqa: PLC0415
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: PLC0415

    predictor = nnUNetPredictor(use_mirroring=mirrored, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(results), None)
    target.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    predictor.predict_from_files_sequential(str(images), str(target))
    (target / "seconds.json").write_text(json.dumps(time.perf_counter() - started), encoding="utf-8")


# -- medseg's side -------------------------------------------------------------------------------------------------


def compared(out: Path, name: str, kind: Kind, precision: str) -> list[tuple[str, ...]]:
    """Import, segment and compare with nnU-Net's masks; return a row without and one with mirroring."""
    raw = write_data(out, kind)
    results = out / "results" / raw.name / f"{kind.trainer}__{name}__{kind.configuration}"
    medseg = [sys.executable, "-m", "medseg"]
    model = out / "models" / name
    subprocess.run([*medseg, "import", str(results), "-o", str(model)], check=True, stdout=subprocess.DEVNULL)
    rows = []
    for folder, flags in (("plain", []), ("tta", ["--tta"])):
        target = out / "segmented" / name / folder
        options = ["--overwrite", "--precision", precision, *flags]
        started = time.perf_counter()
        run = [*medseg, "segment", str(model), str(raw / "imagesTs"), "-o", str(target), *options]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        theirs = out / "predicted" / name / folder
        peer_seconds = json.loads((theirs / "seconds.json").read_text(encoding="utf-8"))
        rows.append((name, folder, *_agreement(theirs, target), f"{peer_seconds:.1f}", f"{seconds:.1f}"))
    return rows


def _agreement(theirs: Path, ours: Path) -> tuple[str, ...]:
    """Return cases, share of equal voxels (all, fewest of a case), mean Dice of labels, share of foreground."""
    import numpy as np  # noqa: PLC0415 - the peer needs none of these
    import SimpleITK as sitk  # noqa: PLC0415

    equal, foreground, voxels, fewest, dice = 0, 0, 0, 1.0, []
    paths = sorted(theirs.glob("*.nii.gz"))
    for path in paths:
        case = ours / path.name.removesuffix(".nii.gz") / "segmentation.nii.gz"
        a, b = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (path, case))
        same = int((a == b).sum())
        equal, voxels, foreground = equal + same, voxels + a.size, foreground + int((a > 0).sum())
        fewest = min(fewest, same / a.size)
        for label in np.union1d(a[a > 0], b[b > 0]):
            dice.append(2 * int(((a == label) & (b == label)).sum()) / int((a == label).sum() + (b == label).sum()))
    shares = (f"{100 * equal / voxels:.4f}", f"{100 * fewest:.4f}", f"{np.mean(dice) if dice else 1:.5f}")
    return (str(len(paths)), *shares, f"{100 * foreground / voxels:.1f} %")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peer"]:
        for job_file in sys.argv[2:]:
            peer(json.loads(Path(job_file).read_text(encoding="utf-8")))
    else:
        main()
