"""Weights that cannot be started from are refused in a sentence, and no code in a file is run."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from medseg.errors import InputError, MedsegError
from medseg.training.initial import read_source
from tests.training.initial_stand_ins import drawn, fcn, resnet, saved, started, torchvisions, vgg
from tests.training.stand_ins import plan_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
