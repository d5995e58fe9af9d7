"""Starting from a whole model: what it knows of each class and channel is kept by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from medseg.errors import InputError
from medseg.networks import build
from medseg.plan import (
    ClassicUNetSpec,
    DeepLabSpec,
    MedNeXtSpec,
    PSPNetSpec,
    SegResNetSpec,
    SwinUNETRSpec,
)
from medseg.training.engine import own_random_state
from medseg.training.initial import initial_weights, read_source
from tests.training.initial_stand_ins import (
    KERNELS,
    STRIDES,
    an_image,
    drawn,
    fcn,
    model_of,
    network_of,
    resnet,
    started,
    unet,
    vgg,
)
from tests.training.stand_ins import plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.plan import NetworkSpec


SPECS: list[Any] = [
    unet(),
    unet(residual_blocks=(1, 1, 1)),
    ClassicUNetSpec(dimensions=2, features=(4, 8), strides=((2, 2),)),
    fcn(vgg(), dropout=0),
    fcn(resnet(), auxiliary_weight=0.4),
    DeepLabSpec(dimensions=2, version="v2", encoder=vgg(), rates=(1, 2), head_features=8),
    DeepLabSpec(dimensions=2, encoder=resnet(), rates=(1, 2), head_features=8, auxiliary_weight=0.4),
    DeepLabSpec(dimensions=2, version="v3+", encoder=resnet(), rates=(1, 2), head_features=8, low_level_features=4),
    PSPNetSpec(dimensions=2, encoder=resnet(stem="deep"), head_features=8),
    SegResNetSpec(dimensions=2, width=8),
    SwinUNETRSpec(dimensions=2, features=12),
    MedNeXtSpec(dimensions=2, width=4, deep_supervision=True),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind} {getattr(spec, 'version', '')}".strip())
def test_a_model_keeps_what_it_knows_of_each_class_and_channel_by_name(spec: NetworkSpec, tmp_path: Path) -> None:
    old = plan_of(spec, channels=("T1", "T2"), labels=("liver", "spleen"))
    new = plan_of(spec, channels=("T2", "CT", "T1"), labels=("spleen", "kidney", "liver"))
    state = drawn(old)
    initial = started(new, model_of(old, tmp_path / "model", state))
    image = an_image(2, 64, 64)
    seen = torch.stack((image[:, 1], torch.zeros(1, 64, 64), image[:, 0]), dim=1)  # the new channel says nothing
    with torch.no_grad():
        expected = network_of(old, state)(image)
        found = network_of(new, initial.weights)(seen)
    assert expected.std() > 0.01
    torch.testing.assert_close(found[:, [0, 3, 1]], expected, rtol=1e-4, atol=1e-4)
    assert not initial.report.fresh
    assert not initial.report.unused
    assert {"2 of 3 channels by name", "3 of 4 classes by name"} <= set(initial.report.adapted.values())


def test_new_classes_and_channels_are_as_the_run_would_have_drawn_them(tmp_path: Path) -> None:
    old = plan_of(unet(), channels=("T1",), labels=("liver",))
    new = plan_of(unet(), channels=("CT", "T1"), labels=("kidney", "liver"))
    weights = started(new, model_of(old, tmp_path / "model", drawn(old))).weights
    with own_random_state(new.train.seed):
        fresh = build(new.network, 2, 3).state_dict()
    for head in ("heads.0.weight", "heads.1.weight", "heads.1.bias"):
        torch.testing.assert_close(weights[head][1], fresh[head][1], rtol=0, atol=0)
        assert not torch.equal(weights[head][2], fresh[head][2])
    stem = "encoder.0.0.weight"
    torch.testing.assert_close(weights[stem][:, 0], fresh[stem][:, 0], rtol=0, atol=0)
    assert not torch.equal(weights[stem][:, 1], fresh[stem][:, 1])


def test_the_same_plan_takes_every_weight_as_it_is(tmp_path: Path) -> None:
    plan = plan_of(unet())
    states = [drawn(plan, seed) for seed in (1, 2)]
    source = read_source(model_of(plan, tmp_path / "model", *states))
    for fold, member in ((0, 0), (1, 1), (4, 0)):
        initial = initial_weights(plan, source, fold=fold)
        assert len(initial.report.matched) == len(states[0])
        for name, tensor in states[member].items():
            torch.testing.assert_close(initial.weights[name], tensor, rtol=0, atol=0)


def test_channels_of_other_names_stand_in_by_their_mean(tmp_path: Path) -> None:
    old, new = (plan_of(unet(), channels=names) for names in (("T1", "T2"), ("CT",)))
    state = drawn(old)
    initial = started(new, model_of(old, tmp_path / "model", state))
    torch.testing.assert_close(initial.weights["encoder.0.0.weight"][:, 0], state["encoder.0.0.weight"].sum(1))
    assert "none has the same name" in initial.report.adapted["encoder.0.0.weight"]


def test_decoders_and_heads_of_other_depth_meet_at_full_resolution(tmp_path: Path) -> None:
    deep, shallow = unet(), unet(features=(4, 8), strides=STRIDES[:2], kernels=KERNELS[:2], deep_supervision=False)
    old, new = plan_of(deep), plan_of(shallow)
    state = drawn(old)
    initial = started(new, model_of(old, tmp_path / "model", state))
    assert not initial.report.fresh
    torch.testing.assert_close(initial.weights["heads.0.weight"], state["heads.1.weight"], rtol=0, atol=0)
    torch.testing.assert_close(initial.weights["decoder.0.up.weight"], state["decoder.1.up.weight"], rtol=0, atol=0)
    assert "heads.0.weight" in initial.report.unused


def test_another_kind_of_network_gives_its_encoder_or_nothing(tmp_path: Path) -> None:
    old = plan_of(fcn(resnet()))
    folder = model_of(old, tmp_path / "fcn", drawn(old))
    new = plan_of(DeepLabSpec(dimensions=2, encoder=resnet(), rates=(1, 2), head_features=8))
    report = started(new, folder).report
    assert {name.partition(".")[0] for name in report.matched} == {"encoder"}
    assert any("its encoder alone was taken" in remark for remark in report.remarks)
    assert "classifier.0.weight" in report.unused
    with pytest.raises(InputError, match=r"the model is a FCN.*expected a U-Net"):
        started(plan_of(unet()), folder)


def test_a_run_folder_stands_for_its_model(tmp_path: Path) -> None:
    plan = plan_of(unet())
    folder = model_of(plan, tmp_path / "run" / "model", drawn(plan))
    assert read_source(tmp_path / "run").note == read_source(folder).note
    assert read_source(folder).note.name == "old"
