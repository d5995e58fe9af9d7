"""What an exported folder holds, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from medseg.documents import format_yaml, read_yaml
from medseg.errors import MissingExtraError, ModelError, OutputError, PlanError
from medseg.export import export_model
from medseg.export import onnx as onnx_module
from medseg.export.parity import compared
from medseg.export.torchscript import write_torchscript
from medseg.export.window import example_window
from medseg.inference.exported import FORMATS, load_exported
from medseg.labels import LabelSet
from medseg.model import load_model
from medseg.plan import PreprocessPlan, Rescale, TrainPlan, ZScore
from tests.networks.specs import unet
from tests.test_model import tiny_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.model import Model

    Made = Callable[[str], Path]

OWN_FILES = {
    "onnx": {"fold_0.onnx", "fold_3.onnx", "README.md"},
    "openvino": {"fold_0.xml", "fold_0.bin", "fold_3.xml", "fold_3.bin", "README.md"},
    "torchscript": {"fold_0.pt", "fold_3.pt", "README.md"},
    "monai-bundle": {
        "models/model.ts", "configs/metadata.json", "configs/inference.json", "docs/README.md", "LICENSE",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_holds_what_the_contract_says(kind: str, made: Made, model: Model) -> None:
    folder = made(kind)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    always = {"plan.yaml", "labels.yaml", "card.yaml", "parity.json", "processing.yaml", "example.npz"}
    assert names == always | OWN_FILES[kind]
    card = read_yaml(folder / "card.yaml")
    assert set(card["files"]) == names - {"card.yaml"}
    for name, digest in card["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert card["export"]["model_sha256"] == model.sha256
    assert card["name"] == model.card.name
    assert load_exported(folder).model.plan == model.plan


@pytest.mark.parametrize("kind", FORMATS)
def test_the_record_proves_equal_labels_on_an_example_with_foreground(kind: str, made: Made) -> None:
    parity = load_exported(made(kind)).parity
    assert parity.is_equal
    assert parity.share_foreground > 0.01
    for member in parity.members.values():
        assert member.share_equal >= 0.9999
        assert member.max_relative < 1e-5
        assert {value for value in member.dice.values() if value is not None} == {1.0}


def test_a_record_of_other_logits_is_not_equal() -> None:
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = LabelSet.from_names({1: "a", 2: "b"})
    assert compared(logits, logits, labels).is_equal
    assert not compared(logits, logits * 1.01, labels).is_equal  # same labels, but no rounding
    other = compared(logits, logits.flip(1), labels)
    assert not other.is_equal
    assert other.share_equal < 1


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript", "monai-bundle"])
def test_no_path_of_this_machine_is_written(kind: str, made: Made) -> None:
    places = [str(Path(torch.__file__).parent), str(Path(__file__).parent.parent.parent)]
    for path in made(kind).rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(place.encode() in content for place in places), path.name


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript"])
def test_the_page_in_the_folder_runs_without_medseg(kind: str, made: Made) -> None:
    folder = made(kind)
    (program,) = (part.split("```")[0] for part in (folder / "README.md").read_text().split("```python\n")[1:])
    alone = f"import sys, warnings\nsys.modules['medseg'] = None\nwarnings.simplefilter('ignore')\n{program}"
    run = subprocess.run([sys.executable, "-c", alone], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) >= 0.9999


def test_processing_says_numbers_that_follow_from_the_plan(made: Made) -> None:
    document = read_yaml(made("torchscript") / "processing.yaml")
    assert document["input"]["shape"] == ["any number", 1, 8, 8, 16]
    assert document["output"]["label_ids"] == [0, 2, 7]
    assert document["before"]["spacing_mm_zyx"] == [2.0, 1.0, 1.0]
    assert document["before"]["normalisation"][0]["in_words"] == "clip to -100 .. 300, then (value - 50) / 80"
    assert document["windows"]["mirror_axes_of_tta"] == ["Z", "X"]


def test_the_example_is_what_the_networks_see(made: Made) -> None:
    with np.load(made("torchscript") / "example.npz", allow_pickle=False) as example:
        assert example["windows"].shape == (1, 1, 8, 8, 16)
        assert example["windows"].dtype == np.float32
        assert example["labels"].shape == (1, 8, 8, 16)
        assert example["windows"].min() >= (-100 - 50) / 80
        assert example["windows"].std() > 0.1


def test_a_flat_plan_of_two_channels_has_a_flat_example() -> None:
    plan = tiny_plan(
        channels=("MR", "CT"),
        preprocess=PreprocessPlan(spacing_mm=(3, 1, 1), normalisation=(ZScore(), Rescale())),
        network=unet(2),
        train=TrainPlan(patch_size=(1, 32, 16), batch_size=1),
    )
    window = example_window(plan)
    assert window.shape == (1, 2, 32, 16)
    assert torch.equal(window, example_window(plan))
    assert not torch.equal(window, example_window(plan, seed=1))
    assert abs(float(window[0, 0].mean())) < 1e-5
    assert float(window[0, 1].max()) == 1


def test_an_unknown_format_is_refused_with_the_choice(model: Model, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="'tflite' is not known; expected one of onnx, openvino, torchscript, monai"):
        export_model(model, tmp_path / "out", format="tflite")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(model: Model, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match="holds something"):
        export_model(model, tmp_path, format="torchscript")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_models_own_folder_takes_exports_by_name_only(own: Model) -> None:
    for wrong in ("onnx", "exports", "exports/other"):
        with pytest.raises(OutputError, match="own folder; expected exports/torchscript"):
            export_model(own, own.folder / wrong, format="torchscript")
    export_model(own, own.folder / "exports" / "torchscript", format="torchscript")
    again = load_model(own.folder)
    assert again.sha256 == own.sha256
    assert [p.name for p in (own.folder / "exports").iterdir()] == ["torchscript"]


def test_a_file_called_exports_is_still_foreign(own: Model) -> None:
    (own.folder / "exports").write_text("")
    with pytest.raises(ModelError, match="'exports' does not belong"):
        load_model(own.folder)


@pytest.mark.parametrize(
    ("kind", "absent", "extra"),
    [
        ("onnx", "onnxruntime", "onnx"),
        ("openvino", "openvino", "onnx,openvino"),
        ("openvino", "onnxscript", "onnx,openvino"),
    ],
)
def test_a_missing_library_is_told_before_work_begins(
    kind: str, absent: str, extra: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError, match=rf"{absent} is not installed.*medseg\[{extra}\]"):
        export_model(model, tmp_path / "out", format=kind)
    assert not list(tmp_path.iterdir())


class Stubborn(nn.Module):
    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("this layer (Stubborn) knows no trace\nat length")


def test_a_network_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the network Stubborn cannot be written as TorchScript: this layer"):
        write_torchscript(Stubborn(), torch.zeros(1, 1, 4, 4), tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"the network Stubborn cannot be written as ONNX"):
        onnx_module.write_onnx(Stubborn(), torch.zeros(1, 1, 4, 4), tmp_path / "a.onnx")


def test_weights_beyond_what_onnx_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "_MOST_BYTES", 7)
    with pytest.raises(ModelError, match="weights have 8 bytes; expected at most 7"):
        onnx_module.write_onnx(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4), tmp_path / "a.onnx")


def test_an_exported_folder_is_no_model_to_train_from_or_export(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"exported model.*Name the model it was exported from"):
        load_model(made("torchscript"))


def _edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    text = change((folder / name).read_text())
    (folder / name).write_text(text)
    card = read_yaml(folder / "card.yaml")
    card["files"][name] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "card.yaml").write_text(format_yaml(card))


def _flip(folder: Path) -> None:
    content = bytearray((folder / "fold_0.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "fold_0.pt").write_bytes(content)


def _add(folder: Path) -> None:
    (folder / "fold_9.pt").write_bytes(b"")


def _take(folder: Path) -> None:
    (folder / "fold_3.pt").unlink()


def _nest(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "lib.so").write_bytes(b"")


def _escape(folder: Path) -> None:
    card = read_yaml(folder / "card.yaml")
    card["files"]["../fold_1.pt"] = "00" * 32
    (folder / "card.yaml").write_text(format_yaml(card))


def _forget(folder: Path) -> None:
    def without(text: str) -> str:
        document = json.loads(text)
        del document["members"]["fold_3.pt"]
        return json.dumps(document)

    _edit(folder, "parity.json", without)


def _boast(folder: Path) -> None:
    _edit(folder, "parity.json", lambda text: text.replace('"share_equal": 1.0', '"share_equal": 2.0'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip, r"fold_0.pt: the file's content is not what the card says"),
        (_add, "'fold_9.pt' is not part of an export"),
        (_take, "'fold_3.pt' is missing"),
        (_nest, "'more/lib.so' is not part of an export"),
        (_escape, "'../fold_1.pt' is not part of an export"),
        (_forget, "other members than there are"),
        (_boast, "share_equal"),
    ],
)
def test_a_damaged_export_is_refused_in_words(
    made: Made, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(made("torchscript"), tmp_path / "copy")
    damage(folder)
    with pytest.raises(ModelError, match=message):
        load_exported(folder)
