from __future__ import annotations

import pytest
import torch

from medseg.errors import ModelError
from medseg.training.throughput import measure_flops_per_second


def test_speed_is_a_plausible_number_and_nothing_else_changes() -> None:
    before = torch.get_rng_state()
    speed = measure_flops_per_second(device="cpu", precision="fp32", seconds=0)
    assert 1e7 < speed < 1e15
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ModelError, match="fp7"):
        measure_flops_per_second(device="cpu", precision="fp7")
