"""How fast this machine trains: operations a second of a small U-Net, measured in about a second."""

from __future__ import annotations

import time

import torch

from medseg.networks import build, memory_format
from medseg.plan import UNetSpec
from medseg.planning import network_cost
from medseg.planning.sizing import FORWARD_AND_BACK
from medseg.training.engine import make_engine, own_random_state

_CPU = UNetSpec(
    dimensions=3, features=(16, 32, 64), strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)), kernels=((3, 3, 3),) * 3
)
_CUDA = _CPU.model_copy(update={"features": (32, 64, 128)})
_SIDE = {"cpu": 32, "cuda": 96}
_BATCH = 2
_CLASSES = 3


def measure_flops_per_second(*, device: str = "auto", precision: str = "auto", seconds: float = 1.0) -> float:
    """Return how many operations a second training does here, for `medseg.planning.Resources`.

    A small 3-D U-Net goes forward and back over random patches, in the device's layout and precision, after one step to
    warm up. Counted are the operations of its convolutions, as `network_cost` counts them; norms, activations and
    memory take their time but add nothing, as in the training it stands for. Larger networks do somewhat better.

    Parameters
    ----------
    device, precision : str
        As for training.
    seconds : float
        How long to measure, at least; one step in any case.

    Raises
    ------
    ModelError
        Where device or precision is not known or not there.
    """
    engine = make_engine(device, precision=precision)
    kind = engine.device.type
    spec, side = (_CUDA, _SIDE["cuda"]) if kind == "cuda" else (_CPU, _SIDE["cpu"])
    with own_random_state(0):
        network = build(spec, 1, _CLASSES).to(engine.device).to(memory_format=memory_format(3))  # type: ignore[call-overload]  # torch's stubs lack it
        image = torch.randn(_BATCH, 1, side, side, side, device=engine.device)
    cost = network_cost(spec, (side,) * 3, in_channels=1, out_channels=_CLASSES)
    steps, started = -1, 0.0
    while steps < 1 or time.perf_counter() - started < seconds:
        with engine.autocast():
            logits = network(image)
        logits.float().square().mean().backward()
        if kind == "cuda":
            torch.cuda.synchronize(engine.device)
        steps += 1
        if steps == 0:
            started = time.perf_counter()
    return FORWARD_AND_BACK * cost.flops * _BATCH * steps / (time.perf_counter() - started)
