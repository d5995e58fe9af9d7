"""A MONAI bundle: metadata, a configuration MONAI runs by itself, and the network as TorchScript.

The layout and the metadata follow MONAI's bundle specification (docs.monai.io, "MONAI Bundle Specification"; schema of
2024-07-25). Before and after the network stand MONAI's own transforms, the nearest there are to ours; the bundle's
``docs/README.md`` says where they differ.
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from medseg.errors import ModelError
from medseg.plan import ClipZScore, Divide, Rescale, Unchanged
from medseg.preprocess import is_made_at_once
from medseg.tiling import SIGMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.model import Card
    from medseg.plan import Normalisation, Plan

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
ENDS = [["L", "R"], ["P", "A"], ["I", "S"]]  # of NIfTI's axes; MONAI's default for them changes between versions
_FORMATS = {"CT": "hounsfield", "MR": "magnitude", "US": "magnitude"}


class MeanOfMembers(nn.Module):
    """An ensemble as one network: the mean of its members' logits.

    Examples
    --------
    >>> import torch
    >>> MeanOfMembers([nn.Identity(), nn.Identity()])(torch.ones(1)).item()
    1.0
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, windows: Tensor) -> Tensor:
        """Return mean logits, added up in the order of the members."""
        total = self.members[0](windows)
        for member in self.members[1:]:
            total = total + member(windows)
        return cast("Tensor", total / len(self.members))


def require_expressible(plan: Plan) -> None:
    """Refuse a plan that MONAI's transforms cannot express.

    Raises
    ------
    ModelError
        Where the orientation is the file's own, or the scan is cropped first or normalised within a mask.
    """
    if plan.preprocess.orientation == "stored":
        raise ModelError(
            "the plan keeps the axes as the file stores them, which MONAI's transforms cannot express",
            expected="an orientation such as SPL",
            remedy="Choose another --format",
        )
    if is_made_at_once(plan):
        raise ModelError(
            "the plan crops or masks the scan before its grey values are normalised, which the bundle cannot express",
            remedy="Choose another --format",
        )


def metadata(plan: Plan, card: Card) -> dict[str, Any]:
    """Return ``configs/metadata.json`` as plain values."""
    channels = {str(i): name for i, name in enumerate(plan.channels)}
    classes = {str(k): name for k, name in enumerate(["background", *plan.labels.names])}
    shape = list(plan.spatial_patch)
    modality = card.modalities[0]
    return {
        "schema": SCHEMA,
        "version": card.version,
        "changelog": {card.version: "exported by medseg"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {"nibabel": _version("nibabel"), "scipy": _version("scipy")},
        "name": card.name,
        "task": f"Segmentation of {', '.join(plan.labels.names)}",
        "description": f"{card.name}, trained by medseg {card.medseg} on {card.data.name}",
        "authors": "not stated",
        "copyright": f"Licence: {card.licence}",
        "data_source": card.data.name,
        "data_type": "nibabel",
        "intended_use": card.intended_use,
        "references": [],
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": _FORMATS.get(modality, "magnitude"),
                    "modality": modality,
                    "num_channels": len(plan.channels),
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": channels,
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(classes),
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": classes,
                }
            },
        },
    }


def inference(plan: Plan) -> dict[str, Any]:
    """Return ``configs/inference.json`` as plain values: what ``monai.bundle.run`` reads."""
    keys = image_keys(plan)
    return {
        "imports": ["$import glob", "$import os", "$import torch"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "$@bundle_root + '/scans'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "datalist": _datalist(keys),
        "network_def": {
            "_target_": "torch.jit.load",
            "f": "$@bundle_root + '/models/model.ts'",
            "map_location": "@device",
        },
        "network": "$@network_def.eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _before(plan, keys)},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "inferer": _inferer(plan),
        "postprocessing": {"_target_": "Compose", "transforms": _after(plan, keys[0])},
        "predicted": "$[{**case, 'pred': @inferer(case['image'][None].to(@device), @network)[0]} for case in @dataset]",
        "run": ["$[@postprocessing(case) for case in @predicted]"],
    }


def image_keys(plan: Plan) -> list[str]:
    """Return under which name MONAI reads each channel: one file each."""
    return ["image"] if len(plan.channels) == 1 else [f"image_{i}" for i in range(len(plan.channels))]


def readme(plan: Plan, card: Card) -> str:
    """Return ``docs/README.md``."""
    several = len(plan.channels) > 1
    files = "`NAME_0000.nii.gz`, `NAME_0001.nii.gz`, ... for the channels" if several else "`NAME.nii.gz`"
    return f"""# {card.name}

Segments {", ".join(plan.labels.names)} in {", ".join(plan.channels)}. {card.intended_use}
Written by medseg {card.medseg}; MONAI runs it without medseg:

```python
from monai.bundle import run

where = {{"bundle_root": ".", "dataset_dir": "SCANS", "output_dir": "OUT"}}
run(config_file="configs/inference.json", meta_file="configs/metadata.json", **where)
```

SCANS holds {files}. The network takes windows of {list(plan.spatial_patch)} voxels and returns logits;
an ensemble is in it as the mean of its members. `processing.yaml` says in words and numbers what medseg does around it.

## Where MONAI's way differs from medseg's

* The grid at the plan's spacing keeps the centre of the first voxel here, the outer faces of the volume in medseg: up
  to half a voxel apart. Images are interpolated by splines of order 3 in both.
* Windows begin at MONAI's places (a fixed step, the last one moved back), not evenly spaced. The Gaussian is the same,
  but MONAI raises weights below 0.001 to that, which shows near the borders of the scan.
* Logits are taken back to the scan by the inverse of the same transforms, cubic, where medseg interpolates linearly.
* Not done here: the average over mirrored windows, the CRF, and tidying (largest component, minimum volume, holes).
{"* All channels must lie on the same grid; medseg brings them onto the first." if several else ""}
`medseg segment` runs the folder, too, in medseg's way. `parity.json` compares the network alone with PyTorch's.
"""


def as_json(document: dict[str, Any]) -> str:
    """Return plain values as the text of a configuration."""
    return json.dumps(document, indent=2) + "\n"


def _datalist(keys: Sequence[str]) -> str:
    if len(keys) == 1:
        return "$[{'image': file} for file in sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))]"
    parts = ", ".join(f"'{key}': file[:-12] + '_{i:04}.nii.gz'" for i, key in enumerate(keys))
    return f"$[{{{parts}}} for file in sorted(glob.glob(os.path.join(@dataset_dir, '*_0000.nii.gz')))]"


def _before(plan: Plan, keys: Sequence[str]) -> list[dict[str, Any]]:
    spacing = [-1.0 if axis == plan.slice_axis else mm for axis, mm in enumerate(plan.preprocess.spacing_mm)]
    normalised = [
        _normalisation(key, how)
        for key, how in zip(keys, plan.preprocess.normalisation, strict=True)
        if not isinstance(how, Unchanged)
    ]
    cubic = {"mode": 3, "padding_mode": "nearest"}
    joined = [] if keys == ["image"] else [{"_target_": "ConcatItemsd", "keys": keys, "name": "image"}]
    return [
        {"_target_": "LoadImaged", "keys": keys},
        {"_target_": "EnsureChannelFirstd", "keys": keys},
        {"_target_": "EnsureTyped", "keys": keys, "dtype": "$torch.float32"},
        {"_target_": "Orientationd", "keys": keys, "axcodes": plan.preprocess.orientation, "labels": ENDS},
        {"_target_": "Spacingd", "keys": keys, "pixdim": spacing, **cubic},
        *normalised,
        *joined,
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]


def _normalisation(key: str, how: Normalisation) -> dict[str, Any]:
    match how:
        case ClipZScore():
            return {
                "_target_": "ScaleIntensityRanged",
                "keys": key,
                "a_min": how.low,
                "a_max": how.high,
                "b_min": (how.low - how.mean) / how.std,
                "b_max": (how.high - how.mean) / how.std,
                "clip": True,
            }
        case Rescale():
            return {"_target_": "ScaleIntensityd", "keys": key}
        case Divide():
            return {
                "_target_": "ScaleIntensityRanged",
                "keys": key,
                "a_min": 0,
                "a_max": how.by,
                "b_min": 0,
                "b_max": 1,
            }
        case _:
            return {"_target_": "NormalizeIntensityd", "keys": key}


def _inferer(plan: Plan) -> dict[str, Any]:
    flat = plan.slice_axis is not None
    kind: dict[str, Any] = {"_target_": "SliceInferer", "spatial_dim": plan.slice_axis} if flat else {}
    return {
        "_target_": "SlidingWindowInferer",
        **kind,
        "roi_size": list(plan.spatial_patch),
        "sw_batch_size": 1,
        "overlap": plan.infer.overlap,
        "mode": "gaussian",
        "sigma_scale": SIGMA,
        "padding_mode": "constant",
    }


def _after(plan: Plan, key: str) -> list[dict[str, Any]]:
    ids = list(plan.labels.ids)
    mapped: list[dict[str, Any]] = []
    if ids != list(range(1, len(ids) + 1)):
        pairs = {"orig_labels": list(range(1, len(ids) + 1)), "target_labels": ids}
        mapped = [{"_target_": "MapLabelValued", "keys": "pred", **pairs}]
    return [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": key,
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        *mapped,
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_dtype": "$'uint16'" if max(ids) > 255 else "$'uint8'",
            "separate_folder": False,
            "resample": False,
        },
    ]


def _version(name: str) -> str:
    return importlib.metadata.version(name).partition("+")[0]
