"""Starting from a state dict: what is taken, what is changed on the way, and what stays fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from medseg.networks import build
from medseg.plan import (
    PSPNetSpec,
)
from medseg.training.engine import own_random_state
from tests.training.initial_stand_ins import an_image, drawn, fcn, network_of, resnet, saved, started, torchvisions, vgg
from tests.training.stand_ins import plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "wrap",
    [
        torchvisions,
        lambda state: {f"backbone.{name}": tensor for name, tensor in torchvisions(state).items()},
        lambda state: {f"module.{name}": tensor for name, tensor in torchvisions(state).items()},
        lambda state: {f"module.model.backbone.{name}": tensor for name, tensor in torchvisions(state).items()},
        lambda state: {name: tensor for name, tensor in state.items() if name.startswith("encoder.")},
    ],
)
def test_names_are_known_under_their_wrappers(
    wrap: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], suffix: str, tmp_path: Path
) -> None:
    plan = plan_of(fcn(resnet()), channels=("a", "b", "c"))
    state = drawn(plan)
    initial = started(plan, saved(wrap(state), tmp_path / f"w{suffix}"))
    assert initial.report.matched == tuple(name for name in state if name.startswith("encoder."))
    for name in initial.report.matched:
        torch.testing.assert_close(initial.weights[name], state[name], rtol=0, atol=0)
    assert not initial.report.unused
    assert set(initial.weights) == set(state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_weights_are_found_inside_what_programs_save(key: str, tmp_path: Path) -> None:
    plan = plan_of(fcn(resnet()), channels=("a", "b", "c"))
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, key: torchvisions(drawn(plan)), "optimizer": {"lr": [0.1]}}, path)
    assert len(started(plan, path).report.matched) > 100


def test_what_is_not_taken_is_what_the_run_would_have_drawn(tmp_path: Path) -> None:
    plan = plan_of(fcn(resnet()), channels=("a", "b", "c"))
    initial = started(plan, saved(torchvisions(drawn(plan)), tmp_path / "w.pth"))
    with own_random_state(plan.train.seed):
        fresh = build(plan.network, 3, 2).state_dict()
    assert set(initial.report.fresh) == {name for name in fresh if name.startswith("classifier.")}
    for name in initial.report.fresh:
        torch.testing.assert_close(initial.weights[name], fresh[name], rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_grey_image_looks_the_same_through_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    rgb = plan_of(fcn(resnet()), channels=("R", "G", "B"))
    state = drawn(rgb)
    plan = plan_of(fcn(resnet()), channels=tuple(map(str, range(channels))))
    initial = started(plan, saved(torchvisions(state), tmp_path / "w.pth"))
    grey = an_image(1, 32, 40).double()  # float32 rounds by more than the tolerance on some processors
    with torch.no_grad():
        expected = network_of(rgb, state).double().encoder(grey.expand(-1, 3, -1, -1))
        found = network_of(plan, initial.weights).double().encoder(grey.expand(-1, channels, -1, -1))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert set(initial.report.adapted) == (set() if channels == 3 else {"encoder.conv1.weight"})


def test_batch_norms_scale_and_shift_other_norms(tmp_path: Path) -> None:
    batch, instance = (plan_of(fcn(resnet(norm=kind)), channels=("a", "b", "c")) for kind in ("batch", "instance"))
    state = drawn(batch)
    initial = started(instance, saved(torchvisions(state), tmp_path / "w.pth"))
    torch.testing.assert_close(initial.weights["encoder.layer2.0.bn1.weight"], state["encoder.layer2.0.bn1.weight"])
    assert {name.rpartition(".")[2] for name in initial.report.unused} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert any(line == f"Not used: running statistics ({20 * 3})." for line in initial.report.lines())


def test_vgg_is_read_in_order_whatever_stands_between(tmp_path: Path) -> None:
    plain, normed = (plan_of(fcn(vgg(norm=kind)), channels=("a", "b", "c")) for kind in ("none", "batch"))
    for origin, target in ((plain, normed), (normed, plain)):
        state = drawn(origin)
        initial = started(target, saved(torchvisions(state), tmp_path / "w.pth"))
        theirs, ours = (
            [m.weight for m in network_of(p, s).encoder.modules() if isinstance(m, nn.Conv2d)]
            for p, s in ((origin, state), (target, initial.weights))
        )
        assert len(ours) == 13
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=0)


def test_vggs_fully_connected_layers_become_convolutions(tmp_path: Path) -> None:
    plan = plan_of(fcn(vgg(), classifier_features=16, classifier_kernel=7, dropout=0), channels=("a", "b", "c"))
    six, seven = nn.Linear(32 * 7 * 7, 16), nn.Linear(16, 16)
    file = torchvisions(drawn(plan))
    for number, layer in ((0, six), (3, seven)):
        file |= {f"classifier.{number}.{name}": tensor.detach() for name, tensor in layer.named_parameters()}
    file["classifier.6.weight"] = torch.zeros(1000, 16)
    initial = started(plan, saved(file, tmp_path / "vgg16.pth"))
    last = an_image(32, 7, 7)
    with torch.no_grad():
        ours = network_of(plan, initial.weights).classifier[:5](last)[0, :, 3, 3]
        theirs = seven(six(last.flatten()).relu()).relu()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert initial.report.unused == ("classifier.6.weight",)
    small = plan_of(fcn(vgg(), classifier_features=16, classifier_kernel=3), channels=("a", "b", "c"))
    report = started(small, tmp_path / "vgg16.pth").report
    assert {"classifier.0.weight", "classifier.0.bias"} <= set(report.fresh)  # a bias goes with its kernel
    assert "classifier.3.weight" in report.adapted


def test_scores_of_a_file_are_taken_only_where_there_are_as_many(tmp_path: Path) -> None:
    plan = plan_of(fcn(resnet()), labels=("a", "b"))
    path = saved(drawn(plan), tmp_path / "w.safetensors")
    same = started(plan_of(fcn(resnet()), labels=("c", "d")), path).report
    assert not same.fresh
    assert any("does not name its classes" in remark for remark in same.remarks)
    more = started(plan_of(fcn(resnet()), labels=("a", "b", "c")), path).report
    assert set(more.fresh) == set(more.unused) == {"classifier.4.weight", "classifier.4.bias"}


def test_a_stem_built_otherwise_stays_fresh(tmp_path: Path) -> None:
    origin = plan_of(fcn(resnet()), channels=("a", "b", "c"))
    path = saved(torchvisions(drawn(origin)), tmp_path / "w.pth")
    for stem, behind in (("deep", ("encoder.layer1.0.conv1", "encoder.layer1.0.downsample")), ("plain", ())):
        target = plan_of(PSPNetSpec(dimensions=2, encoder=resnet(stem=stem), head_features=8), channels=("a", "b", "c"))
        report = started(target, path).report
        fresh = {name for name in report.fresh if name.startswith("encoder.")}
        assert fresh
        assert all(name.startswith(("encoder.conv1.", "encoder.bn1.", *behind)) for name in fresh)
        assert any("stem is left fresh" in remark for remark in report.remarks)
