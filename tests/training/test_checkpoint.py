from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from medseg.errors import InputError, OutputError
from medseg.training import checkpoint as module
from medseg.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


def _checkpoint(value: float = 1.0) -> Checkpoint:
    network = nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
    nn.init.constant_(network.weight, value)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2, 3, 3, 3)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "torch": torch.get_rng_state(), "epoch": 3, "seconds": 1.5}
    return Checkpoint(network.state_dict(), network.state_dict(), state)


def _same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return a == b


def test_reads_back_as_written(tmp_path: Path) -> None:
    written = _checkpoint()
    save_checkpoint(tmp_path / "last", written)
    read = load_checkpoint(tmp_path / "last")
    assert _same(dict(written.weights), dict(read.weights))
    assert _same(dict(written.state), dict(read.state))
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_the_newer_replaces_the_older(tmp_path: Path) -> None:
    for value in (1.0, 2.0, 3.0):
        save_checkpoint(tmp_path / "last", _checkpoint(value))
    assert load_checkpoint(tmp_path / "last").weights["weight"].mean() == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("dies_in", ["save_file", "_flush", "first rename", "second rename"])
def test_whenever_it_dies_a_whole_checkpoint_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    folder = tmp_path / "last"
    save_checkpoint(folder, _checkpoint(1.0))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if dies_in.endswith("rename"):
            rename, calls = type(folder).rename, []

            def rename_or_die(self: Path, target: Path) -> Path:
                calls.append(target)
                if len(calls) == (1 if dies_in.startswith("first") else 2):
                    raise KeyboardInterrupt
                return rename(self, target)

            patch.setattr(type(folder), "rename", rename_or_die)
        else:
            patch.setattr(module, dies_in, die)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(folder, _checkpoint(2.0))
    assert load_checkpoint(folder).weights["weight"].mean() == pytest.approx(1.0, abs=0.01)
    save_checkpoint(folder, _checkpoint(3.0))
    assert load_checkpoint(folder).weights["weight"].mean() == pytest.approx(3.0, abs=0.01)
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_nothing_to_resume_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint to resume"):
        load_checkpoint(tmp_path / "last")


@pytest.mark.parametrize("name", ["weights.safetensors", "average.safetensors", "state.pt"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path / "last", _checkpoint())
    path = tmp_path / "last" / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:40])
    else:
        path.unlink()
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(tmp_path / "last")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", _checkpoint())
    torch.save({"call": print, "numpy": np.float64}, tmp_path / "last" / "state.pt")
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(tmp_path / "last")


def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written"):
        save_checkpoint(tmp_path / "file" / "last", _checkpoint())
