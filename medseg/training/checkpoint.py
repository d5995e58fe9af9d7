"""Checkpoints: folders that are replaced as a whole, hold no pickle that could run, and can be resumed from.

A checkpoint holds ``weights.safetensors`` (the network), ``average.safetensors`` (the moving average of its weights)
and ``state.pt`` (optimiser, scaler, random generators, sampler, counters), which `torch.load` reads with
``weights_only=True``.
"""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medseg.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

WEIGHTS, AVERAGE, STATE = "weights.safetensors", "average.safetensors", "state.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a training run needs to go on.

    Attributes
    ----------
    weights, average : mapping of str to Tensor
        The network's state and its moving average.
    state : mapping
        Everything else: tensors and plain values, nested in dicts, lists and tuples.
    """

    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside `folder`, then put it in its place.

    Whenever the program dies, `load_checkpoint` finds either the old checkpoint or the new one, whole.

    Raises
    ------
    OutputError
        Where the disk refuses.
    """
    fresh, old = _fresh(folder), _old(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        save_file(_plain(checkpoint.weights), fresh / WEIGHTS)
        save_file(_plain(checkpoint.average), fresh / AVERAGE)
        torch.save(dict(checkpoint.state), fresh / STATE)
        for path in fresh.iterdir():
            _flush(path)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        shutil.rmtree(fresh, ignore_errors=True)
        raise OutputError(
            f"the checkpoint could not be written ({_reason(error)})",
            expected="room for three checkpoints",
            where=str(folder),
            remedy="Free space, then go on with --resume: the checkpoint before this one is whole",
        ) from error


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`, on the CPU.

    Raises
    ------
    InputError
        Where there is none, or it is damaged.
    """
    source = folder if folder.is_dir() else _old(folder)
    if not source.is_dir():
        raise InputError(
            "there is no checkpoint to resume from",
            where=str(folder),
            remedy="Start the run without --resume, or name the folder of a run that finished an epoch",
        )
    try:
        weights = load_file(source / WEIGHTS)
        average = load_file(source / AVERAGE)
        state = torch.load(source / STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(
            "the checkpoint is damaged", where=str(source), remedy="Start the run again with --overwrite"
        ) from error
    return Checkpoint(weights, average, state)


def _plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    return {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in weights.items()}


def _fresh(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _reason(error: Exception) -> str:
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return "the disk is full" if full or "No space left" in str(error) else str(error)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
