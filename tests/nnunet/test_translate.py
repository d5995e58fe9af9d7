from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from medseg.errors import ModelError
from medseg.nnunet import read_configuration, to_plan
from medseg.plan import ClipZScore, Divide, Interpolation, Plan, Rescale, ScanFirst, Unchanged, UNetSpec, ZScore
from medseg.plan.part import AXES
from tests.nnunet.folders import arguments, configuration, dataset, plans

if TYPE_CHECKING:
    from pathlib import Path


def plan_of(
    folder: Path,
    own: dict[str, Any],
    *,
    about: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    mirror_axes: tuple[int, ...] = (0, 1, 2),
) -> Plan:
    (folder / "plans.json").write_text(json.dumps(plans({"3d_fullres": own}, **(about or {}))))
    (folder / "dataset.json").write_text(json.dumps(data or dataset()))
    return to_plan(read_configuration(folder, "3d_fullres"), mirror_axes=mirror_axes)


def network_with(**changed: Any) -> dict[str, Any]:
    own = configuration()
    own["architecture"]["arch_kwargs"].update(changed)
    return own


def test_a_plan_says_what_the_plans_say_and_reads_back_equal(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, configuration(), mirror_axes=(0, 2), about={"transpose_forward": [2, 0, 1]})
    assert plan.channels == ("MRI",)
    assert plan.labels.names == ("core", "rim")
    assert plan.train.patch_size == (16, 24, 24)
    assert plan.infer.mirror_axes == ("Z", "X")
    assert (plan.infer.overlap, plan.infer.precision) == (0.5, "fp32")
    assert plan.preprocess.axis_order == ("X", "Z", "Y")
    image = Interpolation(order=3, apart="anisotropic")
    assert plan.preprocess.scan_first == ScanFirst(
        crop="nonzero", image=image, scores=image.model_copy(update={"order": 1})
    )
    path = tmp_path / "plan.yaml"
    path.write_text(plan.to_yaml())
    assert Plan.read(path) == plan


def test_a_flat_network_sees_slices_along_the_first_axis_and_mirrors_in_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, configuration(2), mirror_axes=(0, 1))
    assert plan.train.patch_size == (1, 24, 24)
    assert plan.slice_axis == 0
    assert plan.infer.mirror_axes == ("Y", "X")


def test_plans_of_before_say_the_same(tmp_path: Path) -> None:
    new, old = configuration(), configuration()
    old.pop("architecture")
    net = arguments()
    old |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": net["strides"],
        "conv_kernel_sizes": net["kernel_sizes"],
    }
    new["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 8]
    between = {k: v for k, v in new.items() if k != "architecture"}
    between |= {
        "network_arch_class_name": new["architecture"]["network_class_name"],
        "network_arch_init_kwargs": new["architecture"]["arch_kwargs"],
    }
    expected = plan_of(tmp_path, new)
    assert plan_of(tmp_path, old) == expected
    assert plan_of(tmp_path, between) == expected


def test_values_are_inherited(tmp_path: Path) -> None:
    own = {"inherits_from": "base", "batch_size": 7}
    (tmp_path / "plans.json").write_text(json.dumps(plans({"base": configuration(), "3d_fullres": own})))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset()))
    assert to_plan(read_configuration(tmp_path, "3d_fullres"), mirror_axes=()).train.batch_size == 7
    with pytest.raises(ModelError, match=r"no configuration '2d'; expected one of base, 3d_fullres"):
        read_configuration(tmp_path, "2d")
    (tmp_path / "plans.json").write_text(json.dumps(plans({"a": {"inherits_from": "a"}})))
    with pytest.raises(ModelError, match="inherits without end"):
        read_configuration(tmp_path, "a")


def test_convolutions_of_each_stage_are_kept(tmp_path: Path) -> None:
    spec = plan_of(tmp_path, network_with(n_conv_per_stage=[1, 2, 3], n_conv_per_stage_decoder=[3, 1])).network
    assert isinstance(spec, UNetSpec)
    assert (spec.convs_down, spec.convs_up) == ((1, 2, 3), (3, 1))
    spec = plan_of(tmp_path, network_with(n_conv_per_stage=1, n_conv_per_stage_decoder=1, kernel_sizes=3)).network
    assert isinstance(spec, UNetSpec)
    assert (spec.convs_per_stage, spec.encoder_convs, spec.kernels[0]) == (1, (), (3, 3, 3))


def test_slopes_and_norms_are_kept(tmp_path: Path) -> None:
    changed = {"nonlin": "torch.nn.ReLU", "nonlin_kwargs": {"inplace": True}, "norm_op_kwargs": {"eps": 1e-3}}
    spec = plan_of(tmp_path, network_with(**changed)).network
    assert isinstance(spec, UNetSpec)
    assert (spec.leak, spec.norm_eps) == (0.0, 1e-3)
    spec = plan_of(tmp_path, network_with(nonlin_kwargs={"negative_slope": 0.2})).network
    assert isinstance(spec, UNetSpec)
    assert spec.leak == 0.2


def test_each_channel_has_its_normalisation(tmp_path: Path) -> None:
    schemes = ["CT", "ZScore", "ZScore", "RescaleTo01", "RGBTo01", "No"]
    own = configuration(
        channels=6,
        normalization_schemes=[f"{scheme}Normalization" for scheme in schemes],
        use_mask_for_norm=[False, False, True, False, False, False],
    )
    plan = plan_of(tmp_path, own, data=dataset(["CT", "T1", "T1", "a", "b", "c"]))
    assert plan.channels == ("CT", "T1 1", "T1 2", "a", "b", "c")
    assert plan.preprocess.normalisation == (
        ClipZScore(low=-80, high=120, mean=40, std=30),
        ZScore(),
        ZScore(within="nonzero"),
        Rescale(),
        Divide(by=255),
        Unchanged(),
    )


def test_a_label_to_ignore_is_no_class(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, configuration(), data=dataset(labels={"background": 0, "a": 1, "ignore": 2}))
    assert plan.labels.names == ("a",)
    assert plan.ignore_label == 2


@pytest.mark.parametrize(
    ("reader", "turn", "orientation", "order"),
    [
        ("NibabelIO", [0, 1, 2], "stored", AXES),
        ("SimpleITKIO", [1, 0, 2], "stored", ("Y", "Z", "X")),
        ("NibabelIOWithReorient", [0, 1, 2], "SAR", AXES),
        ("SimpleITKIOWithReorient", [2, 0, 1], "RSA", AXES),
    ],
)
def test_axes_are_those_of_the_reader(
    reader: str, turn: list[int], orientation: str, order: tuple[str, ...], tmp_path: Path
) -> None:
    about = {"image_reader_writer": reader, "transpose_forward": turn}
    preprocess = plan_of(tmp_path, configuration(), about=about).preprocess
    assert (preprocess.orientation, preprocess.axis_order) == (orientation, order)


REFUSED_CONFIGURATIONS = {
    "a cascade": (configuration(previous_stage="3d_lowres"), "goes on from the masks of '3d_lowres'"),
    "another preprocessor": (configuration(preprocessor_name="Mine"), "'Mine'; expected DefaultPreprocessor"),
    "no resampling": (configuration(resampling_fn_data="no_resampling_hack"), "resample by 'no_resampling_hack'"),
    "splines of scores": (configuration(resampling_fn_probabilities_kwargs={"order": 3}), "splines of order 3"),
    "another norm of grey values": (configuration(normalization_schemes=["MyNormalization"]), "'MyNormalization'"),
    "too few norms": (configuration(normalization_schemes=["NoNormalization"] * 2), "2 normalisations; expected 1"),
    "an uneven patch": (configuration(patch_size=[16, 24, 22]), "must be divisible"),
    "half a spacing": (configuration(spacing=[1.0, 1.0]), "expected 3 lengths"),
    "a spacing of nothing": (configuration(spacing=[1.0, 0.0, 1.0]), "spacing.1: Input should be greater than 0"),
    "another network": (
        configuration(architecture={"network_class_name": "my.package.PlainConvUNet", "arch_kwargs": {}}),
        "the network is 'my.package.PlainConvUNet'; expected PlainConvUNet or ResidualEncoderUNet",
    ),
    "a transformer": (
        configuration(
            architecture={
                "network_class_name": "dynamic_network_architectures.architectures.primus.Primus",
                "arch_kwargs": {"embed_dim": 8},
            }
        ),
        "primus.Primus'",
    ),
    "no network": ({k: v for k, v in configuration().items() if k != "architecture"}, "architecture: Field required"),
    "an unknown argument": (network_with(squeeze_excitation=True), "squeeze_excitation: Extra inputs"),
    "another rectifier": (network_with(nonlin="torch.nn.GELU"), "the rectifier 'torch.nn.GELU'"),
    "another norm": (network_with(norm_op="torch.nn.GroupNorm"), "the norm 'torch.nn.GroupNorm'"),
    "rectifiers first": (network_with(nonlin_first=True), "rectifiers before the norms"),
    "bottlenecks": (network_with(bottleneck_channels=[4, 4, 4]), "bottlenecks"),
    "a wide stem": (network_with(stem_channels=16), "a stem of another width"),
    "a stage too few": (network_with(kernel_sizes=[[3, 3, 3]] * 2), "must each have 3 stages"),
}


@pytest.mark.parametrize("what", REFUSED_CONFIGURATIONS)
def test_a_configuration_we_have_no_counterpart_of_is_refused(what: str, tmp_path: Path) -> None:
    own, sentence = REFUSED_CONFIGURATIONS[what]
    with pytest.raises(ModelError) as caught:
        plan_of(tmp_path, own)
    assert sentence in str(caught.value)
    assert str(tmp_path) in str(caught.value)


REFUSED_FOLDERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "regions": ({}, dataset(labels={"background": 0, "whole": [1, 2], "core": 2}), "'whole' is a region"),
    "no background": ({}, dataset(labels={"a": 1}), "no background"),
    "gaps": ({}, dataset(labels={"background": 0, "a": 1, "b": 3}), "the values 1, 3"),
    "nothing": ({}, dataset(labels={"background": 0}), "at least one structure"),
    "channels": ({}, dataset() | {"channel_names": {"1": "CT"}}, "numbered 1"),
    "another reader": ({"image_reader_writer": "MyIO"}, dataset(), "the reader 'MyIO'"),
    "other labels": ({"label_manager": "Mine"}, dataset(), "'Mine'; expected LabelManager"),
    "axes": ({"transpose_forward": [0, 0, 1]}, dataset(), "transpose_forward is (0, 0, 1)"),
}


@pytest.mark.parametrize("what", REFUSED_FOLDERS)
def test_plans_and_labels_that_cannot_be_followed_are_refused(what: str, tmp_path: Path) -> None:
    about, data, sentence = REFUSED_FOLDERS[what]
    with pytest.raises(ModelError) as caught:
        plan_of(tmp_path, configuration(), about=about, data=data)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"plans_name": 3}'])
def test_a_document_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plans.json").write_text(text)
    (tmp_path / "dataset.json").write_text(json.dumps(dataset()))
    with pytest.raises(ModelError, match=r"plans.json"):
        read_configuration(tmp_path, "2d")
