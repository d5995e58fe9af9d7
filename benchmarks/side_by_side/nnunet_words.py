"""Our network in nnU-Net's words: its plans, its data set, and what it calls our weights; needs nothing of nnU-Net."""

from __future__ import annotations

import re
from typing import Any

CONFIGURATION = "3d_fullres"
RESAMPLED = "resample_data_or_seg_to_shape"


def plans_of(about: dict[str, Any]) -> dict[str, Any]:
    """Return nnU-Net's plans document for a network, as its planner writes it."""
    stages = len(about["features"])
    hu = about["window_hu"]
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "bench",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": about["patch"],
        "median_image_size_in_voxels": about["patch"],
        "spacing": about["spacing_mm"],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": RESAMPLED,
        "resampling_fn_seg": RESAMPLED,
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": RESAMPLED,
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": about["features"],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    statistics = {"mean": hu["mean"], "std": hu["std"], "percentile_00_5": hu["low"], "percentile_99_5": hu["high"]}
    return {
        "dataset_name": "Dataset001_bench",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": about["spacing_mm"],
        "original_median_shape_after_transp": about["patch"],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": statistics},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "configurations": {CONFIGURATION: configuration},
    }


def dataset_of(about: dict[str, Any]) -> dict[str, Any]:
    """Return nnU-Net's dataset.json."""
    labels = {"background": 0} | {f"label_{k}": k for k in range(1, about["classes"])}
    return {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}


def their_name(ours: str) -> str:
    """Return how nnU-Net calls one of our weights.

    Examples
    --------
    >>> their_name("encoder.2.3.weight"), their_name("decoder.0.up.bias"), their_name("decoder.1.convs.4.bias")
    ('encoder.stages.2.0.convs.1.conv.weight', 'decoder.transpconvs.0.bias', 'decoder.stages.1.convs.1.norm.bias')
    """
    if match := re.fullmatch(r"encoder\.(\d+)\.(\d+)\.(\w+)", ours):
        stage, layer, kind = int(match[1]), int(match[2]), match[3]
        return f"encoder.stages.{stage}.0.convs.{layer // 3}.{('conv', 'norm')[layer % 3]}.{kind}"
    if match := re.fullmatch(r"decoder\.(\d+)\.convs\.(\d+)\.(\w+)", ours):
        stage, layer, kind = int(match[1]), int(match[2]), match[3]
        return f"decoder.stages.{stage}.convs.{layer // 3}.{('conv', 'norm')[layer % 3]}.{kind}"
    if match := re.fullmatch(r"decoder\.(\d+)\.up\.(\w+)", ours):
        return f"decoder.transpconvs.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"heads\.0\.(\w+)", ours):
        return f"decoder.seg_layers.-1.{match[1]}"
    raise ValueError(f"nnU-Net's network has nothing like {ours}")
