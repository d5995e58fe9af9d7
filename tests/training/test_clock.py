from __future__ import annotations

import pytest

from medseg.training.clock import Clock


class Time:
    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def test_without_a_budget_progress_is_of_steps() -> None:
    time = Time()
    clock = Clock(200, None, 0.0, now=time)
    time.at = 1e6
    assert [clock.progress(n) for n in (0, 50, 200, 300)] == [0.0, 0.25, 1.0, 1.0]
    assert clock.left_s is None


def test_a_budget_ends_with_the_time_left_after_preparation_and_before_what_follows() -> None:
    time = Time(100.0)
    clock = Clock(10**9, 480.0, 40.0, now=time, reserve_s=60.0)  # 60 s spent, 360 left to train in
    assert clock.progress(0) == 0.0
    time.at = 100.0 + 180.0
    assert clock.progress(5) == pytest.approx(0.5)
    time.at = 100.0 + 360.0
    assert clock.progress(9) == 1.0
    assert clock.spent_s == 420.0


def test_whichever_ends_first() -> None:
    clock = Clock(10, 1000.0, 0.0, now=Time())
    assert clock.progress(10) == 1.0


def test_progress_never_falls_when_more_time_turns_out_to_be_left() -> None:
    time = Time()
    clock = Clock(10**9, 100.0, 0.0, now=time, reserve_s=50.0)
    time.at = 40.0
    before = clock.progress(1)
    clock.reserve_s = 0.0
    assert clock.progress(2) == before == pytest.approx(0.8)


def test_a_budget_too_small_for_training_is_over_at_once() -> None:
    assert Clock(10, 5.0, 0.0, now=Time(6.0)).progress(0) == 1.0


def test_tries_add_up_and_a_budget_keeps_its_place() -> None:
    time = Time()
    first = Clock(10**9, 100.0, 0.0, now=time)
    time.at = 60.0
    assert first.progress(6) == pytest.approx(0.6)
    state = first.state_dict()
    time.at = 1000.0
    second = Clock(10**9, 100.0, 1000.0, now=time)
    second.load_state_dict(state)
    assert second.spent_s == 60.0
    assert second.progress(6) == pytest.approx(0.6)
    time.at = 1020.0
    assert second.progress(8) == pytest.approx(0.8)
    assert second.left_s == 20.0


def test_a_run_by_epochs_resumed_with_more_of_them_goes_back_in_its_schedule() -> None:
    first = Clock(10, None, 0.0, now=Time())
    assert first.progress(10) == 1.0
    second = Clock(20, None, 0.0, now=Time())
    second.load_state_dict(first.state_dict())
    assert second.progress(10) == 0.5
