from __future__ import annotations

import pytest

from medseg.errors import PlanError
from medseg.labels import LabelSet
from medseg.plan import (
    AdamW,
    CaseFingerprint,
    ChannelFingerprint,
    ClipZScore,
    CrfPlan,
    Fingerprint,
    InstancePlan,
    Plan,
    Recipe,
    Rescale,
    Sgd,
    ZScore,
    read_recipe,
    recipe_folder,
)
from medseg.planning import Resources, estimate, parse_size, resolve

CPU = Resources("cpu", 16_000_000_000, 2)
GPU = Resources("cuda", 24_000_000_000, 8)
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def fingerprint(
    *cases: tuple[Shape, Spacing], channels: tuple[str, ...] = ("MR",), labels: tuple[str, ...] = ("a", "b")
) -> Fingerprint:
    return Fingerprint(
        dataset="made-up",
        content_sha256="0" * 64,
        cases=tuple(
            CaseFingerprint(id=f"c{i}", shape=shape, spacing_mm=spacing, label_voxels={1: 10})
            for i, (shape, spacing) in enumerate(cases)
        ),
        channels=tuple(
            ChannelFingerprint(
                name=name, mean=40, std=20, percentile_00_5=-100, percentile_99_5=200, minimum=-500, maximum=900
            )
            for name in channels
        ),
        labels=LabelSet.from_names(dict(enumerate(labels, start=1))),
    )


HIPPOCAMPUS = fingerprint(*[((35, 50, 35), (1.0, 1.0, 1.0))] * 200)
ABDOMEN = fingerprint(*[((120, 512, 512), (2.5, 0.8, 0.8))] * 30, channels=("CT",))
THICK = fingerprint(*[((24, 320, 320), (6.0, 0.7, 0.7))] * 30)
PICTURES = fingerprint(*[((1, 512, 512), (1.0, 1.0, 1.0))] * 30, channels=("red", "green", "blue"))


def recipe(name: str = "unet3d", *settings: str) -> Recipe:
    return read_recipe(name).with_settings(settings)


def test_a_crf_is_handed_on_where_it_is_asked_for() -> None:
    assert resolve(recipe(), HIPPOCAMPUS, resources=CPU).infer.crf is None
    asked = recipe("unet3d", "infer.crf={}", "infer.crf.iterations=3")
    assert resolve(asked, HIPPOCAMPUS, resources=CPU).infer.crf == CrfPlan(iterations=3)


def test_small_volumes_on_a_cpu() -> None:
    plan = resolve(recipe(), HIPPOCAMPUS, resources=CPU)
    assert plan.train.patch_size == (40, 56, 40)
    assert plan.train.batch_size == 1
    assert plan.network.features == (16, 32, 64, 128)
    assert plan.network.deep_supervision
    assert isinstance(plan.train.optimizer, AdamW)
    assert plan.preprocess.normalisation == (ZScore(),)


def test_small_volumes_on_a_gpu_are_as_published() -> None:
    plan = resolve(recipe(), HIPPOCAMPUS, resources=GPU)
    assert plan.train.patch_size == (40, 56, 40)
    assert plan.network.features[0] == 32
    assert plan.network.deep_supervision
    assert isinstance(plan.train.optimizer, Sgd)
    assert (plan.train.epochs, plan.train.steps_per_epoch) == (1000, 250)
    assert plan.train.batch_size >= 7  # a twentieth of all voxels


def test_plans_survive_being_written() -> None:
    plan = resolve(recipe(), ABDOMEN, resources=GPU)
    assert Plan.from_document(plan.model_dump(mode="json")) == plan
    assert "auto" not in plan.to_yaml()


def test_ct_is_clipped_by_the_foreground() -> None:
    how = resolve(recipe(), ABDOMEN, resources=CPU).preprocess.normalisation[0]
    assert how == ClipZScore(low=-100, high=200, mean=40, std=20)


def test_spacing_is_the_median() -> None:
    mixed = fingerprint(
        ((100, 200, 200), (1.0, 0.5, 0.5)), ((100, 200, 200), (2.0, 0.6, 0.6)), ((100, 200, 200), (2.5, 0.9, 0.9))
    )
    assert resolve(recipe(), mixed, resources=CPU).preprocess.spacing_mm == (2.0, 0.6, 0.6)


def test_one_very_coarse_axis_takes_a_finer_spacing() -> None:
    cases = [((20, 320, 320), (float(z), 0.7, 0.7)) for z in (3, 5, 6, 6, 6, 6, 7, 7, 8, 8)]
    z, y, x = resolve(recipe(), fingerprint(*cases), resources=CPU).preprocess.spacing_mm
    assert z == pytest.approx(4.8)
    assert (y, x) == (0.7, 0.7)


def test_thick_slices_get_flat_kernels_and_turn_in_their_plane() -> None:
    plan = resolve(recipe(), THICK, resources=CPU)
    assert plan.network.kernels[0] == (1, 3, 3)
    assert plan.network.strides[1] == (1, 2, 2)
    assert plan.train.augment.rotation_deg[1:] == (0.0, 0.0)
    assert plan.train.augment.rotation_deg[0] > 0


@pytest.mark.parametrize("data", [HIPPOCAMPUS, ABDOMEN, THICK])
@pytest.mark.parametrize("name", ["unet3d", "unet2d"])
def test_a_cpu_step_stays_short_and_patches_divide(data: Fingerprint, name: str) -> None:
    plan = resolve(recipe(name), data, resources=CPU)
    cost = estimate(plan, data, resources=CPU)
    assert cost.flops_per_step < 6e11
    assert plan.network.features[0] % 16 == 0
    assert all(side % d == 0 for side, d in zip(plan.spatial_patch, plan.network.divisor, strict=True))


def test_less_memory_makes_smaller_patches_and_less_still_is_refused() -> None:
    large = resolve(recipe(), ABDOMEN, resources=GPU)
    small = resolve(recipe(), ABDOMEN, resources=Resources("cuda", 3_000_000_000))

    def voxels(plan: Plan) -> int:
        z, y, x = plan.train.patch_size
        return z * y * x

    assert voxels(small) < voxels(large)
    assert estimate(small, ABDOMEN, resources=GPU).train_ram_bytes <= 3_000_000_000
    assert 3_000_000_000 < estimate(large, ABDOMEN, resources=GPU).train_ram_bytes <= GPU.memory_bytes
    with pytest.raises(PlanError, match="--memory, or use slices"):
        resolve(recipe(), ABDOMEN, resources=Resources("cuda", 800_000_000))
    with pytest.raises(PlanError) as caught:
        resolve(recipe("unet2d"), ABDOMEN, resources=Resources("cuda", 700_000_000))
    assert caught.value.remedy == "Allow more with --memory"


def test_labels_with_sides_are_never_mirrored_left_to_right() -> None:
    sided = fingerprint(((64, 64, 64), (1, 1, 1)), labels=("kidney_left", "kidney_right"))
    plan = resolve(recipe(), sided, resources=GPU)
    assert plan.train.augment.mirror_axes == plan.infer.mirror_axes == ("Z", "Y")
    stored = resolve(recipe("unet3d", "preprocess.orientation=stored"), sided, resources=GPU)
    assert stored.train.augment.mirror_axes == ()
    assert resolve(recipe(), HIPPOCAMPUS, resources=GPU).train.augment.mirror_axes == ("Z", "Y", "X")


def test_volumes_are_not_mirrored_in_the_short_runs_of_a_cpu() -> None:
    plan = resolve(recipe(), HIPPOCAMPUS, resources=CPU)
    assert plan.train.augment.mirror_axes == plan.infer.mirror_axes == ()


def test_slices_of_pictures() -> None:
    plan = resolve(recipe("unet2d"), PICTURES, resources=CPU)
    assert plan.slice_axis == 0
    assert plan.network.dimensions == 2
    assert plan.preprocess.normalisation == (Rescale(),) * 3
    assert plan.train.augment.mirror_axes == ("Y", "X")
    assert plan.train.augment.rotation_deg[1:] == (0.0, 0.0)


def test_a_volume_network_for_pictures_is_refused_with_advice() -> None:
    with pytest.raises(PlanError, match="-r unet2d"):
        resolve(recipe(), PICTURES, resources=CPU)


def test_slices_lie_across_the_coarsest_axis() -> None:
    sagittal = fingerprint(*[((200, 200, 20), (0.8, 0.8, 5.0))] * 10)
    plan = resolve(recipe("unet2d"), sagittal, resources=CPU)
    assert plan.slice_axis == 2
    assert plan.train.patch_size[2] == 1
    assert "X" not in plan.train.augment.mirror_axes


@pytest.mark.parametrize("channels", [("image",), ("image_0", "image_1")])
def test_unknown_modalities_are_not_guessed(channels: tuple[str, ...]) -> None:
    unknown = fingerprint(((64, 64, 64), (1, 1, 1)), channels=channels)
    with pytest.raises(PlanError, match="channels:"):
        resolve(recipe(), unknown, resources=CPU)
    names = ["CT", "PT"][: len(channels)]
    plan = resolve(recipe("unet3d", f"channels={names}"), unknown, resources=CPU)
    assert plan.channels == tuple(names)
    assert plan.preprocess.normalisation[0].kind == "clip_zscore"


def test_what_a_recipe_states_is_kept() -> None:
    asked = recipe(
        "unet3d",
        "preprocess.spacing_mm=[2, 2, 2]",
        "preprocess.normalisation=[rescale]",
        "network.width=24",
        "network.depth=3",
        "network.deep_supervision=false",
        "train.patch_size=[16, 24, 16]",
        "train.batch_size=5",
        "train.epochs=7",
        "train.steps_per_epoch=3",
        "train.ema_decay=0.5",
        "infer.largest_component=[a]",
        "infer.minimum_ml={b: 0.5}",
        "infer.fill_holes=all",
        "infer.instances={labels: [b], method: watershed, neck: 0.8}",
        "infer.select=modality=MR slices>4",
        "infer.mirror_axes=[Z]",
    )
    plan = resolve(asked, HIPPOCAMPUS, resources=CPU)
    assert plan.preprocess.spacing_mm == (2.0, 2.0, 2.0)
    assert plan.preprocess.normalisation == (Rescale(),)
    assert plan.network.features == (24, 48, 96)
    assert not plan.network.deep_supervision
    train = plan.train
    assert (train.patch_size, train.batch_size, train.epochs, train.steps_per_epoch) == ((16, 24, 16), 5, 7, 3)
    assert (plan.infer.minimum_ml, plan.infer.fill_holes) == ({2: 0.5}, (1, 2))
    assert (train.ema_decay, plan.infer.largest_component, plan.infer.mirror_axes) == (0.5, (1,), ("Z",))
    assert plan.infer.select == "modality=MR slices>4"
    assert plan.infer.instances == InstancePlan(labels=(2,), method="watershed", neck=0.8)


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("unet3d", "train.patch_size=[30, 30, 30]", "multiples"),
        ("unet2d", "train.patch_size=[32, 32, 32]", "side of 1"),
        ("unet3d", "channels=[CT, PT]", "names 2 channels"),
        ("unet3d", "preprocess.normalisation=[zscore, zscore]", "normalisations"),
        ("unet3d", "infer.largest_component=[c]", "'c'"),
        ("unet3d", "infer.minimum_ml={c: 1.0}", "'c'"),
        ("unet3d", "infer.instances={labels: [d]}", "'d'"),
    ],
)
def test_contradictions_are_refused(name: str, setting: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        resolve(recipe(name, setting), HIPPOCAMPUS, resources=CPU)


def test_estimates_say_what_they_rest_on() -> None:
    plan = resolve(recipe(), HIPPOCAMPUS, resources=CPU)
    assumed = estimate(plan, HIPPOCAMPUS, resources=CPU)
    measured = estimate(plan, HIPPOCAMPUS, resources=Resources("cpu", 16_000_000_000, 2, flops_per_second=1e11))
    assert "assumed" in assumed.assumptions[0]
    assert "measured" in measured.assumptions[0]
    assert measured.seconds_per_step == pytest.approx(measured.flops_per_step / 1e11)
    assert measured.seconds_total == pytest.approx(measured.seconds_per_step * 100 * 50)
    assert measured.disk_bytes > 200 * 35 * 50 * 35 * 5
    assert set(measured.to_json()) >= {"seconds_total", "train_ram_bytes", "infer_ram_bytes", "disk_bytes"}


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8 * 10**9), ("8 gib", 8 * 2**30), ("500MB", 5 * 10**8), ("1.5K", 1500), ("7", 7)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "8 apples", "1e9", "8GBB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="size"):
        parse_size(text)


def test_a_batch_that_memory_does_not_hold_is_refused_before_anything_starts() -> None:
    with pytest.raises(PlanError, match="batch of 100000"):
        resolve(recipe("unet3d", "train.batch_size=100000"), HIPPOCAMPUS, resources=CPU)
    plan = resolve(recipe("unet3d", "train.batch_size=4"), HIPPOCAMPUS, resources=CPU)
    assert plan.train.batch_size == 4


def test_recipes_of_2d_data_are_found_by_either_name_and_make_2d_plans() -> None:
    names = {path.stem for path in (recipe_folder() / "more").glob("*.yaml")}
    assert {"em_membrane", "nuclei", "voc", "camvid"} <= names
    for name in ("em_membrane", "nuclei", "voc", "camvid"):
        assert read_recipe(name) == read_recipe(f"more/{name}")
        assert (recipe_folder() / "more" / f"{name}.yaml").read_text().startswith("# ")
    for name in ("nuclei", "voc", "camvid"):
        plan = resolve(recipe(name), PICTURES, resources=CPU)
        assert (plan.slice_axis, plan.channels) == (0, ("red", "green", "blue"))
        assert set(plan.infer.mirror_axes) == set(plan.train.augment.mirror_axes)
    with pytest.raises(PlanError, match=r"one of .*unet2d.*nuclei"):
        read_recipe("nuclear")


def test_the_plan_ignores_what_the_data_set_ignores() -> None:
    data = PICTURES.model_copy(update={"ignore_label": 255})
    assert resolve(recipe("unet2d"), data, resources=CPU).ignore_label == 255
    assert resolve(recipe("unet2d"), PICTURES, resources=CPU).ignore_label is None
