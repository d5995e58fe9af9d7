from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from medseg.errors import ModelError
from medseg.nnunet import read_checkpoint
from tests.nnunet.folders import checkpoint

WEIGHTS = {"a.weight": torch.arange(3.0)}


def saved(document: object, folder: Path) -> Path:
    path = folder / "checkpoint_final.pth"
    torch.save(document, path)
    return path


def test_weights_and_what_inference_needs_are_read(tmp_path: Path) -> None:
    found = read_checkpoint(saved(checkpoint(WEIGHTS), tmp_path))
    assert (found.configuration, found.trainer, found.mirror_axes) == ("3d_fullres", "nnUNetTrainer", (0, 1, 2))
    assert torch.equal(found.weights["a.weight"], WEIGHTS["a.weight"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_distributed_and_compiled_networks_are_taken_off(prefix: str, tmp_path: Path) -> None:
    weights = {f"{prefix}{name}": tensor for name, tensor in WEIGHTS.items()}
    assert list(read_checkpoint(saved(checkpoint(weights), tmp_path)).weights) == list(WEIGHTS)


def test_training_that_forbade_mirroring_leaves_no_axes(tmp_path: Path) -> None:
    document = checkpoint(WEIGHTS, inference_allowed_mirroring_axes=None)
    assert read_checkpoint(saved(document, tmp_path)).mirror_axes == ()


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("place", ["logging", "network_weights", "init_args"])
def test_pickled_code_is_refused_and_not_run(place: str, tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    path = saved(checkpoint(WEIGHTS) | {place: {"x": Hostile(marker)}}, tmp_path)
    with pytest.raises(ModelError, match="would be run to be read"):
        read_checkpoint(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the trap was armed


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "was-run", tmp_path / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(ModelError, match="no checkpoint of PyTorch"):
        read_checkpoint(path)
    assert not marker.exists()


def test_numbers_of_numpy_beyond_plain_ones_are_refused(tmp_path: Path) -> None:
    import numpy as np

    structure = np.zeros(1, dtype=[("a", "f4")])[0]
    with pytest.raises(ModelError, match="nothing else is unpickled"):
        read_checkpoint(saved(checkpoint(WEIGHTS, _best_ema=structure), tmp_path))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([1, 2], "no 'network_weights'"),
        ({"state_dict": WEIGHTS}, "no 'network_weights'"),
        (checkpoint({}), "no 'network_weights'"),
        (checkpoint({"a": torch.tensor([float("nan")])}), "no plain tensor"),
        (checkpoint({"a": 3}), "no plain tensor"),
        (checkpoint(WEIGHTS, inference_allowed_mirroring_axes=(0, 7)), "axes to mirror"),
        (checkpoint(WEIGHTS, inference_allowed_mirroring_axes="xyz"), "axes to mirror"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_a_sentence(document: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=sentence):
        read_checkpoint(saved(document, tmp_path))


def test_a_compressed_file_is_refused(tmp_path: Path) -> None:
    path = saved(checkpoint(WEIGHTS), tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("checkpoint_final/more", bytes(100_000))
    with pytest.raises(ModelError, match="compressed inside"):
        read_checkpoint(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = saved(checkpoint(WEIGHTS), tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("checkpoint_final/x", b"")
    path.write_bytes(path.read_bytes().replace(b"network_weights", b"network_wei\x80hts"))
    with pytest.raises(ModelError):
        read_checkpoint(path)
