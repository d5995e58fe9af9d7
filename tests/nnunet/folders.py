"""Trained folders as nnU-Net v2 leaves them, of networks of plain PyTorch that answer for what is right."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from skimage.transform import resize
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TRAINER = "nnUNetTrainer__nnUNetPlans__"


class Step(nn.Module):
    """Convolution, instance norm, leaky ReLU, each registered twice."""

    def __init__(
        self,
        n: int,
        m: int,
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        *,
        leaky: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        layer, norm = (nn.Conv3d, nn.InstanceNorm3d) if len(kernel) == 3 else (nn.Conv2d, nn.InstanceNorm2d)
        padding = [(k - 1) // 2 for k in kernel]
        self.conv = layer(n, m, tuple(kernel), tuple(stride) or 1, padding, bias=bias)  # type: ignore[arg-type]
        self.norm = norm(m, eps=1e-5, affine=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, *([nn.LeakyReLU()] if leaky else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.all_modules(x)


class Row(nn.Module):
    def __init__(self, n: int, m: int, kernel: Sequence[int], stride: Sequence[int] = (), depth: int = 2) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[Step(m if i else n, m, kernel, () if i else stride) for i in range(depth)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class Block(nn.Module):
    def __init__(self, n: int, m: int, kernel: Sequence[int], stride: Sequence[int] = ()) -> None:
        super().__init__()
        self.conv1 = Step(n, m, kernel, stride)
        self.conv2 = Step(m, m, kernel, leaky=False)
        pool = nn.AvgPool3d if len(kernel) == 3 else nn.AvgPool2d
        skip: list[nn.Module] = [pool(tuple(stride), tuple(stride))] if max(stride, default=1) > 1 else []
        if n != m:
            skip.append(Step(n, m, [1] * len(kernel), leaky=False, bias=False))
        if skip:
            self.skip = nn.Sequential(*skip)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = self.skip(x) if hasattr(self, "skip") else x
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + short)


class Rows(nn.Module):
    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class Oracle(nn.Module):
    """nnU-Net's two U-Nets, by the arguments its plans have."""

    def __init__(self, channels: int, classes: int, arguments: dict[str, Any]) -> None:
        super().__init__()
        f, kernels, strides = (arguments[key] for key in ("features_per_stage", "kernel_sizes", "strides"))
        stages: list[nn.Module] = []
        encoder = nn.Module()
        if "n_blocks_per_stage" in arguments:
            encoder.stem = Row(channels, f[0], kernels[0], depth=1)
            for s, blocks in enumerate(arguments["n_blocks_per_stage"]):
                n = f[max(0, s - 1)]
                row = [Block(f[s] if i else n, f[s], kernels[s], () if i else strides[s]) for i in range(blocks)]
                stages.append(Rows(row))
        else:
            for s, depth in enumerate(arguments["n_conv_per_stage"]):
                n = f[s - 1] if s else channels
                stages.append(nn.Sequential(Row(n, f[s], kernels[s], strides[s], depth)))
        encoder.stages = nn.Sequential(*stages)
        self.encoder = encoder
        self.decoder = nn.Module()
        self.decoder.encoder = encoder
        up = nn.ConvTranspose3d if len(kernels[0]) == 3 else nn.ConvTranspose2d
        head = nn.Conv3d if len(kernels[0]) == 3 else nn.Conv2d
        down = list(range(len(f) - 2, -1, -1))
        self.decoder.transpconvs = nn.ModuleList(
            up(f[s + 1], f[s], tuple(strides[s + 1]), tuple(strides[s + 1])) for s in down
        )
        self.decoder.stages = nn.ModuleList(
            Row(2 * f[s], f[s], kernels[s], depth=depth)
            for s, depth in zip(down, arguments["n_conv_per_stage_decoder"], strict=True)
        )
        self.decoder.seg_layers = nn.ModuleList(head(f[s], classes, 1) for s in down)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder.stem(x) if hasattr(self.encoder, "stem") else x
        skips = []
        for stage in self.encoder.stages:
            x = stage(x)
            skips.append(x)
        for up, stage, skip in zip(self.decoder.transpconvs, self.decoder.stages, skips[-2::-1], strict=True):
            x = stage(torch.cat((up(x), skip), dim=1))
        return self.decoder.seg_layers[-1](x)


def arguments(dimensions: int = 3, *, residual: bool = False, **changed: Any) -> dict[str, Any]:
    """Return the arguments of a tiny network: three stages, the first flat."""
    flat = [1, 3, 3] if dimensions == 3 else [3, 3]
    counts = {"n_blocks_per_stage": [1, 2, 2]} if residual else {"n_conv_per_stage": [2, 2, 2]}
    return {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [flat, [3] * dimensions, [3] * dimensions],
        "strides": [[1] * dimensions, ([1, 2, 2] if dimensions == 3 else [2, 2]), [2] * dimensions],
        "n_conv_per_stage_decoder": [1, 1] if residual else [2, 2],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **counts,
        **changed,
    }


def configuration(dimensions: int = 3, *, channels: int = 1, residual: bool = False, **changed: Any) -> dict[str, Any]:
    """Return a configuration of plans.json."""
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 24, 24][-dimensions:],
        "median_image_size_in_voxels": [16.0, 24.0, 24.0][-dimensions:],
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
            "arch_kwargs": arguments(dimensions, residual=residual),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changed,
    }


def plans(configurations: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Return a plans.json."""
    spread = {"max": 900.0, "mean": 40.0, "median": 38.0, "min": -500.0, "percentile_00_5": -80.0}
    spread |= {"percentile_99_5": 120.0, "std": 30.0}
    return {
        "dataset_name": "Dataset007_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): spread for channel in range(6)},
        "configurations": configurations,
        **changed,
    }


def dataset(channels: Sequence[str] = ("MRI",), labels: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a dataset.json of two labels."""
    return {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels or {"background": 0, "core": 1, "rim": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }


def network(own: dict[str, Any], *, channels: int = 1, classes: int = 3, seed: int = 0) -> Oracle:
    """Return the network of a configuration with weights drawn from a seed, scales and shifts of norms too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = Oracle(channels, classes, own["architecture"]["arch_kwargs"])
        for module in drawn.modules():
            if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
        drawn = drawn.eval().requires_grad_(requires_grad=False)
        logits = drawn(torch.randn(1, channels, *own["patch_size"])).transpose(0, 1).flatten(1)
    head = drawn.decoder.seg_layers[-1]  # every class is to win somewhere
    head.bias.sub_(logits.mean(1)).div_(logits.std(1))
    head.weight.div_(logits.std(1).reshape(-1, *[1] * (head.weight.ndim - 1)))
    return drawn


def checkpoint(weights: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Return a checkpoint as nnU-Net saves it, numbers of NumPy in its log included."""
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0, 1]}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "dice": [[np.float32(0.4)]], "epoch": [np.int64(1)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changed,
    }


def write_folder(
    root: Path, own: dict[str, Any], folds: dict[str, Any], *, about: dict[str, Any], data: dict[str, Any]
) -> Path:
    """Write a trained folder of one configuration; `folds` are checkpoints by fold, `about` changes the plans."""
    name = next(iter(folds.values()))["init_args"]["configuration"]
    folder = root / "Dataset007_Test" / f"{TRAINER}{name}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans({name: own}, **about)))
    (folder / "dataset.json").write_text(json.dumps(data))
    for fold, document in folds.items():
        (folder / f"fold_{fold}").mkdir()
        torch.save(document, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


# -- what nnU-Net does, after its publication and documentation ------------------------------------------------------


def resampled(image: NDArray[Any], shape: Sequence[int], order: int, apart: int | None) -> NDArray[Any]:
    """One channel to another size: scikit-image's resize, slice by slice where an axis is apart."""
    if image.shape == tuple(shape):
        return image
    if apart is None:
        return resize(image.astype(float), shape, order, mode="edge", anti_aliasing=False)
    plane = [n for axis, n in enumerate(shape) if axis != apart]
    slices = [
        resize(s.astype(float), plane, order, mode="edge", anti_aliasing=False) for s in np.moveaxis(image, apart, 0)
    ]
    stack = np.moveaxis(np.stack(slices), 0, apart)
    grid = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    places = [n / m * (g + 0.5) - 0.5 for n, m, g in zip(stack.shape, shape, grid, strict=True)]
    return ndimage.map_coordinates(stack, places, order=0, mode="nearest")


def apart_of(before: Sequence[float], after: Sequence[float]) -> int | None:
    """The axis that is resampled apart: the coarsest, where it is over three times the finest of either grid."""
    for spacing in (before, after):
        if max(spacing) / min(spacing) > 3:
            longest = [axis for axis, s in enumerate(spacing) if s == max(spacing)]
            return longest[0] if len(longest) == 1 else None
    return None


def predicted(
    image: NDArray[Any],
    spacing: Sequence[float],
    networks: Sequence[nn.Module],
    own: dict[str, Any],
    *,
    turn: Sequence[int] = (0, 1, 2),
    norm: Any,
    mirrored: Sequence[int] = (),
) -> NDArray[Any]:
    """The mask of a scan (C, Z, Y, X) that is no larger than the patch: crop, normalise, resample, pad, and back."""
    turned = image.astype(np.float32).transpose(0, *[axis + 1 for axis in turn])
    before = [spacing[axis] for axis in turn]
    inside = ndimage.binary_fill_holes((turned != 0).any(axis=0))
    box = ndimage.find_objects(inside.astype(int))[0]
    data = norm(turned[(slice(None), *box)].copy(), inside[box])
    after = list(own["spacing"]) if len(own["spacing"]) == 3 else [before[0], *own["spacing"]]
    shape = [round(a / b * n) for a, b, n in zip(before, after, data.shape[1:], strict=True)]
    apart = apart_of(before, after)
    order = own["resampling_fn_data_kwargs"]["order"]
    data = np.stack([resampled(channel, shape, order, apart) for channel in data]).astype(np.float32)
    patch = [1, *own["patch_size"]] if len(own["patch_size"]) == 2 else own["patch_size"]
    flat = len(own["patch_size"]) == 2
    missing = [0 if flat and axis == 0 else max(0, p - n) for axis, (p, n) in enumerate(zip(patch, shape, strict=True))]
    padded = np.pad(data, [(0, 0), *[(m // 2, m - m // 2) for m in missing]])
    logits = np.mean([_views(net, torch.from_numpy(padded), mirrored, flat=flat) for net in networks], axis=0)
    logits = logits[(slice(None), *[slice(m // 2, m // 2 + n) for m, n in zip(missing, shape, strict=True)])]
    back = apart_of(after, before)
    size = [s.stop - s.start for s in box]
    classes = np.stack([resampled(k, size, 1, back) for k in logits]).argmax(axis=0)
    mask = np.zeros(inside.shape, dtype=np.uint8)
    mask[box] = classes
    return mask.transpose(np.argsort(turn))


def _views(net: nn.Module, image: torch.Tensor, mirrored: Sequence[int], *, flat: bool) -> NDArray[Any]:
    batch = image.transpose(0, 1) if flat else image[None]  # slices, or one volume
    axes = [axis + 2 for axis in mirrored]
    every = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
    total = sum(net(batch.flip(view)).flip(view) for view in every) / len(every)
    assert isinstance(total, torch.Tensor)
    return (total.transpose(0, 1) if flat else total[0]).numpy()
