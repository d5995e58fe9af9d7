from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.plan import AdamW, Sgd
from medseg.training.optim import MovingAverage, learning_rate, make_optimizer, set_learning_rate


def test_adamw_schedule_is_one_cycle() -> None:
    spec = AdamW(learning_rate=2.0, warmup=0.2)
    rates = [learning_rate(spec, i / 100) for i in range(101)]
    assert max(rates) == rates[20] == 2.0
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[100] < 0.01


def test_sgd_schedule_is_that_of_torch() -> None:
    spec = Sgd(learning_rate=0.01, power=0.9)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    reference = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=50, power=0.9)
    for step in range(50):
        assert learning_rate(spec, step / 50) == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("spec", [AdamW(), AdamW(warmup=0.0), AdamW(warmup=1.0), Sgd()])
def test_schedules_stay_positive_and_finite_beyond_their_ends(spec: AdamW | Sgd) -> None:
    assert all(0 < learning_rate(spec, p) <= spec.learning_rate for p in (-0.1, 0.0, 0.5, 1.0, 1.7))


def test_adamw_spares_vectors_from_decay() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.GroupNorm(1, 2))
    optimizer = make_optimizer(AdamW(weight_decay=0.5), network.parameters())
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in network.parameters()] == [0.5, 0.0, 0.0, 0.0]
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_sgd_is_nesterov() -> None:
    optimizer = make_optimizer(Sgd(momentum=0.9), [nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["nesterov"]
    assert optimizer.defaults["momentum"] == 0.9


def test_moving_average_of_constant_weights_is_constant_and_lags_otherwise() -> None:
    network = nn.Linear(2, 1, bias=False)
    nn.init.ones_(network.weight)
    average = MovingAverage(network, 0.9)
    average.update(network)
    assert torch.equal(average.network.weight, torch.ones(1, 2))
    nn.init.constant_(network.weight, 3.0)
    average.update(network)
    assert torch.all((average.network.weight > 1) & (average.network.weight < 3))
    for _ in range(300):
        average.update(network)
    torch.testing.assert_close(average.network.weight, torch.full((1, 2), 3.0))


def test_moving_average_with_no_decay_follows_and_copies_counters() -> None:
    network = nn.BatchNorm1d(2)
    average = MovingAverage(network, 0.0)
    network(torch.randn(4, 2))
    average.update(network)
    assert all(torch.equal(average.network.state_dict()[k], v) for k, v in network.state_dict().items())
    assert average.network.num_batches_tracked == 1
