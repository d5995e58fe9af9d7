"""The engine a training run sits on: device, precision and processes, by Lightning Fabric."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning_fabric import Fabric

from medseg.errors import ModelError
from medseg.inference.hardware import has_native_bf16, resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterator

TrainingPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


def make_engine(device: str = "auto", *, devices: int = 1, nodes: int = 1, precision: str = "auto") -> Fabric:
    """Return a Fabric for what was asked.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    devices, nodes : int
        Processes per machine, and machines; more than one in all trains by `DistributedDataParallel`.
    precision : str
        ``auto``, ``fp32``, ``bf16`` or ``fp16``; weights stay in float32 in each.

    Raises
    ------
    ModelError
        Where device or precision is not known or not there.
    """
    chosen = resolve_device(device)
    kind, _, number = chosen.partition(":")
    several = devices * nodes > 1
    with _quiet():
        return Fabric(
            accelerator="cuda" if kind == "cuda" else "cpu",
            devices=[int(number)] if number else devices,
            num_nodes=nodes,
            strategy="ddp" if several else "auto",
            precision=training_precision(precision, chosen),
        )


def training_precision(name: str, device: str) -> TrainingPrecision:
    """Return Fabric's word for a precision: ``auto`` is bf16 in hardware, else fp16 on a GPU, else fp32.

    Examples
    --------
    >>> training_precision("fp32", "cpu")
    '32-true'
    """
    if name == "auto":
        name = "bf16" if has_native_bf16(device) else "fp32" if device == "cpu" else "fp16"
    match name:
        case "fp32":
            return "32-true"
        case "bf16":
            return "bf16-mixed"
        case "fp16" if device != "cpu":
            return "16-mixed"
        case _:
            raise ModelError(
                f"the precision {name!r} is not known on {device}", expected="auto, fp32, bf16 or fp16 (GPU)"
            )


def gather(engine: Fabric, value: Any) -> list[Any]:
    """Return the `value` of every process, by rank."""
    values: list[Any] = [value]
    if engine.world_size > 1:
        values = [None] * engine.world_size
        torch.distributed.all_gather_object(values, value)
    return values


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Seed torch's global generators within this block and put them back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def random_state() -> dict[str, Any]:
    """Return the state of torch's generators, as a checkpoint holds it."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put torch's generators where a checkpoint left them, as far as this machine has them."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Fabric from announcing its choices; they stand in the run's record."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
