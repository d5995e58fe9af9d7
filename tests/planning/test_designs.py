"""The recipes that come along become networks that fit data and machine, and the published ones where they can be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from medseg.errors import PlanError
from medseg.plan import (
    ClassicUNetSpec,
    DeepLabSpec,
    FCNSpec,
    MedNeXtSpec,
    Plan,
    PSPNetSpec,
    ResNetSpec,
    SegResNetSpec,
    SwinUNETRSpec,
    UNetSpec,
    VGGSpec,
    recipe_folder,
)
from medseg.planning import network_cost, resolve
from tests.planning.test_resolve import ABDOMEN, CPU, GPU, HIPPOCAMPUS, PICTURES, THICK, fingerprint, recipe

if TYPE_CHECKING:
    from medseg.planning import Resources

ELEVEN = {
    *("unet3d", "unet2d", "resunet3d", "fcn32s", "fcn16s", "fcn8s"),
    *("deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3plus", "pspnet"),
}
ON_ENCODER = ("fcn8s", "deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3plus", "pspnet")


def test_eleven_recipes_come_along() -> None:
    assert {path.stem for path in recipe_folder().glob("*.yaml")} == ELEVEN


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("resources", [CPU, GPU], ids=lambda r: r.device)
@pytest.mark.parametrize("name", sorted(ELEVEN))
def test_each_takes_either_dimension(name: str, resources: Resources, dimensions: int) -> None:
    for data in (HIPPOCAMPUS, ABDOMEN, THICK) if dimensions == 3 else (HIPPOCAMPUS, PICTURES):
        plan = resolve(recipe(name, f"network.dimensions={dimensions}"), data, resources=resources)
        assert plan.network.dimensions == dimensions
        coarsest = [n // d for n, d in zip(plan.spatial_patch, plan.network.divisor, strict=True)]
        assert min(coarsest) >= 4 or max(plan.network.divisor) == 1
        assert Plan.from_document(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize("path", sorted((recipe_folder() / "more").glob("*.yaml")), ids=lambda p: p.stem)
def test_further_recipes_become_plans(path: object) -> None:
    name = str(getattr(path, "stem", ""))
    asked = recipe(name)
    data = HIPPOCAMPUS if asked.network.dimensions == 3 else PICTURES
    if asked.channels and len(asked.channels) != len(data.channels):
        data = data.model_copy(update={"channels": data.channels[:1]})
    plan = resolve(asked, data, resources=GPU)
    assert plan.network.dimensions == asked.network.dimensions


def test_published_networks_for_pictures_as_large_as_the_papers() -> None:
    networks = {
        name: resolve(recipe(name, "network.dimensions=2"), PICTURES, resources=GPU).network for name in ON_ENCODER
    }
    fcn, v1, v2, v3, plus, psp = (networks[name] for name in ON_ENCODER)
    assert isinstance(fcn, FCNSpec)
    assert isinstance(fcn.encoder, VGGSpec)
    assert (fcn.encoder.width, fcn.classifier_features, fcn.classifier_kernel, fcn.divisor) == (64, 4096, 7, (32, 32))
    assert isinstance(v1, DeepLabSpec)
    assert (v1.rates, v1.head_features, v1.encoder.dilations, v1.divisor) == ((12,), 1024, (1, 1, 1, 1, 2), (8, 8))
    assert isinstance(v2, DeepLabSpec)
    assert (v2.rates, v2.encoder.name, v2.divisor) == ((6, 12, 18, 24), "ResNet-101", (8, 8))
    assert isinstance(v3, DeepLabSpec)
    assert (v3.head_features, v3.encoder.dilations, v3.divisor) == (256, (1, 1, 1, 2), (16, 16))
    assert isinstance(plus, DeepLabSpec)
    assert plus.low_level_features == 48
    assert isinstance(psp, PSPNetSpec)
    assert (psp.bins, psp.head_features, psp.encoder.stem, psp.encoder.dilations) == (
        *((1, 2, 3, 6), 512, "deep"),
        (1, 1, 2, 4),
    )


def test_widths_of_volumes_follow_the_device() -> None:
    small, large = (resolve(recipe("fcn8s"), ABDOMEN, resources=r).network for r in (CPU, GPU))
    assert isinstance(small, FCNSpec)
    assert isinstance(large, FCNSpec)
    assert (small.encoder.width, small.classifier_features, small.classifier_kernel) == (16, 1024, 3)
    assert (large.encoder.width, large.classifier_features) == (32, 2048)


def test_rates_keep_their_share_of_a_small_map() -> None:
    plan = resolve(recipe("deeplabv3"), HIPPOCAMPUS, resources=CPU)
    assert isinstance(plan.network, DeepLabSpec)
    side = min(-(-n // d) for n, d in zip((35, 50, 35), plan.network.divisor, strict=True))
    assert max(plan.network.rates) == round(18 * side / 33)
    assert max(plan.network.encoder.dilations) <= max(1, side // 4)


def test_thick_slices_stride_later() -> None:
    network = resolve(recipe("fcn8s"), THICK, resources=GPU).network
    assert isinstance(network, FCNSpec)
    assert network.encoder.strides[0] == (1, 2, 2)


def test_what_a_recipe_states_is_kept() -> None:
    settings = ("network.encoder=resnet18", "network.output_stride=2", "network.norm=group", "network.width=24")
    network = resolve(recipe("deeplabv3plus", *settings), HIPPOCAMPUS, resources=CPU).network
    assert isinstance(network, DeepLabSpec)
    assert isinstance(network.encoder, ResNetSpec)
    assert (network.encoder.layers, network.encoder.width, network.encoder.norm) == (18, 24, "group")
    assert network.divisor == (2, 2, 2)


def test_batch_norm_of_a_mean_needs_two_patches() -> None:
    plan = resolve(recipe("pspnet", "network.norm=batch"), HIPPOCAMPUS, resources=CPU)
    assert plan.train.batch_size >= 2
    with pytest.raises(PlanError, match="batch norm"):
        plan.with_settings(["train.batch_size=1"])


def test_more_memory_of_a_gpu_makes_larger_patches_or_batches() -> None:
    large = with_memory(GPU, 100)
    medium, extra = (resolve(recipe(f"resunet3d_{size}"), ABDOMEN, resources=large) for size in ("m", "xl"))
    assert isinstance(medium.network, UNetSpec)
    assert medium.network.residual_blocks[:4] == (1, 3, 4, 6)
    assert medium.network.convs_per_stage == 1
    voxels = [math.prod(p.train.patch_size) * p.train.batch_size for p in (medium, extra)]
    assert voxels[1] > 2 * voxels[0]


def test_other_kinds_by_setting() -> None:
    kinds = {
        "classic_unet": ClassicUNetSpec,
        "segresnet": SegResNetSpec,
        "swin_unetr": SwinUNETRSpec,
        "mednext": MedNeXtSpec,
        "fcn": FCNSpec,
    }
    for kind, spec in kinds.items():
        assert isinstance(resolve(recipe("unet3d", f"network.kind={kind}"), ABDOMEN, resources=GPU).network, spec)


@pytest.mark.parametrize("name", ["resunet3d", "fcn8s", "deeplabv3plus"])
def test_cost_grows_with_the_patch(name: str) -> None:
    plan = resolve(recipe(name), ABDOMEN, resources=CPU)
    small, large = (
        network_cost(plan.network, [times * n for n in plan.spatial_patch], in_channels=1, out_channels=3)
        for times in (1, 2)
    )
    assert small.parameters == large.parameters
    assert large.flops == pytest.approx(8 * small.flops, rel=0.01)
    assert large.activations == pytest.approx(8 * small.activations, rel=0.01)


SMALL = fingerprint(*[((5, 5, 5), (1.0, 1.0, 1.0))])
THIN = fingerprint(*[((3, 400, 400), (5.0, 0.5, 0.5))] * 2, labels=tuple(f"organ {i}" for i in range(104)))


@pytest.mark.parametrize("resources", [CPU, GPU], ids=lambda r: r.device)
@pytest.mark.parametrize("name", sorted([*ELEVEN, "segresnet", "swin_unetr", "mednext"]))
def test_the_smallest_images_and_the_thinnest_have_plans(name: str, resources: Resources) -> None:
    for data in (SMALL, THIN):
        plan = resolve(recipe(name, "network.dimensions=3"), data, resources=resources)
        assert name not in {"swin_unetr", "mednext"} or plan.spatial_patch != plan.network.divisor
        assert Plan.from_document(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("pspnet", "network.encoder=vgg16", "encoder"),
        ("deeplabv3", "network.encoder=vgg16", "ResNet"),
        ("deeplabv1", "network.encoder=resnet50", "VGG"),
        ("deeplabv1", "network.rates=[6, 12]", "one rate"),
        ("fcn8s", "network.auxiliary_weight=0.4", "ResNet"),
        ("swin_unetr", "network.width=32", "multiple of 12"),
        ("segresnet", "network.width=12", "multiple of 8"),
        ("unet3d_2016", "network.width=3", "even"),
    ],
)
def test_what_does_not_go_together_is_said_in_words(name: str, setting: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        resolve(recipe(name, setting), HIPPOCAMPUS, resources=CPU)


def test_too_little_memory_names_what_takes_it() -> None:
    with pytest.raises(PlanError, match="the weights of FCN-8s"):
        resolve(recipe("fcn8s", "network.dimensions=2"), PICTURES, resources=with_memory(CPU, 2))
    with pytest.raises(PlanError, match=r"a batch of 4000 .*gpu_memory_gb"):
        resolve(recipe("pspnet", "train.batch_size=4000"), ABDOMEN, resources=GPU)


def test_the_plane_of_thick_slices_keeps_its_rates() -> None:
    network = resolve(recipe("deeplabv2"), THICK, resources=with_memory(GPU, 100)).network
    assert isinstance(network, DeepLabSpec)
    assert network.rates[-1] > 12


def with_memory(resources: Resources, gigabytes: int) -> Resources:
    return type(resources)(resources.device, gigabytes * 10**9, resources.cores)
