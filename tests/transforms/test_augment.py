from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_obj import get_track_meta

from medseg.errors import PlanError
from medseg.labels import LabelSet
from medseg.plan import AugmentPlan, Plan, PreprocessPlan, TrainPlan, UNetSpec, ZScore
from medseg.transforms.augment import Augmentation, plain_tensors

NOTHING = AugmentPlan(**{name: 0.0 for name in AugmentPlan.model_fields if name.endswith("probability")})
EVERYTHING = AugmentPlan(
    **{name: 1.0 for name in AugmentPlan.model_fields if name.endswith("probability")}, mirror_axes=("Z", "Y", "X")
)


def _plan(
    augment: AugmentPlan,
    *,
    patch: tuple[int, int, int] = (8, 12, 10),
    names: tuple[str, ...] = ("anterior", "posterior"),
    orientation: str = "SPL",
) -> Plan:
    dimensions = 2 if 1 in patch else 3
    return Plan(
        channels=("MR",),
        labels=LabelSet.from_names(dict(enumerate(names, start=1))),
        preprocess=PreprocessPlan(orientation=orientation, spacing_mm=(1.0, 1.0, 1.0), normalisation=(ZScore(),)),
        network=UNetSpec(
            dimensions=dimensions,
            features=(4, 4),
            strides=((1,) * dimensions, (2,) * dimensions),
            kernels=((3,) * dimensions,) * 2,
        ),
        train=TrainPlan(patch_size=patch, batch_size=1, augment=augment),
    )


def _patch(size: tuple[int, ...], *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose value is a smooth function of place and a label cut from it, so that both must move together."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
    phase = torch.from_numpy(np.random.default_rng(seed).uniform(0, 1, 3)).float()
    image = sum(torch.sin(2 * a + p) for a, p in zip(axes, phase, strict=True))
    return image[None].float(), (image > 0.5).to(torch.uint8) + (image > 1.2).to(torch.uint8)


@pytest.mark.parametrize("patch", [(8, 12, 10), (1, 16, 12), (16, 1, 12)])
@pytest.mark.parametrize("augment", [NOTHING, EVERYTHING, AugmentPlan()])
def test_gives_the_patch_of_the_plan(patch: tuple[int, int, int], augment: AugmentPlan) -> None:
    plan = _plan(augment, patch=patch)
    augmentation = Augmentation(plan)
    image, label = augmentation(*_patch(augmentation.extract_size), seed=3)
    assert image.shape == (1, *plan.spatial_patch)
    assert label.shape == plan.spatial_patch
    assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
    assert type(image) is type(label) is torch.Tensor
    assert torch.isfinite(image).all()
    assert set(label.unique().tolist()) <= {0, 1, 2}


def test_the_seed_decides_everything() -> None:
    augmentation = Augmentation(_plan(EVERYTHING))
    patch = _patch(augmentation.extract_size)
    first = augmentation(*patch, seed=5)
    augmentation(*patch, seed=6)
    again = Augmentation(_plan(EVERYTHING))(*patch, seed=5)
    other = augmentation(*patch, seed=7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_input_is_left_as_it_was() -> None:
    augmentation = Augmentation(_plan(EVERYTHING))
    image, label = _patch(augmentation.extract_size)
    before = image.clone(), label.clone()
    augmentation(image, label, seed=1)
    assert torch.equal(image, before[0])
    assert torch.equal(label, before[1])


def test_nothing_asked_is_nothing_done() -> None:
    augmentation = Augmentation(_plan(NOTHING))
    assert augmentation.extract_size == (8, 12, 10)
    image, label = _patch(augmentation.extract_size)
    same = augmentation(image, label, seed=0)
    assert torch.equal(same[0], image)
    assert torch.equal(same[1], label)


@pytest.mark.parametrize("name", ["rotation_probability", "scaling_probability", "elastic_probability"])
def test_image_and_label_move_together(name: str) -> None:
    augmentation = Augmentation(_plan(NOTHING.model_copy(update={name: 1.0}), patch=(24, 24, 24)))
    image, label = _patch(augmentation.extract_size)
    varied, moved = augmentation(image, label, seed=2)
    start = [(n - 24) // 2 for n in augmentation.extract_size]
    centre = image[:, start[0] : start[0] + 24, start[1] : start[1] + 24, start[2] : start[2] + 24]
    assert not torch.allclose(varied, centre, atol=1e-2)
    cut = (varied[0] > 0.5).to(torch.uint8) + (varied[0] > 1.2).to(torch.uint8)
    assert (cut == moved).float().mean() > 0.95


def test_rotation_and_scaling_reach_no_padding_about_one_axis() -> None:
    augment = NOTHING.model_copy(
        update={
            "rotation_probability": 1.0,
            "scaling_probability": 1.0,
            "rotation_deg": (30.0, 0.0, 0.0),
            "scaling": (1.39, 1.4),
        }
    )
    augmentation = Augmentation(_plan(augment, patch=(8, 24, 16)))
    ones = torch.ones(1, *augmentation.extract_size)
    for seed in range(20):
        varied, _ = augmentation(ones, ones[0].to(torch.uint8), seed=seed)
        assert varied.min() > 0.999


def test_intensity_changes_leave_the_label_alone() -> None:
    intensity = {
        name: 1.0
        for name in ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma")
        for name in (f"{name}_probability",)
    }
    augmentation = Augmentation(_plan(NOTHING.model_copy(update=intensity)))
    image, label = _patch(augmentation.extract_size)
    varied, same = augmentation(image, label, seed=0)
    assert torch.equal(same, label)
    assert not torch.allclose(varied, image, atol=1e-3)


@pytest.mark.parametrize(("axis", "dimension"), [("Z", 0), ("Y", 1), ("X", 2)])
def test_mirroring_flips_only_the_axis_asked_for_half_the_time(axis: str, dimension: int) -> None:
    augmentation = Augmentation(_plan(NOTHING.model_copy(update={"mirror_axes": (axis,)})))
    image, label = _patch(augmentation.extract_size)
    flipped = 0
    for seed in range(60):
        varied, moved = augmentation(image, label, seed=seed)
        if torch.equal(varied, image):
            assert torch.equal(moved, label)
            continue
        flipped += 1
        assert torch.equal(varied, image.flip(1 + dimension))
        assert torch.equal(moved, label.flip(dimension))
    assert 15 < flipped < 45


@pytest.mark.parametrize(
    ("orientation", "axis"), [("SPL", "X"), ("SPR", "X"), ("LPS", "Z"), ("SRP", "Y"), ("stored", "Z")]
)
def test_mirroring_left_and_right_is_refused_where_labels_have_sides(orientation: str, axis: str) -> None:
    augment = NOTHING.model_copy(update={"mirror_axes": (axis,)})
    plan = _plan(augment, names=("kidney_left", "kidney_right"), orientation=orientation)
    with pytest.raises(PlanError, match="left and right"):
        Augmentation(plan)


def test_mirroring_other_axes_is_allowed_where_labels_have_sides() -> None:
    augment = NOTHING.model_copy(update={"mirror_axes": ("Z", "Y")})
    assert Augmentation(_plan(augment, names=("kidney_left", "kidney_right"))).mirrors == (0, 1)


def test_in_two_dimensions_axes_are_those_of_the_slice() -> None:
    augment = NOTHING.model_copy(update={"mirror_axes": ("Z", "Y", "X")})
    assert Augmentation(_plan(augment, patch=(8, 1, 8))).mirrors == (0, 1)


def test_plain_tensors_restores_the_switch_of_monai_and_changes_no_number() -> None:
    augmentation = Augmentation(_plan(EVERYTHING))
    patch = _patch(augmentation.extract_size)
    before = get_track_meta()
    with plain_tensors():
        quick = augmentation(*patch, seed=4)
        assert not get_track_meta()
    assert get_track_meta() == before
    assert torch.equal(quick[0], augmentation(*patch, seed=4)[0])
