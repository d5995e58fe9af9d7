"""Starting from weights: what is taken, what is changed on the way, what stays fresh, and what is refused."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from medseg.errors import InputError, MedsegError
from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.plan import (
    ClassicUNetSpec,
    DeepLabSpec,
    FCNSpec,
    MedNeXtSpec,
    PSPNetSpec,
    ResNetSpec,
    SegResNetSpec,
    SwinUNETRSpec,
    UNetSpec,
    VGGSpec,
    published_strides,
)
from medseg.training.engine import own_random_state
from medseg.training.initial import initial_weights, read_source
from medseg.training.initial.adapt import inflated
from tests.training.stand_ins import plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from medseg.plan import NetworkSpec, Plan
    from medseg.training.initial import Initial

KERNELS, STRIDES = ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2))


def resnet(dimensions: int = 2, **more: Any) -> ResNetSpec:
    strides = published_strides(dimensions, 8)
    return ResNetSpec.model_validate({"layers": 18, "width": 4, "strides": strides, "dilations": (1, 1, 2, 4), **more})


def vgg(**more: Any) -> VGGSpec:
    return VGGSpec.model_validate({"width": 4, "strides": published_strides(2), **more})


def fcn(encoder: ResNetSpec | VGGSpec, **more: Any) -> FCNSpec:
    dimensions = 3 if len(encoder.strides[0]) == 3 else 2
    more = {"classifier_features": 8, "classifier_kernel": 3, **more}
    return FCNSpec(dimensions=dimensions, encoder=encoder, **more)


def unet(**more: Any) -> UNetSpec:
    parts: dict[str, Any] = {"features": (4, 8, 16), "strides": STRIDES, "kernels": KERNELS, "deep_supervision": True}
    return UNetSpec(dimensions=2, **(parts | more))


def drawn(plan: Plan, seed: int = 5) -> dict[str, Tensor]:
    """Return a state in which no tensor is what it would be when fresh."""
    with own_random_state(seed):
        network = build(plan.network, len(plan.channels), len(plan.labels) + 1)
        state = network.state_dict()
        for name, tensor in state.items():
            if tensor.ndim <= 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.0) if name.endswith(("var", "weight")) else tensor.uniform_(-0.2, 0.2)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.05)
    return state


def torchvisions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state under the names it has in torchvision's classifiers."""
    return {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}


def saved(state: Mapping[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


def model_of(plan: Plan, folder: Path, *members: Mapping[str, Tensor]) -> Path:
    card = Card(name="old", created="2026", medseg="0", data=DataNote(name="d"), modalities=plan.channels)
    save_model(folder, plan=plan, members=dict(enumerate(members)), card=card)
    return folder


def network_of(plan: Plan, state: Mapping[str, Tensor]) -> Any:
    network = build(plan.network, len(plan.channels), len(plan.labels) + 1)
    network.load_state_dict(dict(state))
    return network.eval()


def started(plan: Plan, path: Path, **more: Any) -> Initial:
    return initial_weights(plan, read_source(path), **more)


def an_image(channels: int, *sides: int) -> Tensor:
    return torch.randn(1, channels, *sides, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------------------------ files


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
    grey = an_image(1, 32, 40)
    with torch.no_grad():
        expected = network_of(rgb, state).encoder(grey.expand(-1, 3, -1, -1))
        found = network_of(plan, initial.weights).encoder(grey.expand(-1, channels, -1, -1))
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


# ------------------------------------------------------------------------------------------- 2-D weights in 3-D


@pytest.mark.parametrize("through", [1, 2])
def test_an_inflated_encoder_sees_in_a_constant_volume_what_it_saw_in_the_slice(through: int, tmp_path: Path) -> None:
    strides = [(1, y, x) for y, x in published_strides(2, 8)]
    flat, deep = resnet(), resnet(3, strides=[(through, *strides[0][1:]), *strides[1:]])
    origin = plan_of(fcn(flat), channels=("a", "b", "c"))
    state = drawn(origin)
    path = saved(torchvisions(state), tmp_path / "resnet18.pth")
    plan = plan_of(fcn(deep), channels=("a", "b", "c"))
    with pytest.raises(InputError, match=r"2-D network.*--inflate"):
        started(plan, path)
    initial = started(plan, path, inflate=True)
    slice_ = an_image(3, 24, 32).double()
    sides = 121 * through  # beyond what the middle sees, dilated rows included
    with torch.no_grad():
        expected = network_of(origin, state).double().encoder(slice_)
        found = network_of(plan, initial.weights).double().encoder(slice_[:, :, None].expand(-1, -1, sides, -1, -1))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours[:, :, ours.shape[2] // 2], theirs, rtol=1e-4, atol=1e-5)
    assert all("inflated" in way for way in initial.report.adapted.values())
    assert "encoder.layer4.1.conv2.weight" in initial.report.adapted


@pytest.mark.parametrize(("length", "stride"), [(2, 2), (4, 2), (6, 3)])
def test_an_inflated_transposed_kernel_keeps_a_constant_volume_constant(length: int, stride: int) -> None:
    weight, image = torch.randn(2, 3, length, length), an_image(2, 5, 6)
    expected = F.conv_transpose2d(image, weight, stride=stride)
    volume = image[:, :, None].expand(-1, -1, 9, -1, -1)
    found = F.conv_transpose3d(volume, inflated(weight, length, stride=stride), stride=stride)
    middle = found[:, :, length:-length]
    torch.testing.assert_close(middle, expected[:, :, None].expand_as(middle), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ whole models


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


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (resnet(width=8), r"8 features in its first row.*--set network\.width=8"),
        (resnet(layers=34), "encoder is another one.*as the plan's ResNet-18 has"),
        (resnet(layers=50), "encoder is another one.*--set network.encoder"),
        (resnet(stem="deep"), "encoder is another one"),
        (vgg(), "nothing of the network's encoder is in the weights; expected those of a FCN on ResNet-18"),
        (resnet(3, width=4), r"3-D network.*network\.dimensions=3"),
    ],
)
def test_another_encoder_is_refused_in_a_sentence(theirs: Any, message: str, tmp_path: Path) -> None:
    origin = plan_of(fcn(theirs), channels=("a", "b", "c"))
    path = saved(torchvisions(drawn(origin)), tmp_path / "w.pth")
    with pytest.raises(InputError, match=message) as caught:
        started(plan_of(fcn(resnet()), channels=("a", "b", "c")), path)
    assert str(path) in str(caught.value)


def test_vgg_19_is_not_vgg_16(tmp_path: Path) -> None:
    origin = plan_of(fcn(vgg(layers=19)), channels=("a", "b", "c"))
    path = saved(torchvisions(drawn(origin)), tmp_path / "w.pth")
    with pytest.raises(InputError, match="encoder is another one"):
        started(plan_of(fcn(vgg()), channels=("a", "b", "c")), path)


class Harm:
    """What a hostile pickle does when it is opened as any program opens pickles."""

    def __init__(self, victim: Path) -> None:
        self._victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return self._victim.unlink, ()


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_in_a_file_is_run(suffix: str, zipped: bool, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("irreplaceable")
    path = tmp_path / f"weights{suffix}"
    if zipped:
        torch.save({"conv1.weight": torch.zeros(1), "x": Harm(victim)}, path)
    else:
        path.write_bytes(pickle.dumps({"x": Harm(victim)}))
    with pytest.raises(InputError, match=r"never unpickled.*state_dict"):
        read_source(path)
    assert victim.exists()


def _itself(path: Path) -> None:
    document: dict[str, Any] = {"x": 1}
    document["model"] = document
    torch.save(document, path)


def _huge(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1).expand(10**9, 10**3)}, path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("w.pth", None, "no such file or folder"),
        ("scan.nii.gz", lambda path: path.write_bytes(b"x"), "no weights, by its name"),
        ("w.safetensors", lambda path: path.write_bytes(b"\x00" * 20), "no safetensors"),
        ("w.safetensors", lambda path: path.write_bytes(b""), "no safetensors"),
        ("w.pth", lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "damaged"),
        ("w.pth", lambda path: path.write_bytes(b""), "damaged"),
        ("w.pth", lambda path: torch.save(torch.zeros(3), path), "no named tensors"),
        ("w.pth", lambda path: torch.save({"epoch": 3}, path), "no named tensors"),
        ("w.pth", lambda path: torch.save(nn.Linear(1, 1), path), "never unpickled"),
        ("w.pth", lambda path: torch.save({"a": torch.tensor([1.0, torch.nan])}, path), "no numbers"),
        ("w.pth", _itself, "no named tensors"),
        ("w.pth", _huge, "no named tensors"),
        ("folder", lambda path: path.mkdir(), "no card.yaml"),
    ],
)
def test_what_holds_no_weights_is_refused_in_a_sentence(
    name: str, write: Callable[[Path], Any] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if write:
        write(path)
    with pytest.raises(MedsegError, match=message):
        read_source(path)
