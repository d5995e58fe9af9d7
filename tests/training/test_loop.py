from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest
import torch

from medseg.errors import InputError, PlanError
from medseg.plan import AdamW, AugmentPlan, Plan, Sgd
from medseg.progress import Cancelled, Step, ignore
from medseg.training.checkpoint import load_checkpoint
from medseg.training.engine import make_engine
from medseg.training.loop import Samplers, TrainResult, TrainSettings, run_training
from medseg.transforms.augment import Augmentation
from tests.training.stand_ins import Balls, small_plan

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.progress import Progress


def _train(
    plan: Plan,
    folder: Path,
    *,
    progress: Progress = ignore,
    poison_after: int | None = None,
    validation: bool = True,
    precision: str = "fp32",
    **settings: Any,
) -> TrainResult:
    balls = Balls(Augmentation(plan).extract_size, seed=plan.train.seed, poison_after=poison_after)
    return run_training(
        plan,
        Samplers(balls, Balls(plan.train.patch_size, seed=99) if validation else None),
        engine=make_engine("cpu", precision=precision),
        folder=folder,
        settings=TrainSettings(**settings),
        progress=progress,
    )


def _log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _equal(a: TrainResult, b: TrainResult) -> bool:
    return all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


class StopAt:
    """Asks the run to stop at its n-th report."""

    def __init__(self, n: int, error: type[BaseException] = Cancelled) -> None:
        self._left, self._error = n, error

    def __call__(self, step: Step, /) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error


@pytest.mark.parametrize("patch", [(8, 8, 8), (1, 16, 16)])
def test_learns_to_find_balls(tmp_path: Path, patch: tuple[int, int, int]) -> None:
    plan = small_plan(patch=patch, epochs=3, steps_per_epoch=30, network={"deep_supervision": True})
    result = _train(plan, tmp_path)
    assert result.history[-1].mean_dice is not None
    assert result.history[-1].mean_dice > 0.8
    assert result.history[-1].loss < result.history[0].loss
    assert (result.epochs, result.steps) == (3, 90)
    assert all(tensor.dtype == torch.float32 for tensor in result.weights.values())


def test_bfloat16_learns_too(tmp_path: Path) -> None:
    result = _train(small_plan(epochs=2, steps_per_epoch=30), tmp_path, precision="bf16")
    assert result.precision == "bf16-mixed"
    assert result.history[-1].mean_dice is not None
    assert result.history[-1].mean_dice > 0.7


def test_leaves_a_log_and_checkpoints(tmp_path: Path) -> None:
    result = _train(small_plan(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "last", "log.csv", "log.jsonl"]
    rows = _log(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["3", "6"]
    assert set(rows[0]) == {"epoch", "step", "seconds", "learning_rate", "loss", "dice", "dice_ball", "data_wait"}
    assert all(0 <= float(row["data_wait"]) <= 1 for row in rows)
    last = load_checkpoint(tmp_path / "last")
    assert all(torch.equal(last.average[k], v) for k, v in result.weights.items())


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first, again = (_train(small_plan(), tmp_path / name) for name in ("a", "b"))
    other = _train(small_plan(seed=1), tmp_path / "c")
    assert _equal(first, again)
    assert not _equal(first, other)


def test_random_state_of_torch_is_left_as_it_was(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    _train(small_plan(), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("optimizer", [AdamW(), Sgd()])
@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_a_run_stopped_and_resumed_equals_one_never_stopped(
    tmp_path: Path, optimizer: AdamW | Sgd, error: type[BaseException]
) -> None:
    plan = small_plan(epochs=3, optimizer=optimizer, augment=AugmentPlan())
    whole = _train(plan, tmp_path / "whole")
    with pytest.raises(Cancelled, match=r"holds epoch 1: go on with --resume"):
        _train(plan, tmp_path / "parts", progress=StopAt(5, error))
    resumed = _train(plan, tmp_path / "parts", resume=True)
    assert _equal(whole, resumed)
    columns = ("epoch", "step", "learning_rate", "loss", "dice")
    a, b = ([[row[c] for c in columns] for row in _log(tmp_path / name)] for name in ("whole", "parts"))
    assert a == b


def test_stopped_in_the_first_epoch_it_can_still_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(Cancelled, match="holds epoch 0"):
        _train(small_plan(), tmp_path / "parts", progress=StopAt(2))
    assert _equal(_train(small_plan(), tmp_path / "parts", resume=True), _train(small_plan(), tmp_path / "whole"))


def test_resume_drops_rows_later_than_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        _train(small_plan(), tmp_path, progress=StopAt(4))
    with (tmp_path / "log.csv").open("a") as file:
        file.write("2,6,9.9,1e-3,0.1,0.9,0.9\n")
    _train(small_plan(), tmp_path, resume=True)
    assert [row["epoch"] for row in _log(tmp_path)] == ["1", "2"]
    assert _log(tmp_path)[1]["seconds"] != "9.9"


def test_resumed_again_with_more_epochs(tmp_path: Path) -> None:
    _train(small_plan(epochs=1), tmp_path)
    assert len(_train(small_plan(epochs=2), tmp_path, resume=True).history) == 2
    assert len(_train(small_plan(epochs=4), tmp_path, resume=True).history) == 4
    assert [row["step"] for row in _log(tmp_path)] == ["3", "6", "9", "12"]


def test_a_finished_run_resumed_ends_at_once_with_its_weights(tmp_path: Path) -> None:
    first = _train(small_plan(), tmp_path)
    again = _train(small_plan(), tmp_path, resume=True)
    assert _equal(first, again)
    assert again.steps == first.steps


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint to resume"):
        _train(small_plan(), tmp_path / "empty", resume=True)


def test_resuming_another_network_is_refused(tmp_path: Path) -> None:
    _train(small_plan(), tmp_path)
    with pytest.raises(InputError, match="another network"):
        _train(small_plan(network={"features": (4, 16)}), tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_the_run_in_words_and_keeps_last(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"became nan in epoch 2, step 5.*last holds epoch 1"):
        _train(small_plan(), tmp_path, poison_after=8, validation=False)
    last = load_checkpoint(tmp_path / "last")
    assert last.state["steps"] == 3
    assert all(torch.isfinite(v).all() for v in last.weights.values())


def test_a_budget_ends_the_run_and_falls_to_the_end_of_the_schedule(tmp_path: Path) -> None:
    plan = small_plan(epochs=10**6, steps_per_epoch=5)
    result = _train(plan, tmp_path, budget_s=1.5)
    assert 0 < result.steps < 10**6
    assert result.history[-1].learning_rate < 0.2 * plan.train.optimizer.learning_rate


def test_a_budget_spent_before_training_leaves_the_first_weights(tmp_path: Path) -> None:
    result = _train(small_plan(), tmp_path, budget_s=1.0, started=-1e9)
    assert result.steps <= 1


def test_initial_weights_are_begun_with_and_must_fit(tmp_path: Path) -> None:
    first = _train(small_plan(), tmp_path / "a")
    tiny = small_plan(epochs=1, steps_per_epoch=1, optimizer=AdamW(learning_rate=1e-12, weight_decay=0.0))
    second = _train(tiny, tmp_path / "b", initial=first.weights)
    assert all(torch.allclose(first.weights[k], second.weights[k], atol=1e-6) for k in first.weights)
    with pytest.raises(InputError, match="do not fit the network"):
        _train(small_plan(network={"features": (8, 8)}), tmp_path / "c", initial=first.weights)


def test_progress_counts_the_steps_and_tells_loss_and_dice(tmp_path: Path) -> None:
    steps: list[Step] = []
    _train(small_plan(), tmp_path, progress=steps.append)
    assert [step.done for step in steps] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert [step.milestone for step in steps] == [
        False,
        False,
        False,
        True,
    ] * 2  # a line an epoch, where there is no bar
    assert {(step.stage, step.total) for step in steps} == {("train", 6)}
    assert steps[-1].message.startswith("epoch 2, ")
    for word in (" it/s, ", "loss ", "Dice "):
        assert word in steps[-1].message
