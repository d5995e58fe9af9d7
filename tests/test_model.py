from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medseg.documents import format_yaml, read_yaml
from medseg.errors import ModelError, OutputError
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, load_model, save_model
from medseg.networks import build
from medseg.plan import InferPlan, Plan, PreprocessPlan, TrainPlan, UNetSpec, ZScore
from tests.networks.specs import tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.model import Model


def tiny_plan(**changes: Any) -> Plan:
    parts: dict[str, Any] = {
        "channels": ("MR",),
        "labels": LabelSet.from_names({1: "anterior", 2: "posterior"}),
        "preprocess": PreprocessPlan(spacing_mm=(1, 1, 1), normalisation=(ZScore(),)),
        "network": UNetSpec(
            dimensions=3, features=(8, 16), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2, convs_per_stage=1
        ),
        "train": TrainPlan(patch_size=(8, 8, 8), batch_size=1),
        "infer": InferPlan(),
    }
    return Plan(**(parts | changes))


def tiny_card(**changes: Any) -> Card:
    parts: dict[str, Any] = {
        "name": "tiny",
        "created": "2026-01-02T03:04:05+00:00",
        "medseg": "0.1.0",
        "data": DataNote(name="phantoms", sha256="ab" * 32, cases=3),
        "modalities": ("MR",),
        "metrics": {"anterior": {"dice": 0.9, "hd95_mm": None}},
    }
    return Card(**(parts | changes))


def state(plan: Plan, seed: int = 0) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(plan.network, len(plan.channels), len(plan.labels) + 1).state_dict()


@pytest.fixture
def model(tmp_path: Path) -> Model:
    plan = tiny_plan()
    return save_model(tmp_path / "model", plan=plan, members={0: state(plan), 1: state(plan, 1)}, card=tiny_card())


def test_a_saved_model_comes_back_with_equal_logits(model: Model) -> None:
    again = load_model(model.folder)
    assert again == model
    assert again.plan == tiny_plan()
    assert list(again.weights) == [0, 1]
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    original = build(again.plan.network, 1, 3).eval()
    for fold in (0, 1):
        original.load_state_dict(state(again.plan, fold))
        with torch.inference_mode():
            torch.testing.assert_close(again.network(fold)(image), original(image), rtol=0, atol=0)
    assert not any(p.requires_grad or p.is_meta for p in again.network(0).parameters())


def test_the_folder_holds_what_the_contract_says(model: Model) -> None:
    names = {"plan.yaml", "labels.yaml", "card.yaml", "fold_0.safetensors", "fold_1.safetensors"}
    assert {p.name for p in model.folder.iterdir()} == names
    assert [p.name for p in model.folder.parent.iterdir()] == ["model"]
    card = read_yaml(model.folder / "card.yaml")
    assert set(card["files"]) == names - {"card.yaml"}
    for name, digest in card["files"].items():
        assert hashlib.sha256((model.folder / name).read_bytes()).hexdigest() == digest
    assert [entry["name"] for entry in read_yaml(model.folder / "labels.yaml")] == ["anterior", "posterior"]
    assert card["metrics"]["anterior"] == {"dice": 0.9, "hd95_mm": None}


def test_a_card_of_before_cross_validation_is_read(model: Model) -> None:
    card = read_yaml(model.folder / "card.yaml")
    for name in ("metrics_of", "postprocessing"):
        del card[name]
    (model.folder / "card.yaml").write_text(format_yaml(card))
    assert load_model(model.folder).card == model.card


def test_the_models_hash_follows_its_weights_not_its_place(model: Model, tmp_path: Path) -> None:
    plan = tiny_plan()
    same = save_model(tmp_path / "b", plan=plan, members={0: state(plan), 1: state(plan, 1)}, card=tiny_card(name="b"))
    other = save_model(tmp_path / "c", plan=plan, members={0: state(plan), 1: state(plan, 2)}, card=tiny_card())
    assert same.sha256 == model.sha256 != other.sha256


def test_weights_in_channels_last_and_half_precision_are_stored_plainly(tmp_path: Path) -> None:
    plan = tiny_plan()
    odd = {
        k: v.to(torch.bfloat16).contiguous(memory_format=torch.channels_last_3d) if v.ndim == 5 else v
        for k, v in state(plan).items()
    }
    saved = save_model(tmp_path / "m", plan=plan, members={0: odd}, card=tiny_card())
    for name, tensor in load_file(saved.weights[0]).items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, odd[name].float(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["plan.yaml", "labels.yaml", "fold_0.safetensors", "fold_1.safetensors"])
def test_one_changed_byte_is_noticed_and_its_file_named(model: Model, name: str) -> None:
    content = bytearray((model.folder / name).read_bytes())
    content[-2] ^= 1
    (model.folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}.*SHA-256"):
        load_model(model.folder)


def _pickle(folder: Path) -> None:
    (folder / "fold_2.pt").write_bytes(pickle.dumps({"a": 1}))


def _no_labels(folder: Path) -> None:
    (folder / "labels.yaml").unlink()


def _no_card(folder: Path) -> None:
    (folder / "card.yaml").unlink()


def _escape(folder: Path) -> None:
    _card_with(folder, "../elsewhere.safetensors")


def _pickle_in_card(folder: Path) -> None:
    _pickle(folder)
    _card_with(folder, "fold_2.pt")


def _card_with(folder: Path, name: str) -> None:
    card = read_yaml(folder / "card.yaml")
    card["files"][name] = "00" * 32
    (folder / "card.yaml").write_text(format_yaml(card))


def _unknown_field(folder: Path) -> None:
    (folder / "card.yaml").write_text(format_yaml(read_yaml(folder / "card.yaml") | {"run_me": "x"}))


def _empty_card(folder: Path) -> None:
    (folder / "card.yaml").write_text("")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_pickle, "'fold_2.pt' does not belong to the model.*never opened"),
        (_pickle_in_card, "the card names 'fold_2.pt'"),
        (_escape, "the card names '../elsewhere.safetensors'"),
        (_no_labels, "labels.yaml is missing"),
        (_no_card, "there is no card.yaml in it"),
        (_unknown_field, "run_me"),
        (_empty_card, "card.yaml"),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused_in_words(
    model: Model, damage: Callable[[Path], None], message: str
) -> None:
    damage(model.folder)
    with pytest.raises(ModelError, match=message):
        load_model(model.folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere: there is no such folder"):
        load_model(tmp_path / "nowhere")


def _rehash(folder: Path) -> None:
    card = read_yaml(folder / "card.yaml")
    card["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in card["files"]}
    (folder / "card.yaml").write_text(format_yaml(card))


def test_labels_that_contradict_the_plan_are_refused(model: Model) -> None:
    text = (model.folder / "labels.yaml").read_text().replace("anterior", "posteriormost")
    (model.folder / "labels.yaml").write_text(text)
    _rehash(model.folder)
    with pytest.raises(ModelError, match="different labels"):
        load_model(model.folder)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_the_plan_are_named(model: Model, change: str) -> None:
    path = model.weights[0]
    tensors = load_file(path)
    name = next(iter(sorted(tensors)))
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        tensors["zzz"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    save_file(tensors, path)
    _rehash(model.folder)
    with pytest.raises(ModelError, match=r"fold_0.safetensors: the weights hold"):
        load_model(model.folder).network(0)


def test_weights_that_are_no_safetensors_are_refused(model: Model) -> None:
    model.weights[0].write_bytes(pickle.dumps({"a": 1}))
    _rehash(model.folder)
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(model.folder).network(0)


def test_saving_refuses_weights_that_do_not_fit_and_leaves_the_old_model_alone(model: Model) -> None:
    before = {p.name: p.read_bytes() for p in model.folder.iterdir()}
    with pytest.raises(ModelError, match="the weights hold"):
        save_model(model.folder, plan=tiny_plan(channels=("MR",)), members={0: {}}, card=tiny_card())
    with pytest.raises(ModelError, match="no weights"):
        save_model(model.folder, plan=tiny_plan(), members={}, card=tiny_card())
    assert {p.name: p.read_bytes() for p in model.folder.iterdir()} == before


def test_saving_replaces_a_model_but_nothing_else(model: Model, tmp_path: Path) -> None:
    plan = tiny_plan()
    newer = save_model(model.folder, plan=plan, members={0: state(plan, 5)}, card=tiny_card(version="2"))
    assert list(newer.weights) == [0]
    assert load_model(model.folder).card.version == "2"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match="no model"):
        save_model(tmp_path / "mine", plan=plan, members={0: state(plan)}, card=tiny_card())
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_missing_member_is_named(model: Model) -> None:
    with pytest.raises(ModelError, match="no member 7"):
        model.network(7)


@pytest.mark.parametrize("name", tiny(2))
def test_every_kind_of_network_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    spec, patch = tiny(2)[name], (1, 64, 64)
    plan = tiny_plan(network=spec, train=TrainPlan(patch_size=patch, batch_size=2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(spec, 1, 3)
    image = torch.randn(2, 1, *patch[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.train()(image)  # batch norms count
    save_model(tmp_path / "model", plan=plan, members={0: network.state_dict()}, card=tiny_card())
    again = load_model(tmp_path / "model").network(0)
    assert {n: t.dtype for n, t in again.state_dict().items()} == {n: t.dtype for n, t in network.state_dict().items()}
    with torch.no_grad():
        torch.testing.assert_close(again(image), network.eval()(image))
